"""ssh asks for a subsystem that the workspace does not have: ssh says so and gives up.

Truth: the client left by itself, for want of what it had come for. That is ordinary, and no crash.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.fault()
    done = stage.lab["client"].run(*stack.ssh_argv("-s", "dev.tether", "nosuch"))
    assert done.returncode == 255, done


SCENARIO = Scenario(
    name="subsystem-unknown",
    summary="ssh asks for a subsystem that there is not",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    tricky=True,
    one_middlebox="what ssh says passes through every middlebox alike",
)
