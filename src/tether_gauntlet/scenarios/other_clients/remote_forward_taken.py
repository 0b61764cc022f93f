"""`ssh -R` asks for a port that somebody has, and is told to leave then.

Truth: the client left by itself, as its user had told it to. That is ordinary, and no crash.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stack = stage.start()
    taken = stage.lab["agent1"].listen(2222)
    stage.fault()
    done = stage.lab["client"].run(
        *stack.ssh_argv(
            "-o", "ExitOnForwardFailure=yes", "-R", "2222:localhost:22", "dev.tether", "sleep", "60"
        )
    )
    taken.close()
    assert done.returncode == 255, done


SCENARIO = Scenario(
    name="remote-forward-taken",
    summary="ssh -R asks for a port that is taken, with ExitOnForwardFailure",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    tricky=True,
    one_middlebox="what ssh says passes through every middlebox alike",
)
