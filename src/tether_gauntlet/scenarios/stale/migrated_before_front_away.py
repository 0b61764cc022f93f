"""The workspace's machine is moved live to another host: it stands still for 6 s, and its clocks say so.

Later the load balancer is away for 3 s.

Truth: the load balancer ended the links. The machine had been back for long.
"""

import time

from tether_gauntlet.lab import faults
from tether_gauntlet.lab.middlebox.kinds import HAPROXY_TCP, NGINX
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import CALM, links_cut


def run(stage: Stage) -> None:
    clock = stage.clock("agent1")
    stage.start(server=CALM, agent_env={"TETHER_CLOCK_SHIFT_FILE": str(clock)})
    session = stage.shell()
    with faults.stop_process(stage.lab, stage.agent):
        time.sleep(6)
        clock.write_text("6 0")
    stage.calm(15, session)
    stage.fault()
    with stage.box.away():
        stage.wait(3)
    session.echoes("still-here", 40)


SCENARIO = Scenario(
    name="migrated-before-front-away",
    summary="the agent's machine is away for 6 s; 15 s after that the middlebox is away for 3 s",
    run=run,
    truths=links_cut(),
    limit_s=30,
    middleboxes=(NGINX, HAPROXY_TCP),
    tricky=True,
)
