"""A laptop sleeps for 30 s; meanwhile the server is killed and comes back.

Truth: the agent's link died with the server. The client's link did, too: it was open at both ends when
the server was killed, 2 s into the sleep. The session goes directly to the agent and waits.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link

SERVER_DIED = ("control_plane_lost", "server", False, "server.crashed", "server.vanished")


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    clock = stage.clock("client")
    session = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(clock)})
    stage.fault()
    asleep = faults.blackhole(stage.lab, "client")
    session.signal(signal.SIGSTOP)
    stage.wait(2)
    kill_server(stack)
    stack.start_server()
    stage.wait(30)
    clock.write_text("30 0")
    asleep.undo()
    session.signal(signal.SIGCONT)
    session.echoes("good-morning", 40)


SCENARIO = Scenario(
    name="client-asleep-server-killed",
    summary="the server is killed and started again while the laptop sleeps for 30 s",
    run=run,
    truths=(agent_link(*SERVER_DIED), client_link(*SERVER_DIED)),
    limit_s=60,
    tricky=True,
    plain_only="the session has to go directly to the agent",
)
