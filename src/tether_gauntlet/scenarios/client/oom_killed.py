"""The kernel kills the client for want of memory; the user's next connection tells of it."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    group = stage.lab.cgroup("client")
    first = stage.shell(cgroup=group)
    group.limit_memory(200 << 20)
    stage.fault()
    crowd = stage.crowd_out(group, first.ssh, "client")
    first.ssh.exit_code(30)
    crowd.kill()
    stage.shell()


SCENARIO = Scenario(
    name="client-oom-killed",
    summary="a neighbour in its control group takes the client's memory",
    run=run,
    truths=(
        session("resource_exhausted", "client", False, "client.oom_killed"),
        client_link("resource_exhausted", "client", False, "client.oom_killed"),
    ),
    limit_s=60,
    tricky=True,
    needs=frozenset({"cgroup-v1-memory"}),
    one_middlebox="a process ends alike behind every middlebox",
)
