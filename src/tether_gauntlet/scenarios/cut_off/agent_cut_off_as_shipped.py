"""The agent's network is cut for 100 s behind nginx as it is shipped, with our defaults; nobody types.

Truth: the network between the agent and the proxy failed. The proxy's kernel acknowledged what was sent
to the agent, and nginx closed after a minute of silence: neither says anything about the agent.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, agent_link


def run(stage: Stage) -> None:
    stage.start()
    session = stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        stage.wait(100)
    session.echoes("still-here", 60)


SCENARIO = Scenario(
    name="agent-cut-off-as-shipped",
    summary="the agent's network is cut for 100 s, all at its defaults",
    run=run,
    truths=(agent_link("network_error", "network", False, *AGENT_DARK),),
    limit_s=140,
    middleboxes=(NGINX,),
    tricky=True,
)
