"""ssh offers only a cipher that the agent does not have.

Truth: the two have no algorithm in common, so that ssh gave up, for the same cause each time: it is no
user who disconnected. Somebody has to change a setting.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, session


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.fault()
    asked = ("-o", "Ciphers=3des-cbc", "dev.tether", "true")
    done = stage.lab["client"].run(*stack.ssh_argv(*asked))
    assert done.returncode == 255, done


SCENARIO = Scenario(
    name="no-common-algorithm",
    summary="ssh offers only a cipher that the agent has not",
    run=run,
    truths=(session("protocol_error", "client", False, "client.no_common_algorithm"),),
    limit_s=20,
    tricky=True,
    tolerates=frozenset({C2S}),
    one_middlebox="what ssh says passes through every middlebox alike",
)
