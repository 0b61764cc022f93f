"""What the kernels' counters and two ends of one stream say together (TCP_INFO and errno).

Law: as `predicate`. A stream has two ends: what `a` saw of `b` and what `b` saw of `a` belong together.
Only spans that one observer measured by its own clock are compared, never moments of two. All
bounds are measured (times in milliseconds, as the kernel counts them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.predicates.predicate import Predicate, either, predicate, saw
from tether.attribution.staleness import heard_ago_s
from tether.attribution.vocabulary import (
    ABRUPT_ENDS,
    SILENCE_CODE,
    SILENT_ENDS,
    Party,
    Reach,
    StreamEnd,
    Vantage,
)

LOST = saw(ev.StreamEnded)
SILENT = saw(ev.StreamEnded, how=SILENT_ENDS)
GIVEN_UP = saw(ev.StreamEnded, vantage=Vantage.SERVER, close_code=SILENCE_CODE)
"""The peer closed its link to the server and said that it had heard nothing from it."""

UNHEARD = either(SILENT, GIVEN_UP)
"""Of a control link: a server that stood still wakes up to peers that have given it up."""

LIVELY_ACK_MS = 20_000
"""A peer's kernel that acknowledged within this time is alive (agent keepalive 15 s + 5 s probe)."""

NO_ROUTE_PMTU = 576
"""Below what IPv4 must carry: the kernel shows 68 once the stream's route or device is gone."""

STALE_MS = 2_000
"""One-way loss: the receiver of the dead direction heard nothing for at least this much longer."""

FRESHER = 0.6
"""One-way loss: the other end's last acknowledgement is at most this share as old."""

STUCK_RETRANSMITS = 3
"""A segment that was sent again so often in a row is stuck."""

STUCK_PROBES = 2
"""A peer whose window is closed answers each probe, which sets their number to zero again."""

WELL_KNOWN_IDLE_S = (30, 60, 75, 100, 240, 270, 300, 350, 600, 900, 3600)
"""Idle times after which load balancers, proxies and firewalls cut: HAProxy 30, nginx and ALB 60,
nginx keepalive 75, Cloudflare 100, Azure 240, Cloudflare Gateway 270, NLB 350, ingress-nginx 600."""

IDLE_TOLERANCE_S = 1.5
"""Two idle times that differ by no more than this are the same timer's."""

_Observed = ev.StreamEnded | ev.TcpCounters


# -- which facts are of one stream ------------------------------------------------------


def _is(one: str, other: str) -> bool:
    """Whether a vantage and a party are the same program: their words are the same."""
    return one == other


def _same_end(one: _Observed, other: _Observed) -> bool:
    """Whether one observer tells both of one stream."""
    return one.vantage is other.vantage and one.peer is other.peer


def _facing(one: _Observed, other: _Observed) -> bool:
    """Whether the two tell of one stream from its two ends."""
    return _is(one.vantage, other.peer) and _is(other.vantage, one.peer)


def _ends(case: Case) -> Sequence[tuple[ev.StreamEnded, ev.StreamEnded]]:
    """Both ends of each stream that two observers tell of, both ways round."""
    return [pair for pair in permutations(case.all(ev.StreamEnded), 2) if _facing(*pair)]


def _counted(case: Case) -> Sequence[tuple[ev.TcpCounters, ev.TcpCounters]]:
    """The counters of both ends of each stream that two observers tell of, both ways round."""
    return [pair for pair in permutations(case.all(ev.TcpCounters), 2) if _facing(*pair)]


def _through_a_proxy(case: Case, one: _Observed) -> bool:
    """Whether either end of the stream tells that something in between ends TCP: what the kernels at its
    two ends count is not of one connection, and whom one of them hears is not the other party."""
    told: tuple[_Observed, ...] = (*case.all(ev.StreamEnded), *case.all(ev.TcpCounters))
    return any(
        fact.reach is Reach.PROXIED and (_same_end(fact, one) or _facing(fact, one))
        for fact in told
    )


def _ends_of(case: Case, counters: ev.TcpCounters) -> Iterator[ev.StreamEnded]:
    """How the stream of these counters ended for their observer."""
    return (ended for ended in case.all(ev.StreamEnded) if _same_end(ended, counters))


def _counters_of(case: Case, ended: ev.StreamEnded) -> Iterator[ev.TcpCounters]:
    """What the kernel of the one who saw this end counted of the stream."""
    return (counters for counters in case.all(ev.TcpCounters) if _same_end(counters, ended))


