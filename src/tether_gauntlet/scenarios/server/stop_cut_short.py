"""A deploy whose grace period is too short: the server is killed while it waits for an agent."""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.stack import kill_server
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    with faults.stop_process(stage.lab, stage.agent):
        stack.server.send_signal(signal.SIGTERM)
        stage.wait(1)
        kill_server(stack)
        stack.start_server()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-stop-cut-short",
    summary="the server gets SIGTERM, and SIGKILL a second later while it waits for a stopped agent",
    run=run,
    truths=(
        client_link("server_shutdown", "server", True, "server.shutdown"),
        agent_link("server_shutdown", "server", True, "server.shutdown"),
    ),
    limit_s=40,
    tricky=True,
)
