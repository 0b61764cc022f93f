"""The server is killed, and 2 s later the agent; the server comes back before the agent.

Truth: the links ended with the server. The session, which goes directly, lived on for those 2 s and
ended with the agent. In which order the two come back and tell changes nothing.
"""

import signal

from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link, session

SERVER_DIED = ("control_plane_lost", "server", False, "server.crashed", "server.vanished")


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    kill_server(stack)
    stage.wait(2)
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stage.wait(4)
    stack.start_server()
    stack.start_agent()


SCENARIO = Scenario(
    name="server-then-agent-killed-server-first",
    summary="server and agent are killed one after the other; the server comes back before the agent",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        agent_link(*SERVER_DIED),
        client_link(*SERVER_DIED),
    ),
    limit_s=60,
    tricky=True,
    plain_only="the session has to go directly to the agent",
)
