"""A user's build runs out of memory; the agent and the session live on."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK

EAT = "python3 -c 'x = bytearray(10**9)'; echo exit $?"


def run(stage: Stage) -> None:
    stage.start(server=QUICK, cgroup=True)
    session = stage.shell()
    stage.group.limit_memory(300 << 20)
    stage.fault()
    session.type(EAT)
    session.ssh.wait_output(b"exit 137", 30)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="build-oom-killed",
    summary="a user's process is killed for want of memory in the agent's own cgroup",
    run=run,
    truths=(),
    limit_s=20,
    tricky=True,
    needs=frozenset({"cgroup-v1-memory"}),
    plain_only="nothing of ours dies",
)
