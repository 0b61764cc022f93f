"""paramiko opens an sftp session, lists a directory, and closes the client: duplicity and pyinfra do so.

Truth: its user's program closed, in the way of that library: it closes the socket without a word of SSH.
Nothing crashed, and nobody has to look into it.
"""

from tether_gauntlet.other_clients import paramiko
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    stage.fault()
    client = paramiko(stage, "sftp = client.open_sftp(); print(sftp.listdir('/'))")
    assert client.exit_code(60) == 0, client.tail()


SCENARIO = Scenario(
    name="paramiko-sftp",
    summary="paramiko lists a directory by sftp and closes its client",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    tricky=True,
    one_middlebox="what ssh says passes through every middlebox alike",
)
