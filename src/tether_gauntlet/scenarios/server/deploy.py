"""A deploy under a live session: control links end as announced, the session does not."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    stack.server.stop()
    stack.start_server()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-deploy",
    summary="the server is restarted in order (SIGTERM)",
    run=run,
    truths=(
        client_link("server_shutdown", "server", True, "server.shutdown"),
        agent_link("server_shutdown", "server", True, "server.shutdown"),
    ),
    limit_s=30,
)
