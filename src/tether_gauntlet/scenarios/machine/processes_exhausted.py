"""The workspace may start no more processes."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK, cgroup=True)
    shared = stage.shared_connection()
    stage.fault()
    stage.group.limit_processes(stage.group.threads())
    assert shared.run("true").returncode == 229
    shared.leave()


SCENARIO = Scenario(
    name="agent-processes-exhausted",
    summary="the agent's control group is at its limit of processes when a session is asked for",
    run=run,
    truths=(
        session("resource_exhausted", "agent", False, "agent.processes_exhausted", exit_code=229),
        CLIENT_LEFT,
    ),
    limit_s=30,
    tricky=True,
    needs=frozenset({"cgroup-v1-pids"}),
    one_middlebox="a process ends alike behind every middlebox",
)
