"""The load balancer stands still for 20 s, and its kernel goes on to acknowledge.

Truth: agent, client and server all run, and each gives up on time; what they have in common is what lies
between them. So the network failed, and no party is to be blamed. A tunnel waits longer than that.
"""

from tether_gauntlet.lab.middlebox.kinds import STANDARD
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, DARK, QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with stage.box.freeze():
        stage.wait(20)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="front-frozen",
    summary="the middlebox is stopped for 20 s",
    run=run,
    truths=(
        agent_link("network_error", "network", False, *AGENT_DARK),
        client_link("network_error", "network", False, *DARK),
    ),
    limit_s=50,
    middleboxes=STANDARD,
    tricky=True,
)
