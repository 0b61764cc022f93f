"""The server is down for 6 s; a user comes one second after it is back, before the agent has.

Truth: nobody was disconnected by that but the control links, with the server's crash. The user's new
session works: the server knows that it has just started, and waits for whoever had been connected.
"""

from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.sessions import SessionLost
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link, session

SERVER_DIED = ("control_plane_lost", "server", False, "server.crashed", "server.vanished")


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    before = stage.shell()
    stage.fault()
    kill_server(stack)
    stage.wait(6)
    stack.start_server()
    done = stack.ssh("echo", "here", check=False)
    if done.stdout != "here\n":
        raise SessionLost(f"a new session could not be had: {done.stderr.strip()}")
    before.echoes("still-here", 20)


SCENARIO = Scenario(
    name="user-comes-after-a-restart",
    summary="the server is killed and back after 6 s, and a user comes at once",
    run=run,
    truths=(
        agent_link(*SERVER_DIED),
        client_link(*SERVER_DIED),
        session("graceful", "client", True, "session.exit", exit_code=0),
    ),
    limit_s=40,
    one_middlebox="a process ends alike behind every middlebox",
)
