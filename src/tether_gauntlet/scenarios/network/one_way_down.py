"""What is sent to the client is lost, what it sends arrives.

Behind a middlebox nobody sees the other end's kernel: that the path is lost is all that may be told.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import ANY, Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import DARK, QUICK, client_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "client", way="to")
    session.type("echo anybody there")
    stage.wait(25)
    broken.undo()


SCENARIO = Scenario(
    name="one-way-loss-down",
    summary="packets to the client vanish for 25 s; a tunnel waits 8",
    run=run,
    truths=(
        session("network_error", "network", False, "network.client_download_lost"),
        client_link("network_error", "network", False, "network.client_download_lost"),
    ),
    limit_s=60,
    tricky=True,
    behind={
        ANY: (
            session("network_error", "network", False, "network.client_download_lost", *DARK),
            client_link("network_error", "network", False, "network.client_download_lost", *DARK),
        )
    },
)
