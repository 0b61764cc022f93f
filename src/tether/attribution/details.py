"""The one line of detail for people: what the verdict was concluded from, in plain words.

Law: words only; nothing reads them back.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import CONTEXT, Case
from tether.attribution.causes.catalogue import CATALOGUE, PROTOCOL_ERRORS
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import AGENT_FAILED_EXIT_CODE, Basis

MAX_WORDS = 4
"""So many facts a detail names; the record has them all."""


def detail_of(case: Case, rule: Rule, cause: str) -> str:
    """What is worth a line beside the sentence of `cause`."""
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
        if cause.endswith(".internal_error"):
            return failed.what
    for refused in case.all(ev.AccessRefused):
        if refused.detail and cause.startswith("auth."):
            return refused.detail
    for gone in case.all(ev.IdeBackendGone):
        if cause.startswith("ide."):
            return f"{rule.because} (pid {gone.pid}{_exit_of(gone)})"
    if cause not in CATALOGUE:
        return f"a cause that this version does not know: {cause}"
    words = context(case) if case.kinds & CONTEXT else []
    if rule.basis is Basis.INFERRED:
        words += [
            f"{ended.vantage} saw {ended.peer}: {_how(ended)}"
            for ended in case.all(ev.StreamEnded)
            if ended.close_code
            != 1000  # after goodbyes: what followed, not what it was concluded from
        ][:1]
    return f"{rule.because} ({'; '.join(words[:MAX_WORDS])})" if words else rule.because


def context(case: Case) -> list[str]:
    """The facts about hosts, networks and runs, each in a few words."""
    words = []
    for slept in case.all(ev.Suspended):
        words.append(f"the {slept.party}'s machine slept for {slept.gap_s:.0f} s")
    for stalled in case.all(ev.LoopStalled):
        words.append(f"the {stalled.party} did not run for {stalled.gap_s:.0f} s")
    for pressure in case.all(ev.Pressure):
        words.append(
            f"{pressure.resource} pressure at the {pressure.party}: {pressure.full_avg10:.0f} %"
        )
    for exhausted in case.all(ev.Exhausted):
        words.append(
            f"no {exhausted.resource} left at the {exhausted.party} {exhausted.where}".strip()
        )
    for died in case.all(ev.PreviousRunDied):
        words += _death(died)
    for link in case.all(ev.LinkChanged):
        words.append(
            f"{link.interface} of the {link.party} {'came up' if link.up else 'went down'}"
        )
    for route in case.all(ev.RouteChanged):
        words.append(f"the {route.party}'s route now leads over {route.interface or 'nothing'}")
    for address in case.all(ev.AddressChanged):
        words.append(f"the {address.party}'s address changed")
    for redial in case.all(ev.RedialFailed):
        status = f" {redial.status}" if redial.status else ""
        words.append(f"the {redial.party}'s next dial failed: {redial.stage}{status}")
    for others in case.all(ev.OthersAnswered):
        words.append(f"{others.answered} of {others.asked} others answered the {others.party}")
    for cut in case.all(ev.CutWhenIdle)[-1:]:
        words.append(
            f"{cut.cuts} streams of the {cut.party} were cut after {cut.idle_s:.0f} s idle"
        )
    for near in case.all(ev.NeighbourEnded):
        words.append(f"another connection of the {near.party}: {near.cause}")
    for together in case.all(ev.EndedTogether):
        words.append(f"{together.ended} of the {together.element} ended, {together.alive} live")
    return words


def _death(died: ev.PreviousRunDied) -> list[str]:
    words = [f"signal {died.signal}"] if died.signal else []
    if died.exit_status is not None:
        words.append(f"exit status {died.exit_status}")
    if died.core:
        words.append("it left a core")
    if died.oom_kills:
        words.append(f"{died.oom_kills} out-of-memory kills in its memory cgroup")
    return words


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
