"""The schedule stops a workspace whose agent is cut off, and its platform stops the machine then.

The workspace is started again after 20 s, and its agent hands in what it could not say.

Truth: the schedule ended the session and the link, before anybody had given up. That the agent was told
to stop by a signal, and says so late, is what such a stop looks like from there: nothing new.
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
        stack.admin("workspace", "stop", "dev", "--reason", "autostop")
        stage.agent.send_signal(signal.SIGTERM)
        stage.agent.exit_code(30)
        stage.wait(22)
    stack.admin("workspace", "start", "dev")
    stack.start_agent()


SCENARIO = Scenario(
    name="autostop-then-late-goodbye",
    summary="a schedule stops a workspace that is cut off, its agent gets SIGTERM, and both return",
    run=run,
    truths=(
        session("workspace_stopped", "server", True, "workspace.autostop"),
        agent_link("workspace_stopped", "server", True, "workspace.autostop"),
        CLIENT_LEFT,
    ),
    limit_s=60,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
