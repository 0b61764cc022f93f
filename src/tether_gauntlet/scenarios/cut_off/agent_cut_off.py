"""The agent's network is cut for 60 s, behind a proxy that ends what is silent for 20.

Truth: the network between the agent and the proxy failed. That the proxy's kernel acknowledged what was
sent to the agent, and closed at last, says nothing about the agent. The tunnel waits longer than that.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.misbehaving import impatient
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=("--ping-every", "5", "--patience", "15"))
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        session.type("echo anybody there")
        stage.wait(60)
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="agent-cut-off-60s",
    summary="the agent's network is cut for 60 s; the middlebox ends what is silent for 20",
    run=run,
    truths=(agent_link("network_error", "network", False, *AGENT_DARK),),
    limit_s=95,
    middleboxes=impatient(20)[:3],
    tricky=True,
)
