"""A program that does not speak the protocol has a good token."""

import sys

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link

RAVE = """
import os
from websockets.sync.client import connect

headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
with connect(os.environ["URL"], additional_headers=headers) as link:
    link.send(os.urandom(64))
    try:
        while True:
            link.recv(5)
    except Exception:
        pass
"""


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    stage.shell()
    stage.fault()
    env = {"URL": stack.url.replace("http", "ws") + "/api/v1/control", "TOKEN": stack.admin_token}
    stage.lab["client"].run(sys.executable, "-c", RAVE, env=env, check=True)


SCENARIO = Scenario(
    name="garbage-on-control-link",
    summary="garbage on a client's control link",
    run=run,
    truths=(client_link("protocol_error", "client", False, "client.protocol_error"),),
    limit_s=20,
    one_middlebox="a process ends alike behind every middlebox",
)
