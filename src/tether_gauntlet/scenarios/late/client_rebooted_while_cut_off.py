"""A client's machine reboots in an outage; tunnels wait for a day. The user connects again after 15 s.

It comes back under another address, so that nobody answers for the old one.

Truth: the machine restarted, and nobody will ever come back to that session: its row ends when the next
client says so, and the shell in the workspace with it.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    dead = stage.shell()
    dead.ssh.write(b"sleep 2; echo li''ved\n")
    dead.ssh.wait_output(b"lived")
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        stage.wait(1)
        dead.signal(signal.SIGKILL)
        dead.ssh.exit_code()
        stage.new_boot_id("client")
        stage.wait(15)
        faults.change_address(stage.lab, "client")
    stage.shell()


SCENARIO = Scenario(
    name="client-rebooted-while-cut-off",
    summary="the client's machine reboots while its network is cut for 15 s",
    run=run,
    truths=(
        session("process_crashed", "client", False, "client.host_rebooted"),
        client_link("process_crashed", "client", False, "client.host_rebooted"),
    ),
    limit_s=50,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
