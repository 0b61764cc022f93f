"""The one command of a connection is killed for want of memory."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK, cgroup=True)
    session = stage.shell()
    stage.group.limit_memory(300 << 20)
    stage.fault()
    session.type("exec python3 -c 'x = bytearray(10**9)'")


SCENARIO = Scenario(
    name="session-oom-killed",
    summary="the remote command is killed for want of memory",
    run=run,
    truths=(
        session("graceful", "client", True, "session.oom_killed", exit_signal="KILL"),
        CLIENT_LEFT,
    ),
    limit_s=30,
    needs=frozenset({"cgroup-v1-memory"}),
    one_middlebox="what ssh says passes through every middlebox alike",
)
