"""The control plane gets a thousandth of a core: it is there, and does not answer."""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stage.start(server=QUICK, server_cgroup=True)
    session = stage.shell()
    busy = [stage.spin(stage.server_group, "server") for _ in range(4)]
    stage.fault()
    with faults.starve(stage.lab, stage.server_group, share=0.001, period_us=1_000_000):
        stage.wait(40)
    for program in busy:
        program.kill()
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="server-starved",
    summary="the server's CPU quota is 0.1 % for 40 s, and its neighbours are busy",
    run=run,
    truths=(
        agent_link("control_plane_lost", "server", False, "server.overloaded"),
        client_link("control_plane_lost", "server", False, "server.overloaded"),
    ),
    limit_s=90,
    tricky=True,
    needs=frozenset({"cgroup-v1-cpu"}),
)
