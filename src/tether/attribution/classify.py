"""The judgement: a case in, a verdict out. Pure, total, and independent of the order of the facts.

Law: nothing here decides; `rules.py` does. This file finds the first rule that matches and gathers
what the rule does not choose: actor, exit status, and one line of detail for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tether.attribution import evidence as ev
from tether.attribution.causes import CATALOGUE, POLICY_REFUSALS, PROTOCOL_ERRORS
from tether.attribution.disconnect import Disconnect
from tether.attribution.evidence import Evidence
from tether.attribution.predicates import AGENT_FAILED_EXIT_CODE, Case
from tether.attribution.rules import RULES, Rule
from tether.attribution.vocabulary import Basis, ConnectType


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided, and by which rule."""

    disconnect: Disconnect
    rule: str
    because: str


def classify(
    connect_type: ConnectType, facts: Iterable[Evidence], rules: tuple[Rule, ...] = RULES
) -> Verdict:
    """Judge one end of one connection.

    Args:
        connect_type: which parties the connection joined.
        facts: the facts of all vantages, without the symptoms.
        rules: the table; its last rule must take anything.
    """
    case = Case(connect_type, tuple(facts))
    rule = next(rule for rule in rules if rule.when(case))
    cause = rule.decide(case)
    ended: list[ev.SessionEnded | ev.IdeBackendGone] = [
        *case.all(ev.SessionEnded)[-1:],
        *case.all(ev.IdeBackendGone)[-1:],
    ]
    disconnect = Disconnect(
        connect_type=connect_type,
        cause=cause,
        basis=rule.basis,
        actor=_actor(case, cause),
        detail=_detail(case, rule, cause),
        exit_code=ended[0].exit_code if ended else None,
        exit_signal=ended[0].exit_signal if ended else None,
    )
    return Verdict(disconnect, rule.name, rule.because)


def _actor(case: Case, cause: str) -> str:
    """Who is behind the initiator, where a party said so or the kernel told us."""
    for goodbye in case.all(ev.GoodbyeSaid):
        if goodbye.cause == cause and goodbye.actor:
            return goodbye.actor
    for session in case.all(ev.SessionEnded)[-1:]:
        if session.cause == cause and session.actor:
            return session.actor
    for signal in case.all(ev.SignalReceived):
        if cause.startswith(f"{signal.party}."):
            return signal_actor(signal.signal, signal.sender)
    for refused in case.all(ev.PolicyRefused):
        if cause == POLICY_REFUSALS[refused.policy]:
            return f"policy:{refused.policy}"
    return "kernel:oom" if cause == "ide.backend_oom_killed" else ""


def _detail(case: Case, rule: Rule, cause: str) -> str:
    said = [fact.detail for fact in case.all(ev.GoodbyeSaid) if fact.cause == cause]
    if said and said[0]:
        return said[0]
    for violated in case.all(ev.ProtocolViolated):
        if cause in PROTOCOL_ERRORS.values():
            return violated.what
    for session in case.all(ev.SessionEnded)[-1:]:
        if cause == "session.exit" and session.exit_code == AGENT_FAILED_EXIT_CODE:
            return (
                f"exit code {AGENT_FAILED_EXIT_CODE} is what the agent sends for a session that it "
                f"could not start; its log says why"
            )
    for failed in case.all(ev.InternalFailure):
        if cause == f"{failed.party}.internal_error":
            return failed.what
    for refused in case.all(ev.AccessRefused):
        if refused.detail and cause.startswith("auth."):
            return refused.detail
    for gone in case.all(ev.IdeBackendGone):
        if cause.startswith("ide."):
            return f"{rule.because} (pid {gone.pid}{_exit_of(gone)})"
    if cause not in CATALOGUE:
        return f"a cause that this version does not know: {cause}"
    inferred = case.all(ev.StreamEnded) if rule.basis is Basis.INFERRED else []
    for ended in inferred:
        if ended.close_code == 1000:
            continue  # an orderly close after goodbyes: what followed, not what it was concluded from
        return f"{rule.because} ({ended.vantage} saw {ended.peer}: {_how(ended)})"
    return rule.because


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


def signal_actor(number: int, sender: str) -> str:
    """The actor's words for a signal: `signal:15 from pid 1 uid 0`."""
    return f"signal:{number} from {sender}" if sender else f"signal:{number}"
