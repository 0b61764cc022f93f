"""The agent has no file descriptor left for one more session."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    shared = stage.shared_connection()
    stage.fault()
    stage.limit_descriptors(stage.agent, spare=2)  # a session's pipes need six
    assert shared.run("true").returncode == 229
    shared.leave()


SCENARIO = Scenario(
    name="agent-descriptors-exhausted",
    summary="the agent may open two more files when a session asks for its pipes",
    run=run,
    truths=(
        session("resource_exhausted", "agent", False, "agent.descriptors_exhausted", exit_code=229),
        CLIENT_LEFT,
    ),
    limit_s=30,
    tricky=True,
    one_middlebox="a process ends alike behind every middlebox",
)
