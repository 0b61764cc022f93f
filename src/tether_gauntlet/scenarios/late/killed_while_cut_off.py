"""An agent is killed while its network is cut, and started again when the network is back.

Truth: it was killed, 2 s into the cut and before anybody had given up. Nobody could see that until its
next run told.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        stage.wait(2)
        stage.agent.send_signal(signal.SIGKILL)
        stage.agent.exit_code()
        stage.wait(20)
    stack.start_agent()


SCENARIO = Scenario(
    name="killed-while-cut-off",
    summary="the agent is killed while its network is cut, and is started again after 20 s",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
