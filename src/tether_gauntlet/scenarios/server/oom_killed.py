"""The kernel kills the control plane for want of memory; its sockets close as in a deploy."""

from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import QUICK, agent_link, client_link


def run(stage: Stage) -> None:
    stack = stage.start(server=QUICK, server_cgroup=True)
    session = stage.shell()
    stage.server_group.limit_memory(400 << 20)
    stage.fault()
    crowd = stage.crowd_out(stage.server_group, stack.server, "server")
    stack.server.exit_code(30)
    crowd.kill()
    stack.start_server()
    session.echoes("still-here", 30)


SCENARIO = Scenario(
    name="server-oom-killed",
    summary="a neighbour in its control group takes the server's memory",
    run=run,
    truths=(
        client_link("control_plane_lost", "server", False, "server.oom_killed"),
        agent_link("control_plane_lost", "server", False, "server.oom_killed"),
    ),
    limit_s=60,
    tricky=True,
    needs=frozenset({"cgroup-v1-memory"}),
    one_middlebox="a process ends alike behind every middlebox",
)
