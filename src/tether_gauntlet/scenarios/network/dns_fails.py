"""A deploy while the client cannot resolve names: the deploy is the cause, not the name server."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.no_dns(stage.lab, "client"):
        stack.server.stop()
        stack.start_server()
        stage.wait(10)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="dns-fails-on-redial",
    summary="a deploy, and the client cannot resolve names for 10 s after it",
    run=run,
    truths=(
        client_link("server_shutdown", "server", True, "server.shutdown"),
        agent_link("server_shutdown", "server", True, "server.shutdown"),
    ),
    limit_s=40,
)
