"""What rules ask about a machine, about a process that stood still, and about one that died.

Law: as `predicate`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.predicates.predicate import Predicate, both, either, has, saw, word
from tether.attribution.vocabulary import OomVictim, Party, Resource

STALL_S = 5.0
"""A shorter gap ends no connection: every party waits longer than this before it gives up."""

THRASHING = 40.0
"""Per cent of ten seconds in which nobody in the group could go on for want of memory."""

STARVING = 80.0
"""Per cent of ten seconds in which nobody in the group could go on for want of CPU."""


# -- a machine that slept, a process that stood still -----------------------------------


def suspended(party: Party) -> Predicate:
    """The party's machine slept for long enough that a connection notices."""
    return has(
        ev.Suspended,
        f"party={party}, gap_s>={STALL_S:.0f}",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S,
    )


def _under_pressure(party: Party, resource: Resource, per_cent: float) -> Predicate:
    return has(
        ev.Pressure,
        f"party={party}, resource={resource}, full_avg10>={per_cent:.0f}",
        lambda fact: (
            fact.party is party and fact.resource is resource and fact.full_avg10 >= per_cent
        ),
    )


agent_thrashing = _under_pressure(Party.AGENT, Resource.MEMORY, THRASHING)
"""The workspace stood still for want of memory."""


def _long_gap(party: Party, words: str, holds: Callable[[ev.LoopStalled], bool]) -> Predicate:
    """The party's event loop was away for at least `STALL_S`, in a way of which `holds` is true."""
    return has(
        ev.LoopStalled,
        f"party={party}, {words}",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S and holds(fact),
    )


def _waited(gap: ev.LoopStalled) -> bool:
    return max(gap.waited_s or 0.0, gap.throttled_s or 0.0) >= gap.gap_s / 2


def _ran(gap: ev.LoopStalled) -> bool:
    return (gap.cpu_s or 0.0) >= gap.gap_s / 2


def _accounted(gap: ev.LoopStalled) -> bool:
    return gap.cpu_s is not None and gap.waited_s is not None


def starved(party: Party) -> Predicate:
    """The party's process waited for a CPU for most of a long time."""

    def check(case: Case) -> bool:
        gaps = [
            gap.gap_s for gap in case.all(ev.LoopStalled) if gap.party is party and _waited(gap)
        ]
        return bool(gaps) and _explains_silence(case, sum(gaps))

    words = (
        f"party={party}, waited for a CPU or throttled for half of {STALL_S:.0f} s or of a silence"
    )
    return either(
        Predicate(check, f"{ev.LoopStalled.kind}({words})", [ev.LoopStalled]),
        _under_pressure(party, Resource.CPU, STARVING),
    )


def _explains_silence(case: Case, gap_s: float) -> bool:
    """Whether a party that was away for so long could neither be heard nor accuse the other end: for
    `STALL_S`, or for half of the silence after which somebody gave up."""
    silences = [ended.silence_s for ended in case.all(ev.StreamEnded) if ended.silence_s]
    return gap_s >= min(STALL_S, max(silences, default=inf) / 2)


def busy(party: Party) -> Predicate:
    """The party's process used a CPU for most of a long gap: its loop was blocked."""
    return _long_gap(party, f"used a CPU for half of {STALL_S:.0f} s or more", _ran)


def frozen(party: Party) -> Predicate:
    """By its kernel's account, the party's process neither ran nor wanted to for a long gap."""
    return _long_gap(
        party,
        f"neither ran nor waited for most of {STALL_S:.0f} s or more",
        lambda gap: _accounted(gap) and not _waited(gap) and not _ran(gap),
    )


def stood_still(party: Party) -> Predicate:
    """The party's process was away for a long gap, and its kernel does not tell what it did."""
    return _long_gap(
        party,
        f"gap_s>={STALL_S:.0f}, cpu_s or waited_s not told",
        lambda gap: not _accounted(gap),
    )


# -- a process that died ----------------------------------------------------------------

SIGKILL = 9
DELIBERATE = (1, 2, 3, 9, 15)
"""Signals that somebody sends; the others are what a crash raises."""

UPGRADE_S = 60.0
"""A program that starts later than this after the last one was alive may be a repair, no upgrade."""


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


def _killed_for_memory(fact: ev.PreviousRunDied) -> bool:
    if fact.oom_named:
        return True
    return (fact.oom_kills or 0) > 0 and fact.signal in (0, SIGKILL) and not fact.sender


def _upgraded(fact: ev.PreviousRunDied) -> bool:
    if not (fact.party is Party.AGENT and fact.upgraded and fact.signal in DELIBERATE):
        return False
    return fact.last_alive_at is not None and fact.at - fact.last_alive_at <= UPGRADE_S


agent_replaced = has(
    ev.PreviousRunDied,
    f"party=agent, upgraded, killed, last alive at most {UPGRADE_S:.0f} s before",
    _upgraded,
)


def _killer_is_told(fact: ev.PreviousRunDied) -> bool:
    """Whether somebody's SIGKILL can be told from the kernel's: by its own count of its kills."""
    return fact.signal != SIGKILL or fact.oom_kills is not None


agent_killed = has(
    ev.PreviousRunDied,
    f"party=agent, signal={word(DELIBERATE)}; if 9, the kernel's count of kills is told",
    lambda fact: fact.party is Party.AGENT and fact.signal in DELIBERATE and _killer_is_told(fact),
)
agent_sigkilled = has(
    ev.PreviousRunDied,
    "party=agent, signal=9, the kernel's count of kills is not told",
    lambda fact: fact.party is Party.AGENT and not _killer_is_told(fact),
)


def _perhaps_from_outside(fact: ev.PreviousRunDied) -> bool:
    """Whether the run may have been killed because it did not stop in time: nothing else is told."""
    return fact.signal in (0, SIGKILL) and fact.exit_status is None


def told_to_stop(party: Party) -> Predicate:
    """The party's last run had received a signal to stop."""
    return either(
        saw(ev.SignalReceived, party=party),
        has(
            ev.PreviousRunDied,
            f"party={party}, the sender of a signal to stop is told",
            lambda fact: fact.party is party and bool(fact.sender),
        ),
    )


def cut_short(party: Party) -> Predicate:
    """The party's last run ended by SIGKILL, or nobody tells how."""
    return has(
        ev.PreviousRunDied,
        f"party={party}, ended by SIGKILL or not told how",
        lambda fact: fact.party is party and _perhaps_from_outside(fact),
    )


server_failed = has(
    ev.PreviousRunDied,
    "party=server, ended by itself: another signal or an exit status",
    lambda fact: fact.party is Party.SERVER and not _perhaps_from_outside(fact),
)
