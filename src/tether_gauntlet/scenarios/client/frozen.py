"""A paused container: the client stands still for longer than its control link is waited for."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    group = stage.lab.cgroup("client")
    session = stage.shell(cgroup=group)
    stage.fault()
    with faults.freeze(stage.lab, group):
        stage.wait(25)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="client-frozen",
    summary="ssh and its ProxyCommand are frozen for 25 s",
    run=run,
    truths=(client_link("peer_unresponsive", "client", False, "client.frozen"),),
    limit_s=60,
    tricky=True,
)
