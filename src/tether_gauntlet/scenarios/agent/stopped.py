"""The container is stopped: SIGTERM to the agent."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    stage.agent.stop()


SCENARIO = Scenario(
    name="agent-stopped",
    summary="the agent gets SIGTERM",
    run=run,
    truths=(
        session("server_shutdown", "agent", True, "agent.shutdown"),
        agent_link("server_shutdown", "agent", True, "agent.shutdown"),
        CLIENT_LEFT,
    ),
    limit_s=30,
    one_middlebox="a process ends alike behind every middlebox",
)
