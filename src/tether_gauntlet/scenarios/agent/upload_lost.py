"""What the workspace's agent sends is lost, what is sent to it arrives.

Behind a middlebox nobody sees the other end's kernel: that the path is lost is all that may be told.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import ANY, Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import AGENT_DARK, CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stage.start(server=(*QUICK, "--resume-s", "8"))
    session = stage.shell()
    stage.fault()
    broken = faults.blackhole(stage.lab, "agent1", way="from")
    session.type("echo anybody there")
    stage.wait(25)
    broken.undo()


SCENARIO = Scenario(
    name="agent-upload-lost",
    summary="packets from the agent vanish for 25 s; a tunnel waits 8",
    run=run,
    truths=(
        session("network_error", "network", False, "network.agent_upload_lost"),
        agent_link("network_error", "network", False, "network.agent_upload_lost"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
    behind={
        ANY: (
            session("network_error", "network", False, "network.agent_upload_lost", *AGENT_DARK),
            agent_link("network_error", "network", False, "network.agent_upload_lost", *AGENT_DARK),
            CLIENT_LEFT,
        )
    },
)
