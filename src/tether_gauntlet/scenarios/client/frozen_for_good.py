"""A client that is stopped and forgotten: nobody will ever hear from it why."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    group = stage.lab.cgroup("client")
    stage.shell(cgroup=group)
    stage.fault()
    faults.freeze(stage.lab, group)


SCENARIO = Scenario(
    name="client-frozen-for-good",
    summary="ssh and its ProxyCommand are frozen and stay so",
    run=run,
    truths=(
        client_link("peer_unresponsive", "client", False, "client.unresponsive", "client.frozen"),
    ),
    limit_s=30,
    one_middlebox="a process ends alike behind every middlebox",
)
