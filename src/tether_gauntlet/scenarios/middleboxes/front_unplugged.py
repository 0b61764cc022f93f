"""The load balancer's cable is cut for 20 s: nobody answers, not even its kernel.

Truth: as where it stands still; both ends of each link hear nothing more. The network failed.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import STANDARD
from tether_gauntlet.lab.middlebox.middlebox import FRONT
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, DARK, QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, FRONT):
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-unplugged",
    summary="the middlebox has no network for 20 s",
    run=run,
    truths=(
        agent_link("network_error", "network", False, *AGENT_DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=50,
    middleboxes=STANDARD,
    tricky=True,
)
