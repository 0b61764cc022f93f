"""ssh wants to log in by password only, which the agent does not offer.

Truth: nobody was let in: the agent took nothing of what the client had. Its user has to do something.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, session


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.fault()
    asked = (
        "-o",
        "PreferredAuthentications=password",
        "-o",
        "PubkeyAuthentication=no",
        "dev.tether",
        "true",
    )
    done = stage.lab["client"].run(*stack.ssh_argv(*asked))
    assert done.returncode == 255, done


SCENARIO = Scenario(
    name="password-only",
    summary="ssh offers only a password",
    run=run,
    truths=(session("access_revoked", "agent", False, "auth.never_authenticated"),),
    limit_s=20,
    tricky=True,
    tolerates=frozenset({C2S}),
    one_middlebox="what ssh says passes through every middlebox alike",
)
