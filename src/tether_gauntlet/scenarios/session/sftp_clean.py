"""A file is fetched; elsewhere such an end is `unknown`."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CLIENT_LEFT, session


def run(stage: Stage) -> None:
    stack = stage.start()
    stage.shell()
    stage.fault()
    argv = ["sftp", "-b", "-", "-F", str(stack.ssh_config()), "dev.tether"]
    stage.lab["client"].run(*argv, given="get /etc/hostname /dev/null\nquit\n", check=True)


SCENARIO = Scenario(
    name="sftp-clean",
    summary="sftp fetches a file and quits",
    run=run,
    truths=(
        session("graceful", "client", True, "session.exit", type="sftp"),
        CLIENT_LEFT,
    ),
    limit_s=15,
    one_middlebox="what ssh says passes through every middlebox alike",
)
