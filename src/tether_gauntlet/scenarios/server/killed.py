"""The server is killed: its sockets close as politely as in a deploy."""

from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    kill_server(stack)
    stack.start_server()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-killed",
    summary="the server gets SIGKILL and is started again",
    run=run,
    truths=(
        client_link("control_plane_lost", "server", False, "server.crashed", "server.killed"),
        agent_link("control_plane_lost", "server", False, "server.crashed", "server.killed"),
    ),
    limit_s=40,
    tricky=True,
)
