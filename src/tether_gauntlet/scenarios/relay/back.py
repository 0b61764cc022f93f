"""The only relay is killed, and started again when the session is over: it says how it had ended."""

import signal

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    server = (*QUICK, "--no-embedded-relay", "--resume-s", "6")
    stack = stage.start(server=server, relays=("relay-a",))
    stage.shell()
    stage.fault()
    stack.relays["relay-a"].send_signal(signal.SIGKILL)
    stage.wait(20)
    stack.start_relay("relay-a")


SCENARIO = Scenario(
    name="relay-killed-and-back",
    summary="the only relay gets SIGKILL, and is started again after 20 s; a tunnel waits 6",
    run=run,
    truths=(session("process_crashed", "server", False, "relay.crashed"), CLIENT_LEFT),
    limit_s=50,
    topology=internet(agents_reachable=False),
    tricky=True,
)
