"""Which carrier a tunnel uses, and which are looked for: the client decides, the agent follows.

Law: no I/O, no clock, no randomness of its own. What happened and the present (monotonic seconds) go
in; commands and `deadline()` come out. After every input the same reconciliation runs: choose, retire,
seek, ping, show. At most `MAX_DIALS` attempts run at once, and one question to the server.

The relay and the agent's endpoints are raced, a few at a time. The first candidate that joins is used; a
direct one takes over once it is there, and the relayed one stays as a standby. A carrier that does not
answer is kept while another one is sought, and left only for one that answers, so that a peer that was
merely stopped, and answers on none, loses none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tether.attribution.vocabulary import ConnectionMethod
from tether.protocol.carriers.candidate import (
    ANSWER_S,
    ASK_S,
    DIAL_S,
    DIRECT_AGAIN_S,
    FIRST_ASK_S,
    FLAPPING_S,
    FORGET_S,
    LOOK_S,
    MAX_DIALS,
    PROBE_AGAIN_S,
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
    """The client's choice. Call `start` once; perform what every call returns, in its order."""

    def __init__(
        self,
        *,
        relay: RelayTicket | None,
        endpoints: Sequence[str],
        resume_s: float,
        jitter: Callable[[], float],
    ) -> None:
        """
        Args:
            relay: the grant's, for carrier number 1; None where no relay was to be had.
            endpoints: where the agent listens, best first.
            resume_s: how long the tunnel may be without a carrier that answers.
            jitter: draws from [0, 1).
        """
        self._first = relay
        self._resume_s = resume_s
        self._endpoints = Endpoints(endpoints)
        self._region = relay.region if relay else ""  # where a relay is asked for
        self._candidates: dict[int, Candidate] = {}
        self._numbers = 1  # the highest number of a carrier so far
        self._current: int | None = None  # the number of the carrier in use
        self._attached = False  # whether any carrier was ever used
        self._over = False
        self._now = 0.0
        self._direct = RetrySchedule(jitter)
        self._relays = RetrySchedule(jitter)
        self._question: tuple[int, float] | None = None  # to the server: for which number, and when
        self._avoid: dict[str, float] = {}  # relays that failed, each with the end of its avoidance
        self._small_segments = False  # whether large ones seem to be lost
        self._direct_lost_at = -FLAPPING_S  # when a direct carrier was last lost, or left as silent
        self._disturbed_at = -FLAPPING_S  # when all carriers were last doubted
        self._probe_again_at: float | None = None  # when they are doubted once more
        self._last_failure = "the workspace's agent did not answer"
        self._relay_failure = (
            relay.url if relay else "",
            "",
        )  # the last relay's URL, and why it failed
        self._stalled: Stalled | None = None  # while nothing moves
        self._shown: Status | None = None  # what was last shown
        self._activity = StreamActivity()

    @property
    def current(self) -> int | None:
        """The carrier in use."""
        return self._current

    def sought(self) -> str:
        """What may carry the tunnel first, for people."""
        url, _ = self._relay_failure
        relay = [f"the relay {url}"] if url else []
        addresses = ", ".join(self._endpoints.offered)
        return " or ".join([*relay, *([f"the agent at {addresses}"] if addresses else [])])

    def start(self, now: float) -> list[Command]:
        """Begin the race."""
        self._stalled = Stalled(now, "")
        self._relays.begin(now, FIRST_ASK_S)
        out: list[Command] = []
        if self._first is not None:
            self._dial_relay(1, self._first, now, out)
        return [*out, *self._settle(now)]

    # -- what happened -----------------------------------------------------------------

    def up(self, number: int, rtt_s: float | None, now: float) -> list[Command]:
        """The carrier has joined: the agent has answered on it."""
        candidate = self._candidates.get(number)
        if candidate is None:
            return [Retire(number)]
        candidate.up = True
        candidate.since = candidate.heard_at = now
        candidate.rtt_s = rtt_s
        if candidate.method is _DIRECT and now - self._direct_lost_at < FLAPPING_S:
            candidate.settles_at = now + SETTLE_S
        return self._settle(now)

    def failed(self, number: int, why: str, now: float, *, final: bool = False) -> list[Command]:
        """The attempt failed; with `final`, trying again before anything was up is of no use."""
        candidate = self._candidates.pop(number, None)
        if candidate is None:
            return []
        self._last_failure = why or self._last_failure
        if candidate.method is _DERP:
            self._relay_failure = candidate.address, why
        if final and not self._attached:
            return self._end(Over("failed", self._last_failure))
        self._note_failure(candidate, 0.0, now, at_fault=True)
        return self._settle(now)

    def refused(self, number: int, code: str, why: str, now: float) -> list[Command]:
        """The other end refused the carrier.

        Behind a relay that is the agent, and its word is final. At an endpoint it may be anybody.
        """
        candidate = self._candidates.get(number)
        relayed = candidate is not None and candidate.method is _DERP
        if relayed and code in _ENDS and self._urgent():
            return self._end(Over(code, why))
        return self.failed(number, why, now)

    def ended(self, number: int, why: str, now: float, *, at_fault: bool = True) -> list[Command]:
        """A carrier that was up ended; `at_fault` unless it was its other end that left it."""
        candidate = self._candidates.pop(number, None)
        if candidate is None:
            return []
        if number == self._current:
            self._current = None
            if candidate.method is _DIRECT:
                self._direct_lost_at = now
            self._stalled = self._stalled or Stalled(now, why)
        self._note_failure(
            candidate, now - candidate.since if candidate.up else 0.0, now, at_fault=at_fault
        )
        return self._settle(now)

    def pong(self, number: int, rtt_s: float, now: float) -> list[Command]:
        """The other end of a carrier answered."""
        if (candidate := self._candidates.get(number)) is not None:
            candidate.rtt_s = rtt_s
            candidate.pinged_at = None
            candidate.heard_at = now
        return self._settle(now)

    def granted(
        self, number: int, relay: RelayTicket | None, endpoints: Sequence[str], now: float
    ) -> list[Command]:
        """The server has granted a carrier. It may know of other endpoints, too."""
        if self._question is None or self._question[0] != number:
            return []
        self._question = None
        out = self._offered(endpoints, now) if endpoints else []
        if relay is None:
            self._relays.ended(now, 0.0)
        else:
            self._dial_relay(number, relay, now, out)
        return [*out, *self._settle(now)]

    def denied(
        self, number: int, code: str, message: str, now: float, *, cause: str = "", actor: str = ""
    ) -> list[Command]:
        """The server has denied a carrier, which is the end only where the tunnel itself is over.

        That the agent answers on a carrier shows that it is not, whatever the server's record says.
        """
        if self._question is None or self._question[0] != number:
            return []
        if code in _ENDS and self._urgent():
            return self._end(Over(code, message, cause, actor))
        self._last_failure = message or self._last_failure
        self._avoid.clear()  # it may be that nothing else is left
        return self.unasked(number, now)

    def unasked(self, number: int, now: float) -> list[Command]:
        """The question did not get through."""
        if self._question is not None and self._question[0] == number:
            self._question = None
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
        """An endpoint that is withdrawn is not dialled any more. A carrier to it that is up is pinged,
        and used for as long as it works: others may reach an address that its owner does not know."""
        self._endpoints.offer(endpoints)
        out: list[Command] = []
        for candidate in [one for one in self._candidates.values() if one.method is _DIRECT]:
            withdrawn = candidate.address not in self._endpoints.offered
            if withdrawn and not candidate.up:
                del self._candidates[candidate.number]
                out.append(Retire(candidate.number))
            elif withdrawn and not candidate.withdrawn:
                self._endpoints.again()
                out += [candidate.ping(now, PROBE_S)] if candidate.pinged_at is None else []
            candidate.withdrawn = withdrawn
        return out

    def restarting(self, number: int, now: float) -> list[Command]:
        """The relay of this carrier has announced a planned restart: move first."""
        candidate = self._candidates.get(number)
        if candidate is not None and not candidate.restarting:
            candidate.restarting = True
            self._avoid[candidate.address] = now + FORGET_S
            self._relays.hurry(now)
        return self._settle(now)

    def disturbed(self, now: float) -> list[Command]:
        """The network changed, or this machine slept: ask every carrier for a sign of life, and
        begin all attempts anew."""
        if now - self._disturbed_at < PROBE_S:  # another symptom of the same change
            self._probe_again_at = now + PROBE_AGAIN_S
            return self._settle(now)
        return self._doubt_all(now)

    def _doubt_all(self, now: float) -> list[Command]:
        self._disturbed_at = now
        self._probe_again_at = None
        self._small_segments = False
        out: list[Command] = []
        for candidate in list(self._candidates.values()):
            if not candidate.up and now - candidate.since < PROBE_S:
                continue  # it began just now, perhaps in the new network
            if not candidate.up:
                del self._candidates[candidate.number]
                out.append(Retire(candidate.number))
            else:  # also one that was pinged before: its silence may have been ours
                out.append(candidate.ping(now, PROBE_S))
        self._endpoints.rest()
        self._avoid.clear()
        self._direct.hurry(now)
        self._relays.hurry(now)
        return [*out, *self._settle(now)]

    def tick(self, now: float, activity: StreamActivity) -> list[Command]:
        """Time has passed, and this is what the stream has seen meanwhile."""
        self._activity = activity
        for number, at in activity.heard_at.items():
            if (candidate := self._candidates.get(number)) is not None:
                candidate.heard(at)
        out: list[Command] = []
        for candidate in list(self._candidates.values()):
            if not candidate.up and now >= candidate.since + DIAL_S:
                del self._candidates[candidate.number]
                self._note_failure(candidate, 0.0, now, at_fault=True)
                out.append(Retire(candidate.number))
        if self._probe_again_at is not None and now >= self._probe_again_at:
            out += self._doubt_all(now)
        if self._question is not None and now >= self._question[1] + ASK_S:
            out += self.unasked(self._question[0], now)
        return [*out, *self._settle(now)]

    def deadline(self) -> float | None:
        """When to call `tick` next; None once it is over."""
        if self._over:
            return None
        due = [
            candidate.since + DIAL_S for candidate in self._candidates.values() if not candidate.up
        ]
        if any(candidate.up for candidate in self._candidates.values()):
            due.append(self._now + LOOK_S)
        if self._question is not None:
            due.append(self._question[1] + ASK_S)
        if self._probe_again_at is not None:
            due.append(self._probe_again_at)
        if self._endpoints.waiting and self._room():
            due.append(self._endpoints.next_at)
        if (at := self._direct_due()) is not None:
            due.append(at)
        if (at := self._relay_due()) is not None:
            due.append(at)
        if self._stalled is not None:
            due.append(self._stalled.since + self._patience())
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
        self._ping(out)
        self._show(out)
        if self._stalled is not None and now >= self._stalled.since + self._patience():
            out += self._end(Over(TIMED_OUT, self._no_way()))
        return out

    def _choose(self, out: list[Command]) -> None:
        best = max(
            (candidate for candidate in self._candidates.values() if candidate.up),
            key=self._rank,
            default=None,
        )
        if best is None or best.number == self._current:
            return
        current = self._in_use()
        if current is None or self._better(best, current):
            if current is not None and current.is_silent(self._now):
                self._small_segments = True  # only large ones may have been lost
            if current is not None and current.method is _DIRECT and not current.withdrawn:
                self._direct_lost_at = self._now
                current.settles_at = self._now + SETTLE_S
            self._current = best.number
            self._attached = True
            out.append(UseCarrier(best.number))

    def _better(self, candidate: Candidate, current: Candidate) -> bool:
        if not current.is_silent(self._now):
            return self._rank(candidate)[:2] > self._rank(current)[:2]
        asked_at = current.pinged_at or 0.0
        return candidate.is_sound(self._now) and max(candidate.heard_at, candidate.since) > asked_at

    def _rank(self, candidate: Candidate) -> tuple[bool, bool, float, int]:
        """Sound ones first, then direct ones. The rest decides which one of several is used first."""
        rtt_s = 1.0 if candidate.rtt_s is None else candidate.rtt_s
        return candidate.is_sound(self._now), self._preferred(candidate), -rtt_s, -candidate.number

    def _preferred(self, candidate: Candidate) -> bool:
        if (
            candidate.method is not _DIRECT
            or candidate.withdrawn
            or self._now < candidate.settles_at
        ):
            return False
        relayed = [
            w.rtt_s for w in self._candidates.values() if w.up and w.method is _DERP and w.rtt_s
        ]
        return not relayed or (candidate.rtt_s or 0.0) <= 2.0 * min(relayed) + 0.02

    def _retire(self, out: list[Command]) -> None:
        current = self._in_use()
        if current is None or not current.is_sound(self._now):
            return
        kept = set() if current.withdrawn else {current.method}
        for candidate in sorted(
            self._candidates.values(), key=lambda candidate: (candidate.up, self._rank(candidate))
        )[::-1]:
            if candidate is current:
                continue
            silent_for = self._now - (
                self._now if candidate.pinged_at is None else candidate.pinged_at
            )
            surplus = candidate.method in kept and (candidate.up or candidate.method is _DIRECT)
            if (
                candidate.method is _DERP
                and current.method is _DIRECT
                and candidate.is_sound(self._now)
            ):
                kept.add(_DERP)  # as a standby
            if surplus or candidate.restarting or candidate.withdrawn or silent_for >= FORGET_S:
                del self._candidates[candidate.number]
                out.append(Retire(candidate.number))

    def _seek_direct(self, out: list[Command]) -> None:
        if self._has(_DIRECT):
            self._endpoints.rest()
            return
        if (due := self._direct_due()) is not None and self._now >= due:
            self._endpoints.again()
        while self._room() and (endpoint := self._endpoints.take(self._now)) is not None:
            self._numbers += 1
            self._candidates[self._numbers] = Candidate(
                self._numbers, _DIRECT, endpoint, endpoint, self._now
            )
            out.append(DialDirect(self._numbers, endpoint, self._small_segments))

    def _seek_relay(self, out: list[Command]) -> None:
        due = self._relay_due()
        if due is not None and self._now >= due:
            self._numbers += 1
            self._question = (self._numbers, self._now)
            self._avoid = {url: until for url, until in self._avoid.items() if until > self._now}
            out.append(
                AskServer(self._numbers, self._region, tuple(self._avoid), self._small_segments)
            )

    def _direct_due(self) -> float | None:
        """When the next round of direct attempts begins; None while one runs, or none is needed."""
        if not self._endpoints.idle or self._has(_DIRECT) or self._dialling(_DIRECT):
            return None
        if self._urgent():
            return self._direct.due(0.0)
        return self._direct.due_between(DIRECT_AGAIN_S)

    def _relay_due(self) -> float | None:
        if self._question is not None or self._has(_DERP) or self._dialling(_DERP):
            return None
        return self._relays.due(0.0 if self._urgent() else STANDBY_S)

    def _ping(self, out: list[Command]) -> None:
        current, waiting = self._in_use(), self._activity.waiting_since
        asked_at = None if current is None else current.pinged_at
        troubled = asked_at is not None and self._now - asked_at >= UNACKED_S
        waits = waiting is not None and self._now - waiting >= UNACKED_S
        for candidate in self._candidates.values():
            if not candidate.up or candidate.pinged_at is not None:
                continue
            aside = LOOK_S if troubled else STANDBY_PING_S
            quiet = candidate.ping_after_s(waits) if candidate is current else aside
            if self._now - max(candidate.heard_at, candidate.since) >= quiet:
                out.append(candidate.ping(self._now, ANSWER_S))

    def _show(self, out: list[Command]) -> None:
        current = self._in_use()
        if current is not None and current.is_silent(self._now):
            assert current.pinged_at is not None, "silent"
            self._stalled = self._stalled or Stalled(current.pinged_at, "no answer")
        elif current is not None:
            gap_s = 0.0 if self._stalled is None else self._now - self._stalled.since
            if not isinstance(self._shown, Carried) or self._shown.number != current.number:
                self._shown = Carried(current.number, current.method, current.where, gap_s)
                out.append(Show(self._shown))
            self._stalled = None
        if self._stalled is not None and self._attached and self._shown != self._stalled:
            self._shown = self._stalled
            out.append(Show(self._stalled))

    # -- small things --------------------------------------------------------------------

    def _in_use(self) -> Candidate | None:
        return None if self._current is None else self._candidates[self._current]

    def _urgent(self) -> bool:
        current = self._in_use()
        return current is None or not current.is_sound(self._now)

    def _has(self, method: ConnectionMethod) -> bool:
        return any(
            candidate.method is method and candidate.is_lasting(self._now)
            for candidate in self._candidates.values()
        )

    def _dialling(self, method: ConnectionMethod) -> bool:
        return any(
            candidate.method is method and not candidate.up
            for candidate in self._candidates.values()
        )

    def _room(self) -> bool:
        """Whether a direct attempt may start: one place is reserved for a relay."""
        return sum(not candidate.up for candidate in self._candidates.values()) < MAX_DIALS - 1

    def _patience(self) -> float:
        return self._resume_s if self._attached else START_S

    def _dial_relay(self, number: int, relay: RelayTicket, now: float, out: list[Command]) -> None:
        self._candidates[number] = Candidate(number, _DERP, relay.url, relay.region, now)
        out.append(DialRelay(number, relay, self._small_segments))

    def _note_failure(
        self, candidate: Candidate, lived: float, now: float, *, at_fault: bool
    ) -> None:
        if candidate.method is _DERP:
            self._relays.ended(now, lived)
            if at_fault:
                self._avoid[candidate.address] = now + FORGET_S
        else:
            self._endpoints.next_at = now
            all_tried = not (self._endpoints.waiting or self._dialling(_DIRECT))
            if candidate.up or all_tried:
                self._direct.ended(now, lived)

    def _no_way(self) -> str:
        """Why nothing carries the tunnel. At the start a relay is to be had by anybody, and its failure
        tells most; the agent's addresses are often out of reach."""
        url, why = self._relay_failure
        if self._attached or not url:
            return self._last_failure
        sentence = f"the relay {url} could not be used ({why or 'it did not answer'})"
        if addresses := ", ".join(self._endpoints.offered):
            sentence += f", and nothing answers at the agent's own addresses ({addresses})"
        return sentence

    def _end(self, over: Over) -> list[Command]:
        self._over = True
        return [over]
