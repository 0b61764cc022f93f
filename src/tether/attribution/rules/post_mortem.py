"""What the next run of a program found out about its last.

Law: rows only; see `rules`. A post-mortem tells of an end that its program could not tell itself; which
connections it explains is for whoever hands it in to say.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Test, both, either, has, saw
from tether.attribution.predicates import CONTROL, SESSION
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Confidence, OomVictim, Party

SIGKILL = 9
DELIBERATE = (1, 2, 3, 9, 15)
"""Signals that somebody sends; the others are what a crash raises."""

UPGRADE_S = 60.0
"""What is started later than this takes no running program's place: it may be a repair."""


def _replaced(fact: ev.PreviousRunDied) -> bool:
    if not (fact.party is Party.AGENT and fact.upgraded and fact.signal in DELIBERATE):
        return False
    return fact.last_alive_at is not None and fact.at - fact.last_alive_at <= UPGRADE_S


def _killed_for_memory(fact: ev.PreviousRunDied) -> bool:
    if fact.oom_named:
        return True
    return (fact.oom_kills or 0) > 0 and fact.signal in (0, SIGKILL) and not fact.sender


def died(party: Party) -> Test:
    """The party's next run found no clean stop."""
    return saw(ev.PreviousRunDied, party=party)


def out_of_memory(party: Party) -> Test:
    """The party's last run was killed by the kernel for want of memory."""
    return either(
        has(
            ev.PreviousRunDied,
            f"party={party}, oom_named or oom_kills>0 and SIGKILL from nobody",
            lambda fact: fact.party is party and _killed_for_memory(fact),
        ),
        both(died(party), saw(ev.OomKills, party=party, victim=OomVictim.SELF)),
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "agent-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.AGENT, host_rebooted=True),
        "agent.host_rebooted",
        Basis.OBSERVED,
        "The agent's next run found another boot id and no clean stop.",
    ),
    Rule(
        "agent-container-replaced",
        saw(ev.PreviousRunDied, party=Party.AGENT, container_changed=True),
        "agent.container_replaced",
        Basis.OBSERVED,
        "The agent's next run found itself in another container, and no clean stop.",
    ),
    Rule(
        "agent-oom-killed",
        out_of_memory(Party.AGENT),
        "agent.oom_killed",
        Basis.INFERRED,
        "The agent was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "agent-upgraded",
        has(
            ev.PreviousRunDied,
            f"party=agent, upgraded, killed, last alive at most {UPGRADE_S:.0f} s before",
            _replaced,
        ),
        "agent.upgraded",
        Basis.INFERRED,
        "The agent was killed, and another version of it was started at once in its place.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-killed",
        saw(ev.PreviousRunDied, party=Party.AGENT, signal=DELIBERATE),
        "agent.killed",
        Basis.OBSERVED,
        "The agent's parent saw it end by a signal that somebody sends, and no memory ran out.",
    ),
    Rule(
        "agent-post-mortem",
        died(Party.AGENT),
        "agent.crashed",
        Basis.OBSERVED,
        "The agent's next run, on the same boot, found no clean stop.",
    ),
    Rule(
        "server-host-rebooted",
        both(CONTROL, saw(ev.PreviousRunDied, party=Party.SERVER, host_rebooted=True)),
        "server.host_rebooted",
        Basis.OBSERVED,
        "The server's next run found that its machine had started anew, and no clean stop.",
    ),
    Rule(
        "server-oom-killed",
        both(CONTROL, out_of_memory(Party.SERVER)),
        "server.oom_killed",
        Basis.INFERRED,
        "The server was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "server-stop-cut-short",
        both(
            CONTROL,
            saw(ev.PreviousRunDied, party=Party.SERVER, signal=(0, SIGKILL)),
            saw(ev.SignalReceived, party=Party.SERVER),
        ),
        "server.shutdown",
        Basis.OBSERVED,
        "The server had been told to stop, and was killed before it had left everybody.",
    ),
    Rule(
        "server-post-mortem",
        both(CONTROL, died(Party.SERVER)),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop.",
    ),
    Rule(
        "relay-post-mortem",
        both(SESSION, died(Party.RELAY)),
        "relay.crashed",
        Basis.OBSERVED,
        "The relay's next run found no clean stop.",
    ),
    Rule(
        "client-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.CLIENT, host_rebooted=True),
        "client.host_rebooted",
        Basis.OBSERVED,
        "The client's next run found another boot id and no clean stop.",
    ),
    Rule(
        "client-oom-killed",
        out_of_memory(Party.CLIENT),
        "client.oom_killed",
        Basis.INFERRED,
        "The client was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "client-post-mortem",
        died(Party.CLIENT),
        "client.vanished",
        Basis.OBSERVED,
        "The client's next run found no clean stop.",
    ),
)
