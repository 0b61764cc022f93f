"""An agent is killed, and half a second later the load balancer, which comes back after 3 s.

Truth: the agent had died before; its session and its link ended with it. The client's link was cut by
the load balancer, and by nothing else.
"""

import signal
import time

from tether_gauntlet.lab.middlebox.kinds import HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CUT, QUICK, agent_link, client_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    dead = stage.shell()
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    time.sleep(0.5)
    with stage.box.away():
        stage.wait(3.5)
    stack.start_agent()
    dead.ssh.exit_code(60)


SCENARIO = Scenario(
    name="agent-killed-front-away",
    summary="the agent is killed, then the middlebox for 3 s",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        client_link("network_error", "network", False, CUT),
    ),
    limit_s=50,
    middleboxes=(NGINX, HAPROXY_TCP),
    tricky=True,
)
