"""An agent is stopped in order while its network is cut: nobody hears its goodbye until it runs again.

Truth: it was stopped, 2 s into the cut and before anybody had given up: by its own word, late as that
comes. Its sessions ended with that.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, PATIENT, agent_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=PATIENT)
    stage.shell()
    stage.fault()
    with faults.blackhole(stage.lab, "agent1"):
        stage.wait(2)
        stage.agent.send_signal(signal.SIGTERM)
        stage.agent.exit_code(30)
        stage.wait(35)
    stack.start_agent()


SCENARIO = Scenario(
    name="goodbye-while-cut-off",
    summary="the agent gets SIGTERM while its network is cut, and is started again after 35 s",
    run=run,
    truths=(
        session("server_shutdown", "agent", True, "agent.shutdown"),
        agent_link("server_shutdown", "agent", True, "agent.shutdown"),
        CLIENT_LEFT,
    ),
    limit_s=75,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
