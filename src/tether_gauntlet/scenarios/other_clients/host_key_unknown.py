"""ssh does not know the host key of the agent, and leaves before it has said who it is.

Truth: the client refused the connection itself, before anybody had logged in. Its user cannot get in
and has to do something: it is not to be told as a user who disconnected and has nothing to do.
"""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import C2S, session


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.fault()
    asked = ("-o", "UserKnownHostsFile=/dev/null", "dev.tether", "true")
    done = stage.lab["client"].run(*stack.ssh_argv(*asked))
    assert done.returncode == 255, done


SCENARIO = Scenario(
    name="host-key-unknown",
    summary="ssh does not know the agent's host key",
    run=run,
    truths=(session("client_closed", "client", False, "client.host_key_refused"),),
    limit_s=20,
    tricky=True,
    tolerates=frozenset({C2S}),
    one_middlebox="what ssh says passes through every middlebox alike",
)
