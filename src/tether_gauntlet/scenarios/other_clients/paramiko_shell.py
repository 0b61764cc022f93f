"""paramiko closes its client with a shell open.

Truth: its user's program closed on purpose. Nothing crashed.
"""

from tether_gauntlet.other_clients import paramiko
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    stage.fault()
    client = paramiko(stage, "shell = client.invoke_shell(); time.sleep(1)")
    assert client.exit_code(60) == 0, client.tail()


SCENARIO = Scenario(
    name="paramiko-shell",
    summary="paramiko closes its client with a shell open",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    tricky=True,
    one_middlebox="what ssh says passes through every middlebox alike",
)
