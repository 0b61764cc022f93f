"""The one line of detail for people: what the verdict was concluded from, in plain words.

Law: words only; nothing reads them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tether.attribution import evidence as ev
from tether.attribution.case import CONTEXT, Case
from tether.attribution.causes.catalogue import CATALOGUE, PROTOCOL_ERRORS
from tether.attribution.causes.codes import SESSION_EXIT
from tether.attribution.evidence import F, Fact
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import AGENT_FAILED_EXIT_CODE, Basis

MAX_WORDS = 4
"""So many facts a detail names; the record has them all."""

NORMAL_CLOSURE = 1000
"""The WebSocket close code of a stream that was closed after goodbyes."""


def detail_of(case: Case, rule: Rule, cause: str) -> str:
    """What is worth a line beside the sentence of `cause`."""
    if told := next(filter(None, _told(case, rule, cause)), ""):
        return told
    if cause not in CATALOGUE:
        return f"a cause that this version does not know: {cause}"
    words = context(case) if case.kinds & CONTEXT else []
    if rule.basis is Basis.INFERRED:
        words += [
            f"{ended.vantage} saw {ended.peer}: {_how(ended)}"
            for ended in case.all(ev.StreamEnded)
            if ended.close_code != NORMAL_CLOSURE  # what followed is not what it was concluded from
        ][:1]
        words += [
            f"the {ended.vantage} sees the {ended.peer} through the proxy {ended.proxy}"
            for ended in case.all(ev.StreamEnded)
            if ended.proxy
        ][:1]
    return f"{rule.because} ({'; '.join(words[:MAX_WORDS])})" if words else rule.because


def _told(case: Case, rule: Rule, cause: str) -> Iterator[str]:
    """What a fact that is about the cause itself tells, most telling first; "" where it has no words."""
    for said in case.all(ev.GoodbyeSaid):
        if said.cause == cause:
            yield said.detail
            break
    for offers in case.all(ev.NoCommonAlgorithm):
        if cause == "client.no_common_algorithm":
            yield (
                f"no {offers.purpose} in common: the client offers {offers.theirs or 'none'}, the "
                f"agent {offers.ours}"
            )
    for left in case.all(ev.HandshakeUnfinished):
        if cause == "auth.never_authenticated":
            yield f"{left.client or 'the client'} tried: {left.methods or 'nothing'}"
    for violated in case.all(ev.ProtocolViolated):
        if cause in PROTOCOL_ERRORS.values():
            yield violated.what
    for session in case.all(ev.SessionEnded)[-1:]:
        if cause == SESSION_EXIT:
            yield _failed_start(session)
    for failed in case.all(ev.InternalFailure):
        if cause.endswith(".internal_error"):
            yield failed.what
    for refused in case.all(ev.AccessRefused):
        if cause.startswith("auth."):
            yield refused.detail
    for gone in case.all(ev.IdeBackendGone):
        if cause.startswith("ide."):
            yield f"{rule.because} (pid {gone.pid}{_exit_of(gone)})"


def _failed_start(session: ev.SessionEnded) -> str:
    if session.exit_code != AGENT_FAILED_EXIT_CODE:
        return ""
    return (
        f"exit code {AGENT_FAILED_EXIT_CODE} is what the agent sends for a session that it "
        f"could not start; its log says why"
    )


def context(case: Case) -> list[str]:
    """The facts about hosts, networks and runs, each in a few words."""
    return [words for kind, tell in _CONTEXT_WORDS if kind in case.kinds for words in tell(case)]


_Told = tuple[type[Fact], Callable[[Case], Iterable[str]]]


def _each(kind: type[F], say: Callable[[F], str]) -> _Told:
    return kind, lambda case: map(say, case.all(kind))


def _last(kind: type[F], say: Callable[[F], str]) -> _Told:
    return kind, lambda case: map(say, case.all(kind)[-1:])


def _pressure(fact: ev.Pressure) -> str:
    return f"{fact.resource} pressure at the {fact.party}: {fact.full_avg10:.0f} %"


def _exhausted(fact: ev.Exhausted) -> str:
    return f"no {fact.resource} left at the {fact.party} {fact.where}".strip()


def _deaths(case: Case) -> Iterator[str]:
    for died in case.all(ev.PreviousRunDied):
        if died.signal:
            yield f"signal {died.signal}"
        if died.exit_status is not None:
            yield f"exit status {died.exit_status}"
        if died.core:
            yield "it left a core"
        if died.oom_kills:
            yield f"{died.oom_kills} out-of-memory kills in its memory cgroup"


def _link(fact: ev.LinkChanged) -> str:
    return f"{fact.interface} of the {fact.party} {'came up' if fact.up else 'went down'}"


def _route(fact: ev.RouteChanged) -> str:
    return f"the {fact.party}'s route now leads over {fact.interface or 'nothing'}"


def _redial(fact: ev.RedialFailed) -> str:
    status = f" {fact.status}" if fact.status else ""
    return f"the {fact.party}'s next dial failed: {fact.stage}{status}"


def _others(fact: ev.OthersAnswered) -> str:
    return f"{fact.answered} of {fact.asked} others answered the {fact.party}"


def _idle_cuts(fact: ev.CutWhenIdle) -> str:
    return f"{fact.cuts} streams of the {fact.party} were cut after {fact.idle_s:.0f} s idle"


_CONTEXT_WORDS: tuple[_Told, ...] = (
    _each(ev.Suspended, lambda f: f"the {f.party}'s machine slept for {f.gap_s:.0f} s"),
    _each(ev.LoopStalled, lambda f: f"the {f.party} did not run for {f.gap_s:.0f} s"),
    _each(ev.Pressure, _pressure),
    _each(ev.Exhausted, _exhausted),
    (ev.PreviousRunDied, _deaths),
    _each(ev.LinkChanged, _link),
    _each(ev.RouteChanged, _route),
    _each(ev.AddressChanged, lambda f: f"the {f.party}'s address changed"),
    _each(ev.RedialFailed, _redial),
    _each(ev.OthersAnswered, _others),
    _last(ev.CutWhenIdle, _idle_cuts),
    _each(ev.NeighbourEnded, lambda f: f"another connection of the {f.party}: {f.cause}"),
    _each(ev.EndedTogether, lambda f: f"{f.ended} of the {f.element} ended, {f.alive} live"),
)
"""What each kind of context is said with, in the order in which it is told."""


def _how(ended: ev.StreamEnded) -> str:
    parts = [str(ended.how)]
    if ended.errno:
        parts.append(ended.errno)
    if ended.silence_s is not None:
        parts.append(f"silent for {ended.silence_s:.0f} s")
    return ", ".join(parts)


def _exit_of(gone: ev.IdeBackendGone) -> str:
    parts = []
    if gone.exit_code is not None:
        parts.append(f", exit code {gone.exit_code}")
    if gone.exit_signal is not None:
        parts.append(f", signal {gone.exit_signal}")
    if gone.oom_kills:
        parts.append(f", {gone.oom_kills} out-of-memory kills in its memory cgroup")
    return "".join(parts)