def _gave_up(case: Case, counters: ev.TcpCounters) -> bool:
    """Whether the observer of these counters ended the stream because nothing came any more."""
    return any(ended.how in SILENT_ENDS for ended in _ends_of(case, counters))


def _cut_off(case: Case, counters: ev.TcpCounters) -> bool:
    """Whether the observer's stream was closed or reset. Its counters are of that moment, which may be
    long after the other end heard the last of it."""
    return any(ended.how in ABRUPT_ENDS for ended in _ends_of(case, counters))


# -- one direction, or large segments only ----------------------------------------------


def _silence_ms(case: Case, observer: Vantage) -> float:
    """For how long an observer had heard nothing when it gave up; 0 where that is not told."""
    silences = [
        ended.silence_s or 0.0 for ended in case.all(ev.StreamEnded) if ended.vantage is observer
    ]
    return 1000 * max(silences, default=0.0)


def _hears(case: Case, counters: ev.TcpCounters) -> bool:
    """Whether something still came in on the stream while its observer waited in vain. Whoever gives up
    first has the fresher counters, though it heard as little as the other end."""
    silence_ms = _silence_ms(case, counters.vantage)
    return not silence_ms or counters.last_ack_recv_ms < FRESHER * silence_ms


def _fresher(one: ev.TcpCounters, other: ev.TcpCounters) -> bool:
    """Whether `one` was acknowledged to clearly more recently than `other` was."""
    mine, theirs = one.last_ack_recv_ms, other.last_ack_recv_ms
    return mine + STALE_MS <= theirs and mine <= FRESHER * theirs


def one_way(party: Party, *, sending: bool) -> Predicate:
    """What `party` sent (or was sent) no longer arrived, while the other direction still did."""

    def check(case: Case) -> bool:
        return any(
            _is((sender if sending else receiver).vantage, party)
            and not _through_a_proxy(case, sender)
            and _gave_up(case, receiver)
            and (sender.retransmits or sender.unacked)
            and _hears(case, sender)
            and _fresher(sender, receiver)
            for sender, receiver in _counted(case)
        )

    direction = f"what the {party} sent" if sending else f"what was sent to the {party}"
    return Predicate(
        check,
        f"only {direction} was lost, by both ends' counters",
        [ev.TcpCounters, ev.StreamEnded],
    )


def _heard_meanwhile(case: Case, counters: ev.TcpCounters) -> bool:
    """Whether the observer's kernel heard of the peer well within the silence after which it gave up.
    If it gave up soon, every acknowledgement looks recent."""
    silences = [ended.silence_s for ended in _ends_of(case, counters) if ended.silence_s]
    return not silences or counters.last_ack_recv_ms < 1000 * max(silences) / 2


@predicate(
    "one end's large segments were lost while small ones passed both ways",
    ev.TcpCounters,
    ev.StreamEnded,
)
def large_frames_lost(case: Case) -> bool:
    return any(
        _gave_up(case, stuck)
        and stuck.retransmits >= STUCK_RETRANSMITS
        and stuck.lost > 0
        and stuck.unacked * max(stuck.snd_mss, 1) > NO_ROUTE_PMTU
        and stuck.last_ack_recv_ms < LIVELY_ACK_MS / 2
        and other.last_ack_recv_ms < LIVELY_ACK_MS / 2
        and _heard_meanwhile(case, stuck)
        and not _cut_off(case, other)
        and not _through_a_proxy(case, stuck)
        for stuck, other in _counted(case)
    )


# -- a kernel that could not send, was not heard, or still answered ---------------------


def no_egress(party: Party) -> Predicate:
    """The party's own kernel had no route or device for the stream any more."""
    return Predicate(
        lambda case: any(
            _is(counters.vantage, party) and _could_not_send(counters)
            for counters in case.all(ev.TcpCounters)
        ),
        f"the {party}'s kernel could not send (no retransmission, and pmtu under {NO_ROUTE_PMTU}"
        f" or {STUCK_PROBES} probes for what was never sent)",
        [ev.TcpCounters],
    )


def _could_not_send(counters: ev.TcpCounters) -> bool:
    """Whether nothing of the stream got out of its own machine.

    Over IPv4 the kernel forgets the path's MTU with the route. Over IPv6 it keeps it; what there was to
    send waits, though nothing is unacknowledged, and the timer that would send it rings in vain.
    """
    if counters.retransmits:
        return False
    waits = counters.notsent_bytes > 0 and not counters.unacked
    return 0 < counters.pmtu < NO_ROUTE_PMTU or (waits and counters.probes >= STUCK_PROBES)


