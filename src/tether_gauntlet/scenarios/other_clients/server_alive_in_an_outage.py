"""ssh gives up by its own ServerAlive 6 s into an outage, which lasts 30 s; a tunnel would wait a day.

Truth: the network was cut, and ssh left because of that: it says so itself. Nobody killed it.
"""

from tether_gauntlet.lab import faults
from tether_gauntlet.scenario import Scenario
from tether_gauntlet.stage import Stage
from tether_gauntlet.truths import DARK, LINKS, QUICK, session


def run(stage: Stage) -> None:
    stage.start(server=QUICK)
    options = ("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=2")
    lost = stage.shell(options=options)
    stage.fault()
    with faults.blackhole(stage.lab, "client"):
        lost.ssh.exit_code(30)
        stage.wait(30)


SCENARIO = Scenario(
    name="server-alive-in-an-outage",
    summary="ssh gives up by ServerAliveInterval, in an outage of 30 s",
    run=run,
    truths=(session("network_error", "network", False, *DARK),),
    limit_s=55,
    tricky=True,
    tolerates=LINKS,
)
