"""Which carrier a tunnel uses, and which are looked for: the client decides, the agent follows.

Law: no I/O, no clock, no randomness of its own. What happened and the present (monotonic seconds) go
in; commands and `deadline()` come out. After every input one and the same reconciliation runs: choose,
retire, seek, ping, show. At most `MAX_DIALS` attempts run at once, and one question to the server.

The relay and the agent's endpoints are raced, a few at a time. The first that attaches is used; a
direct one takes over when it is there, and the relayed one stays as a standby. A carrier that does
not answer is kept while another one is sought, and left only for one that answers: a peer that was
merely stopped answers on none, and loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.carriers.candidate import (
    AGAIN_S,
    ANSWER_S,
    ASK_S,
    DIAL_S,
    DIRECT_AGAIN_S,
    FIRST_ASK_S,
    FLAPPING_S,
    FORGET_S,
    LOOK_S,
    MAX_DIALS,
    PROBE_S,
    SETTLE_S,
    STANDBY_PING_S,
    STANDBY_S,
    START_S,
    UNACKED_S,
    Candidate,
    Endpoints,
    RetrySchedule,
)
from tether.protocol.carriers.commands import (
    TIMED_OUT,
    AskServer,
    Carried,
    Command,
    DialDirect,
    DialRelay,
    Over,
    RelayTicket,
    Retire,
    Show,
    Stalled,
    Status,
    StreamActivity,
    UseCarrier,
)

_ENDS = {"tunnel_over", "tunnel_unknown"}
_DIRECT, _DERP = ConnectionMethod.DIRECT, ConnectionMethod.DERP


class CarrierSelector:
    """See the module's law. Call `start` once; perform what every call returns, in its order."""

    def __init__(
        self,
        *,
        relay: RelayTicket | None,
        endpoints: Sequence[str],
        resume_s: float,
        jitter: Callable[[], float],
    ) -> None:
        """`relay` is the grant's, for carrier number 1; `jitter` draws from [0, 1)."""
        self._first, self._resume_s = relay, resume_s
        self._endpoints = Endpoints(endpoints)
        self._region = relay.region if relay else ""
        self._ways: dict[int, Candidate] = {}
        self._numbers = 1
        self._current: int | None = None
        self._now = 0.0
        self._attached = self._over = self._small = False
        self._why = "the workspace's agent did not answer"
        self._direct, self._relays = RetrySchedule(jitter), RetrySchedule(jitter)
        self._asked: tuple[int, float] | None = None
        self._avoid: dict[str, float] = {}
        self._burnt_at = self._disturbed_at = -FLAPPING_S
        self._again_at: float | None = None
        self._lost: Stalled | None = None
        self._shown: Status | None = None
        self._sight = StreamActivity()

    @property
    def current(self) -> int | None:
        """The carrier in use."""
        return self._current

    def start(self, now: float) -> list[Command]:
        """Begin the race."""
        self._lost = Stalled(now, "")
        self._relays.begin(now, FIRST_ASK_S)
        out: list[Command] = []
        if self._first is not None:
            self._dial_relay(1, self._first, now, out)
        return [*out, *self._settle(now)]

    # -- what happened -----------------------------------------------------------------

    def up(self, number: int, rtt_s: float | None, now: float) -> list[Command]:
        """The carrier attached: the agent has answered on it."""
        way = self._ways.get(number)
        if way is None:
            return [Retire(number)]
        way.up, way.since, way.rtt_s, way.heard_at = True, now, rtt_s, now
        if way.method is _DIRECT and now - self._burnt_at < FLAPPING_S:
            way.settles_at = now + SETTLE_S
        return self._settle(now)

    def failed(self, number: int, why: str, now: float, *, final: bool = False) -> list[Command]:
        """The attempt came to nothing. `final`: trying again before anything was up is of no use."""
        way = self._ways.pop(number, None)
        if way is None:
            return []
        self._why = why or self._why
        if final and not self._attached:
            return self._end(Over("failed", self._why))
        self._gave_out(way, 0.0, now, at_fault=True)
        return self._settle(now)

    def refused(self, number: int, code: str, why: str, now: float) -> list[Command]:
        """The other end would not have the carrier.

        Behind a relay it is the agent, and its word is final. At an endpoint it may be anybody.
        """
        way = self._ways.get(number)
        if way is not None and way.method is _DERP and code in _ENDS:
            return self._end(Over(code, why))
        return self.failed(number, why, now)

    def ended(self, number: int, why: str, now: float, *, at_fault: bool = True) -> list[Command]:
        """A carrier that was up ended. `at_fault`: by itself, not because its other end left it."""
        way = self._ways.pop(number, None)
        if way is None:
            return []
        if number == self._current:
            self._current = None
            self._burnt_at = now if way.method is _DIRECT else self._burnt_at
            self._lost = self._lost or Stalled(now, why)
        self._gave_out(way, now - way.since if way.up else 0.0, now, at_fault=at_fault)
        return self._settle(now)

    def pong(self, number: int, rtt_s: float, now: float) -> list[Command]:
        """The other end of a carrier answered."""
        if (way := self._ways.get(number)) is not None:
            way.rtt_s, way.pinged_at, way.heard_at = rtt_s, None, now
        return self._settle(now)

    def granted(
        self, number: int, relay: RelayTicket | None, endpoints: Sequence[str], now: float
    ) -> list[Command]:
        """The server's answer. It may know of other endpoints, too."""
        if self._asked is None or self._asked[0] != number:
            return []
        self._asked = None
        out = self._offered(endpoints, now) if endpoints else []
        if relay is None:
            self._relays.ended(now, 0.0)
        else:
            self._dial_relay(number, relay, now, out)
        return [*out, *self._settle(now)]

    def denied(
        self, number: int, code: str, message: str, now: float, *, cause: str = "", actor: str = ""
    ) -> list[Command]:
        """The server's other answer: only what says that the tunnel is over is an end."""
        if self._asked is None or self._asked[0] != number:
            return []
        if code in _ENDS:
            return self._end(Over(code, message, cause, actor))
        self._why = message or self._why
        self._avoid.clear()  # it may be that nothing else is left
        return self.unasked(number, now)

    def unasked(self, number: int, now: float) -> list[Command]:
        """The question did not get through."""
        if self._asked is not None and self._asked[0] == number:
            self._asked = None
            self._relays.ended(now, 0.0)
        return self._settle(now)

    def control_back(self, now: float) -> list[Command]:
        """The server can be asked again."""
        self._relays.hurry(now)
        return self._settle(now)

    def offered(self, endpoints: Sequence[str], region: str, now: float) -> list[Command]:
        """The agent says where it can be dialled now, and its new home region ("" for no news)."""
        if self._over:
            return []
        self._region = region or self._region
        return [*self._offered(endpoints, now), *self._settle(now)]

    def _offered(self, endpoints: Sequence[str], now: float) -> list[Command]:
        """What it takes back is not dialled any more. A carrier that is up is asked, and used for as
        long as it works: others may reach an address that its owner does not know of."""
        self._endpoints.offer(endpoints)
        out: list[Command] = []
        for way in [way for way in self._ways.values() if way.method is _DIRECT]:
            taken_back = way.address not in self._endpoints.offered
            if taken_back and not way.up:
                del self._ways[way.number]
                out.append(Retire(way.number))
            elif taken_back and not way.taken_back:
                self._endpoints.again()
                out += [way.ask(now, PROBE_S)] if way.pinged_at is None else []
            way.taken_back = taken_back
        return out

    def restarting(self, number: int, now: float) -> list[Command]:
        """The relay of this carrier has announced a planned restart: move first."""
        way = self._ways.get(number)
        if way is not None and not way.leaving:
            way.leaving = True
            self._avoid[way.address] = now + FORGET_S
            self._relays.hurry(now)
        return self._settle(now)

    def disturbed(self, now: float) -> list[Command]:
        """The network changed, or this machine slept: ask every carrier for a sign of life, and
        begin all attempts anew."""
        if now - self._disturbed_at < PROBE_S:  # one change has many symptoms
            self._again_at = now + AGAIN_S
            return self._settle(now)
        return self._doubt_all(now)

    def _doubt_all(self, now: float) -> list[Command]:
        self._disturbed_at, self._again_at, self._small = now, None, False
        out: list[Command] = []
        for way in list(self._ways.values()):
            if not way.up and now - way.since < PROBE_S:
                continue  # it began just now, and may be of the new network
            if not way.up:
                del self._ways[way.number]
                out.append(Retire(way.number))
            else:  # also one that is being asked: its silence may have been ours
                out.append(way.ask(now, PROBE_S))
        self._endpoints.rest()
        self._avoid.clear()
        self._direct.hurry(now)
        self._relays.hurry(now)
        return [*out, *self._settle(now)]

    def tick(self, now: float, sight: StreamActivity) -> list[Command]:
        """Time has passed, and this is what was seen meanwhile."""
        self._sight = sight
        for number, at in sight.heard_at.items():
            if (way := self._ways.get(number)) is not None:
                way.heard(at)
        out: list[Command] = []
        for way in list(self._ways.values()):
            if not way.up and now >= way.since + DIAL_S:
                del self._ways[way.number]
                self._gave_out(way, 0.0, now, at_fault=True)
                out.append(Retire(way.number))
        if self._again_at is not None and now >= self._again_at:
            out += self._doubt_all(now)
        if self._asked is not None and now >= self._asked[1] + ASK_S:
            out += self.unasked(self._asked[0], now)
        return [*out, *self._settle(now)]

    def deadline(self) -> float | None:
        """When to call `tick` next; None once it is over."""
        if self._over:
            return None
        due = [way.since + DIAL_S for way in self._ways.values() if not way.up]
        if any(way.up for way in self._ways.values()):
            due.append(self._now + LOOK_S)
        if self._asked is not None:
            due.append(self._asked[1] + ASK_S)
        if self._again_at is not None:
            due.append(self._again_at)
        if self._endpoints.waiting and self._room():
            due.append(self._endpoints.next_at)
        if (at := self._direct_due()) is not None:
            due.append(at)
        if (at := self._relay_due()) is not None:
            due.append(at)
        if self._lost is not None:
            due.append(self._lost.since + self._patience())
        return min(due)

    # -- the reconciliation --------------------------------------------------------------

    def _settle(self, now: float) -> list[Command]:
        self._now = now
        if self._over:
            return []
        out: list[Command] = []
        self._choose(out)
        self._retire(out)
        self._seek_direct(out)
        self._seek_relay(out)
        self._ask_for_life(out)
        self._show(out)
        if self._lost is not None and now >= self._lost.since + self._patience():
            out += self._end(Over(TIMED_OUT, self._why))
        return out

    def _choose(self, out: list[Command]) -> None:
        best = max((way for way in self._ways.values() if way.up), key=self._rank, default=None)
        if best is None or best.number == self._current:
            return
        current = self._in_use()
        if current is None or self._better(best, current):
            self._small |= current is not None and current.silent(self._now)  # large may be lost
            if current is not None and current.method is _DIRECT and not current.taken_back:
                self._burnt_at = self._now
                current.settles_at = self._now + SETTLE_S
            self._current, self._attached = best.number, True
            out.append(UseCarrier(best.number))

    def _better(self, way: Candidate, current: Candidate) -> bool:
        if not current.silent(self._now):
            return self._rank(way)[:2] > self._rank(current)[:2]
        asked_at = current.pinged_at or 0.0
        return way.sound(self._now) and max(way.heard_at, way.since) > asked_at

    def _rank(self, way: Candidate) -> tuple[bool, bool, float, int]:
        """Sound ones first, then direct ones; what follows decides among several to begin with."""
        rtt_s = 1.0 if way.rtt_s is None else way.rtt_s
        return way.sound(self._now), self._preferred(way), -rtt_s, -way.number

    def _preferred(self, way: Candidate) -> bool:
        if way.method is not _DIRECT or way.taken_back or self._now < way.settles_at:
            return False
        relayed = [w.rtt_s for w in self._ways.values() if w.up and w.method is _DERP and w.rtt_s]
        return not relayed or (way.rtt_s or 0.0) <= 2.0 * min(relayed) + 0.02

    def _retire(self, out: list[Command]) -> None:
        current = self._in_use()
        if current is None or not current.sound(self._now):
            return
        kept = set() if current.taken_back else {current.method}
        for way in sorted(self._ways.values(), key=lambda way: (way.up, self._rank(way)))[::-1]:
            if way is current:
                continue
            silent_for = self._now - (self._now if way.pinged_at is None else way.pinged_at)
            surplus = way.method in kept and (way.up or way.method is _DIRECT)
            if way.method is _DERP and current.method is _DIRECT and way.sound(self._now):
                kept.add(_DERP)  # the standby
            if surplus or way.leaving or way.taken_back or silent_for >= FORGET_S:
                del self._ways[way.number]
                out.append(Retire(way.number))

    def _seek_direct(self, out: list[Command]) -> None:
        if self._has(_DIRECT):
            self._endpoints.rest()
            return
        if (due := self._direct_due()) is not None and self._now >= due:
            self._endpoints.again()
        while self._room() and (endpoint := self._endpoints.take(self._now)) is not None:
            self._numbers += 1
            self._ways[self._numbers] = Candidate(
                self._numbers, _DIRECT, endpoint, endpoint, self._now
            )
            out.append(DialDirect(self._numbers, endpoint, self._small))

    def _seek_relay(self, out: list[Command]) -> None:
        due = self._relay_due()
        if due is not None and self._now >= due:
            self._numbers += 1
            self._asked = (self._numbers, self._now)
            self._avoid = {url: until for url, until in self._avoid.items() if until > self._now}
            out.append(AskServer(self._numbers, self._region, tuple(self._avoid), self._small))

    def _direct_due(self) -> float | None:
        """When the next round begins; None while one runs, or none is needed."""
        if not self._endpoints.idle or self._has(_DIRECT) or self._dialling(_DIRECT):
            return None
        if self._urgent():
            return self._direct.due(0.0)
        return self._direct.due_between(DIRECT_AGAIN_S)

    def _relay_due(self) -> float | None:
        if self._asked is not None or self._has(_DERP) or self._dialling(_DERP):
            return None
        return self._relays.due(0.0 if self._urgent() else STANDBY_S)

    def _ask_for_life(self, out: list[Command]) -> None:
        current, waiting = self._in_use(), self._sight.waiting_since
        asked_at = None if current is None else current.pinged_at
        troubled = asked_at is not None and self._now - asked_at >= UNACKED_S
        waits = waiting is not None and self._now - waiting >= UNACKED_S
        for way in self._ways.values():
            if not way.up or way.pinged_at is not None:
                continue
            aside = LOOK_S if troubled else STANDBY_PING_S
            quiet = way.quiet_in_use(waits) if way is current else aside
            if self._now - max(way.heard_at, way.since) >= quiet:
                out.append(way.ask(self._now, ANSWER_S))

    def _show(self, out: list[Command]) -> None:
        current = self._in_use()
        if current is not None and current.silent(self._now):
            assert current.pinged_at is not None, "silent"
            self._lost = self._lost or Stalled(current.pinged_at, "no answer")
        elif current is not None:
            gap_s = 0.0 if self._lost is None else self._now - self._lost.since
            if not isinstance(self._shown, Carried) or self._shown.number != current.number:
                self._shown = Carried(current.number, current.method, current.where, gap_s)
                out.append(Show(self._shown))
            self._lost = None
        if self._lost is not None and self._attached and self._shown != self._lost:
            self._shown = self._lost
            out.append(Show(self._lost))

    # -- small things --------------------------------------------------------------------

    def _in_use(self) -> Candidate | None:
        return None if self._current is None else self._ways[self._current]

    def _urgent(self) -> bool:
        current = self._in_use()
        return current is None or not current.sound(self._now)

    def _has(self, method: ConnectionMethod) -> bool:
        return any(way.method is method and way.lasts(self._now) for way in self._ways.values())

    def _dialling(self, method: ConnectionMethod) -> bool:
        return any(way.method is method and not way.up for way in self._ways.values())

    def _room(self) -> bool:
        """Whether a direct attempt may start: one place is the relay's."""
        return sum(not way.up for way in self._ways.values()) < MAX_DIALS - 1

    def _patience(self) -> float:
        return self._resume_s if self._attached else START_S

    def _dial_relay(self, number: int, relay: RelayTicket, now: float, out: list[Command]) -> None:
        self._ways[number] = Candidate(number, _DERP, relay.url, relay.region, now)
        out.append(DialRelay(number, relay, self._small))

    def _gave_out(self, way: Candidate, lived: float, now: float, *, at_fault: bool) -> None:
        if way.method is _DERP:
            self._relays.ended(now, lived)
            if at_fault:
                self._avoid[way.address] = now + FORGET_S
        else:
            self._endpoints.next_at = now
            if way.up or not (self._endpoints.waiting or self._dialling(_DIRECT)):  # all were tried
                self._direct.ended(now, lived)

    def _end(self, over: Over) -> list[Command]:
        self._over = True
        return [over]
