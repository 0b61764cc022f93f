"""What rules ask about a machine, about a process that stood still, and about one that died.

Law: as `predicate`.
"""

from __future__ import annotations

from math import inf

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.predicates.predicate import Predicate, both, either, has, saw, word
from tether.attribution.vocabulary import OomVictim, Party, Resource

STALL_S = 5.0
"""A shorter gap ends no connection: every patience here is longer."""

THRASHING = 40.0
"""Per cent of ten seconds in which nobody in the group could go on for want of memory."""

STARVING = 80.0
"""Per cent of ten seconds in which nobody in the group could go on for want of CPU."""


def _starved(fact: ev.LoopStalled) -> bool:
    return max(fact.waited_s or 0.0, fact.throttled_s or 0.0) >= fact.gap_s / 2


def _busy(fact: ev.LoopStalled) -> bool:
    return (fact.cpu_s or 0.0) >= fact.gap_s / 2


def _long_enough(case: Case, gap_s: float) -> bool:
    """Whether who was away for so long cannot accuse, or be heard by, the other end: for `STALL_S`, or
    for half of the silence after which somebody gave up."""
    silences = [ended.silence_s for ended in case.all(ev.StreamEnded) if ended.silence_s]
    return gap_s >= min(STALL_S, max(silences, default=inf) / 2)


def _starved_gaps(party: Party) -> Predicate:
    """The party's process waited for a CPU for most of one long gap, or of several in a row."""

    def check(case: Case) -> bool:
        gaps = [
            fact.gap_s
            for fact in case.all(ev.LoopStalled)
            if fact.party is party and _starved(fact)
        ]
        return bool(gaps) and _long_enough(case, sum(gaps))

    words = (
        f"party={party}, waited for a CPU or throttled for half of {STALL_S:.0f} s or of a silence"
    )
    return Predicate(check, f"{ev.LoopStalled.kind}({words})", [ev.LoopStalled])


def starved(party: Party) -> Predicate:
    """The party's process waited for a CPU for most of a long time."""
    return either(
        _starved_gaps(party),
        has(
            ev.Pressure,
            f"party={party}, resource=cpu, full_avg10>={STARVING:.0f}",
            lambda fact: (
                fact.party is party
                and fact.resource is Resource.CPU
                and fact.full_avg10 >= STARVING
            ),
        ),
    )


agent_thrashing = has(
    ev.Pressure,
    f"party=agent, resource=memory, full_avg10>={THRASHING:.0f}",
    lambda fact: (
        fact.party is Party.AGENT
        and fact.resource is Resource.MEMORY
        and fact.full_avg10 >= THRASHING
    ),
)
"""The workspace stood still for want of memory."""


def busy(party: Party) -> Predicate:
    """The party's process used a CPU for most of a long gap: its loop was blocked."""
    return has(
        ev.LoopStalled,
        f"party={party}, used a CPU for half of {STALL_S:.0f} s or more",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S and _busy(fact),
    )


def _accounted(fact: ev.LoopStalled) -> bool:
    return fact.cpu_s is not None and fact.waited_s is not None


def frozen(party: Party) -> Predicate:
    """The party's process neither ran nor wanted to for a long gap, on a machine that was awake, by its
    kernel's account."""
    return has(
        ev.LoopStalled,
        f"party={party}, neither ran nor waited for most of {STALL_S:.0f} s or more",
        lambda fact: (
            fact.party is party
            and fact.gap_s >= STALL_S
            and _accounted(fact)
            and not _starved(fact)
            and not _busy(fact)
        ),
    )


def stood_still(party: Party) -> Predicate:
    """The party's process was away for a long gap, and its kernel keeps no account of such."""
    return has(
        ev.LoopStalled,
        f"party={party}, gap_s>={STALL_S:.0f}, cpu_s or waited_s not told",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S and not _accounted(fact),
    )


def suspended(party: Party) -> Predicate:
    """The party's machine slept for a while that a connection notices."""
    return has(
        ev.Suspended,
        f"party={party}, gap_s>={STALL_S:.0f}",
        lambda fact: fact.party is party and fact.gap_s >= STALL_S,
    )


# -- a process that died ----------------------------------------------------------------

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


agent_replaced = has(
    ev.PreviousRunDied,
    f"party=agent, upgraded, killed, last alive at most {UPGRADE_S:.0f} s before",
    _replaced,
)

agent_killed = has(
    ev.PreviousRunDied,
    f"party=agent, signal={word(DELIBERATE)}; if 9, its sender or the kernel's count is told",
    lambda fact: fact.party is Party.AGENT and fact.signal in DELIBERATE and _by_whom_is_told(fact),
)

agent_sigkilled = has(
    ev.PreviousRunDied,
    "party=agent, signal=9, neither its sender nor the kernel's count of kills is told",
    lambda fact: fact.party is Party.AGENT and not _by_whom_is_told(fact),
)

server_cut_short = has(
    ev.PreviousRunDied,
    "party=server, ended by SIGKILL or not told how",
    lambda fact: fact.party is Party.SERVER and _from_outside(fact),
)

server_failed = has(
    ev.PreviousRunDied,
    "party=server, ended by itself: another signal or an exit status",
    lambda fact: fact.party is Party.SERVER and not _from_outside(fact),
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