@predicate(
    "not even the relay's kernel was heard by the client while it waited",
    ev.TcpCounters,
    ev.StreamEnded,
)
def unheard_relay(case: Case) -> bool:
    return any(
        counters.vantage is Vantage.CLIENT
        and counters.peer is Party.RELAY
        and _silence_ms(case, Vantage.CLIENT) > 0
        and not _hears(case, counters)
        for counters in case.all(ev.TcpCounters)
    )


def _sends_in_vain(counters: ev.TcpCounters) -> bool:
    return bool(counters.unacked and counters.retransmits)


def lively(party: Party) -> Predicate:
    """The party's kernel still acknowledged: its machine and the path to it were alive.

    Three things say the contrary, however short the silence: we send again and again without being
    acknowledged; the party does; or its kernel was silent for as long as its program. Through a proxy it
    was not the party's kernel.
    """

    def check(case: Case) -> bool:
        counted = case.all(ev.TcpCounters)
        return any(
            counters.peer is party
            and counters.last_ack_recv_ms < LIVELY_ACK_MS
            and not _sends_in_vain(counters)
            and not _through_a_proxy(case, counters)
            and not any(_sends_in_vain(far) for far in counted if _facing(far, counters))
            and _heard_meanwhile(case, counters)
            for counters in counted
        )

    return Predicate(
        check,
        f"the {party}'s kernel acknowledged within the silence, and nothing was sent in vain",
        [ev.TcpCounters],
    )


# -- how both ends ended ----------------------------------------------------------------

_CLOSED = (StreamEnd.EOF, StreamEnd.RESET)


@predicate("both ends of one stream were reset", ev.StreamEnded)
def both_reset(case: Case) -> bool:
    return any(
        one.how is StreamEnd.RESET and other.how is StreamEnd.RESET for one, other in _ends(case)
    )


@predicate("both ends of one stream say that the other closed it", ev.StreamEnded)
def both_closed(case: Case) -> bool:
    return any(one.how in _CLOSED and other.how in _CLOSED for one, other in _ends(case))


@predicate("both ends of one stream heard nothing more from each other", ev.StreamEnded)
def both_silent(case: Case) -> bool:
    return any(one.how in SILENT_ENDS and other.how in SILENT_ENDS for one, other in _ends(case))


def _never_sent_a_reset(case: Case, silent: ev.StreamEnded) -> bool:
    """Whether this end, which heard nothing more, cannot have reset the other one itself.

    A kernel that gives up on keepalive probes sends a reset, and so do we when we cut a silent peer. A
    kernel that gives up on data does not, and a link whose own successor replaced it was not cut yet.
    """
    if silent.how is StreamEnd.SILENT:
        return silent.silence_s is None
    return any(counters.retransmits >= STUCK_RETRANSMITS for counters in _counters_of(case, silent))


@predicate(
    "one end of a stream was reset, and the other, which cannot have sent that, heard nothing more",
    ev.StreamEnded,
)
def one_reset_one_silent(case: Case) -> bool:
    return any(
        one.how is StreamEnd.RESET and other.how in SILENT_ENDS and _never_sent_a_reset(case, other)
        for one, other in _ends(case)
    )


@predicate(
    "one end of a stream was reset with nothing sent in vain, and had heard the other end much more"
    " lately than that one's silence lasted",
    ev.StreamEnded,
)
def reset_while_well(case: Case) -> bool:
    return any(
        1000 * heard_s + STALE_MS <= 1000 * (silent.silence_s or 0.0)
        for reset, silent in _ends(case)
        if reset.how is StreamEnd.RESET and silent.how in SILENT_ENDS
        if not any(one.unacked or one.retransmits for one in _counters_of(case, reset))
        if (heard_s := heard_ago_s(reset, case.facts)) is not None
    )


# -- what one end alone shows -----------------------------------------------------------


def aborted_at(party: Party) -> Predicate:
    """The party's own kernel dropped its socket from below (`ss -K` and its kin)."""
    return Predicate(
        lambda case: any(
            _is(ended.vantage, party) and ended.how is StreamEnd.ABORTED
            for ended in case.all(ev.StreamEnded)
        ),
        f"the {party}'s kernel aborted its own socket",
        [ev.StreamEnded],
    )


@predicate("it was cut after an idle time that middleboxes are known for", ev.StreamEnded)
def well_known_idle(case: Case) -> bool:
    return any(
        ended.how in ABRUPT_ENDS
        and ended.idle_s is not None
        and any(abs(ended.idle_s - known) <= IDLE_TOLERANCE_S for known in WELL_KNOWN_IDLE_S)
        for ended in case.all(ev.StreamEnded)
    )
