"""A router says that there is no way to anywhere."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.unreachable(stage.lab, "client")
    session.type("echo anybody there")
    stage.wait(25)
    broken.undo()


SCENARIO = Scenario(
    name="icmp-unreachable",
    summary="ICMP host unreachable for 25 s; a tunnel waits 8",
    run=run,
    truths=(
        session(
            "network_error",
            "network",
            False,
            "network.path_lost",
            "client.unreachable",
            "network.unreachable",
            "network.client_upload_lost",  # the router refuses what comes from the client only
        ),
        client_link(
            "network_error",
            "network",
            False,
            "network.path_lost",
            "client.unreachable",
            "network.unreachable",
            "network.client_upload_lost",  # the router refuses what comes from the client only
        ),
    ),
    limit_s=60,
    needs=frozenset({"nft-reject"}),
)
