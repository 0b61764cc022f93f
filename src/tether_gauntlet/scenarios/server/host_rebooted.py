"""The control plane's machine reboots."""

from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    kill_server(stack)
    stage.new_boot_id("server")
    stack.start_server()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-host-rebooted",
    summary="the server dies, and comes back under another boot id",
    run=run,
    truths=(
        client_link("control_plane_lost", "server", False, "server.host_rebooted"),
        agent_link("control_plane_lost", "server", False, "server.host_rebooted"),
    ),
    limit_s=40,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
