"""PuTTY's plink is ended by SIGTERM, as from whatever had started it, with a command running.

Truth: it was asked to stop, as one stops such a program. It closes its socket without a word; nothing
crashed, and nobody has to look into it.
"""

import signal

from tether_gauntlet.other_clients import plink
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stage.start()
    client = plink(stage, "echo", "run''ning;", "cat")
    client.wait_output(b"running", 60)
    stage.fault()
    client.send_signal(signal.SIGTERM)
    client.exit_code(20)


SCENARIO = Scenario(
    name="plink-sigterm",
    summary="plink gets SIGTERM while its command runs",
    run=run,
    truths=(session("client_closed", "client", True, "client.closed"), CLIENT_LEFT),
    limit_s=20,
    tricky=True,
    needs=frozenset({"plink"}),
    one_middlebox="what ssh says passes through every middlebox alike",
)
