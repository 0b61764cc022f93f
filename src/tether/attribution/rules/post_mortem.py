"""What the next run of a program found out about its last.

Law: rows only; see `rules`. A post-mortem tells of an end that its program could not tell itself; which
connections it explains is for whoever hands it in to say.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Predicate, both, either, has, saw, word
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


def _by_whom_is_told(fact: ev.PreviousRunDied) -> bool:
    """Whether a SIGKILL can be told from the kernel's own: by its sender or by the kernel's count."""
    return fact.signal != SIGKILL or fact.oom_kills is not None or bool(fact.sender)


def _from_outside(fact: ev.PreviousRunDied) -> bool:
    """Whether it may have been killed for not having stopped in time, as far as its end itself tells."""
    return fact.signal in (0, SIGKILL) and fact.exit_status is None


SERVER_CUT_SHORT = has(
    ev.PreviousRunDied,
    "party=server, ended by SIGKILL or not told how",
    lambda fact: fact.party is Party.SERVER and _from_outside(fact),
)


def died(party: Party) -> Predicate:
    """The party's next run found no clean stop."""
    return saw(ev.PreviousRunDied, party=party)


def out_of_memory(party: Party) -> Predicate:
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
        has(
            ev.PreviousRunDied,
            f"party=agent, signal={word(DELIBERATE)}; if 9, its sender or the kernel's count is told",
            lambda fact: (
                fact.party is Party.AGENT and fact.signal in DELIBERATE and _by_whom_is_told(fact)
            ),
        ),
        "agent.killed",
        Basis.OBSERVED,
        "The agent's parent saw it end by a signal that somebody sends, and no memory ran out.",
    ),
    Rule(
        "agent-sigkilled",
        has(
            ev.PreviousRunDied,
            "party=agent, signal=9, neither its sender nor the kernel's count of kills is told",
            lambda fact: fact.party is Party.AGENT and not _by_whom_is_told(fact),
        ),
        "agent.killed",
        Basis.INFERRED,
        "The agent's parent saw it end by SIGKILL; whether memory had run out is not told.",
        Confidence.MEDIUM,
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
            SERVER_CUT_SHORT,
            saw(ev.SignalReceived, party=Party.SERVER),
        ),
        "server.shutdown",
        Basis.OBSERVED,
        "The server had been told to stop, and was killed before it had left everybody.",
    ),
    Rule(
        "server-cut-short",
        both(CONTROL, SERVER_CUT_SHORT),
        "server.crashed",
        Basis.INFERRED,
        "The server's next run found no clean stop, and nobody tells that it had been told to stop.",
        Confidence.MEDIUM,
    ),
    Rule(
        "server-post-mortem",
        both(
            CONTROL,
            has(
                ev.PreviousRunDied,
                "party=server, ended by itself: another signal or an exit status",
                lambda fact: fact.party is Party.SERVER and not _from_outside(fact),
            ),
        ),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop, and how the last one had failed.",
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
