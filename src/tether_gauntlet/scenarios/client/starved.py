"""The client gets a thousandth of a core: late, not lost."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    group = stage.lab.cgroup("client")
    session = stage.shell(cgroup=group)
    busy = [stage.spin(group, "client") for _ in range(4)]
    stage.fault()
    with faults.starve(stage.lab, group, share=0.001, period_us=1_000_000):
        stage.wait(40)
    for program in busy:
        program.kill()
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="client-starved",
    summary="the client's CPU quota is 0.1 % for 40 s, and its neighbours are busy",
    run=run,
    truths=(client_link("peer_unresponsive", "client", False, "client.starved"),),
    limit_s=90,
    tricky=True,
    needs=frozenset({"cgroup-v1-cpu"}),
    one_middlebox="a process ends alike behind every middlebox",
)
