"""The only relay and one of two agents are killed in the same second; nobody goes directly.

Truth: the tunnel to the killed agent died with it, whatever became of the relay. The other tunnel lost
its relay, for longer than it waits: that is the relay's crash.
"""

import signal

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, agent_link, of, session


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay", "--resume-s", "8")
    stack = stage.start(server=server, relays=("relay-a",))
    stage.another()
    stage.shell()
    stage.shell(workspace="hers", host="client2")
    stage.fault()
    stage.agent.send_signal(signal.SIGKILL)
    stack.relays["relay-a"].send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stack.start_agent()


SCENARIO = Scenario(
    name="relay-and-agent-killed",
    summary="the only relay and one of two agents get SIGKILL at once; a tunnel waits 8 s",
    run=run,
    truths=(
        of(
            session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
            workspace="dev",
        ),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        of(
            session("process_crashed", "server", False, "relay.crashed", "relay.killed"),
            workspace="hers",
        ),
        of(CLIENT_LEFT, user="admin"),
        of(CLIENT_LEFT, user="alice"),
    ),
    limit_s=60,
    topology=internet(clients=2, agents=2, agents_reachable=False),
    tricky=True,
    tolerates=frozenset({"server_to_relay"}),
    one_middlebox="whose fault is whose does not depend on the kind of middlebox",
)
