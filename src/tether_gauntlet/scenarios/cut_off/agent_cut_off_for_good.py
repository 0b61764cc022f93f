"""The agent's network is cut for longer than a tunnel waits, behind a proxy that ends silent legs.

Truth: the network between the agent and the proxy failed; the agent and the client ran all the time.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.misbehaving import impatient
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "15"))
    lost = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        lost.type("echo anybody there")
        stage.wait(45)


SCENARIO = Scenario(
    name="agent-cut-off-for-good",
    summary="the agent's network is cut for 45 s; a tunnel waits 15, the middlebox 8",
    run=run,
    truths=(
        session("network_error", "network", False, *AGENT_DARK),
        agent_link("network_error", "network", False, *AGENT_DARK),
        CLIENT_LEFT,
    ),
    limit_s=75,
    middleboxes=impatient(8)[:3],
    tricky=True,
)
