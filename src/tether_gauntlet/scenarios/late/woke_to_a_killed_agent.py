"""A laptop sleeps for 40 s; meanwhile the agent is killed and started again.

Truth: the session ended with the agent's process; that the client slept then ended nothing, and when it
says so, late, that changes nothing. Its own control link fell silent because it slept.
"""

import signal

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    clock = stage.clock("client")
    sleeper = stage.shell(env={"TETHER_CLOCK_SHIFT_FILE": str(clock)})
    stage.fault()
    asleep = faults.blackhole(stage.lab, "client")
    sleeper.signal(signal.SIGSTOP)
    stage.wait(10)
    stage.agent.send_signal(signal.SIGKILL)
    stage.agent.exit_code()
    stack.start_agent()
    stage.wait(40)
    clock.write_text("40 0")
    asleep.undo()
    sleeper.signal(signal.SIGCONT)
    sleeper.ssh.exit_code(60)


SCENARIO = Scenario(
    name="woke-to-a-killed-agent",
    summary="the agent is killed and started again while the laptop sleeps for 40 s",
    run=run,
    truths=(
        session("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        agent_link("process_crashed", "agent", False, "agent.killed", "agent.crashed"),
        client_link("client_suspended", "client", True, "client.suspended"),
    ),
    limit_s=75,
    tricky=True,
    one_middlebox="what comes late is late behind every middlebox",
)
