"""The client's machine restarts after a session of two seconds; the user connects again from it.

Of a client that dies within 0.2 s nothing is on the disk: it is known to have vanished, not why."""

import signal

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    first = stage.shell()
    first.ssh.write(b"sleep 2; echo li''ved\n")
    first.ssh.wait_output(b"lived")
    stage.fault()
    first.signal(signal.SIGKILL)
    first.ssh.exit_code()
    stage.new_boot_id("client")
    stage.shell()


SCENARIO = Scenario(
    name="client-host-rebooted",
    summary="the client dies, and comes back under another boot id",
    run=run,
    truths=(
        session("process_crashed", "client", False, "client.host_rebooted"),
        client_link("process_crashed", "client", False, "client.host_rebooted"),
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
