"""Policy forbids file transfer: refused, not broken."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, QUICK, session


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK, agent=("--block-file-transfer",))
    stage.shell()
    stage.fault()
    argv = ["sftp", "-b", "-", "-F", str(stack.ssh_config()), "dev.tether"]
    stage.lab["client"].run(*argv, given="get /etc/hostname /dev/null\n")


SCENARIO = Scenario(
    name="transfer-blocked",
    summary="sftp where the policy blocks file transfer",
    run=run,
    truths=(
        session("access_revoked", "agent", True, "policy.file_transfer_blocked"),
        CLIENT_LEFT,
    ),
    limit_s=20,
    one_middlebox="a decision is told alike through every middlebox",
)
