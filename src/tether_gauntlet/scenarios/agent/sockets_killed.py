"""An administrator closes the agent's sockets (`ss -K`)."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, QUICK, agent_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    session = stage.shell()
    stage.fault()
    faults.kill_sockets(stage.lab, "agent1", peer=stage.entry)
    session.type("echo anybody there")
    stage.wait(8)
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="agent-sockets-killed",
    summary="the agent's established sockets are destroyed",
    run=run,
    truths=(agent_link("network_error", "agent", False, "agent.socket_destroyed"),),
    limit_s=40,
    needs=frozenset({"kill-socket"}),
    tolerates=frozenset({C2S}),
)
