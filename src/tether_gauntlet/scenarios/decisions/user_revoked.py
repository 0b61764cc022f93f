"""A person loses their access while they work."""

import json

from tether_gauntlet.lab.topology import internet
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, client_link, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK)
    created = json.loads(stack.admin("user", "create", "alice", "--json").stdout)
    stack.log_in("client2", token=created["token"])
    stack.create_workspace("hers", by="client2")
    stack.start_agent("hers")
    stack.configure_ssh("client2")
    session = stage.shell(workspace="hers", host="client2")
    stage.fault()
    stack.admin("user", "delete", "alice")
    session.ssh.exit_code()


SCENARIO = Scenario(
    name="user-revoked",
    summary="a user's access is withdrawn by the administrator",
    run=run,
    truths=(
        session("access_revoked", "server", True, "auth.user_revoked"),
        client_link("access_revoked", "server", True, "auth.user_revoked"),
    ),
    limit_s=30,
    topology=internet(clients=2),
    one_middlebox="a decision is told alike through every middlebox",
)
