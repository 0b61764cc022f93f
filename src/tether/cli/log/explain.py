"""`tether explain ID`: one end told to a person, with everything it was concluded from.

Law: as `connections`: shows the record, decides nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from tether.cli.api import Api, segment
from tether.cli.log.explain_contents import contents, path_lines
from tether.cli.output import (
    clean,
    json_option,
    local_time,
    moment,
    print_json,
    size,
    span,
    zoned_time,
)
from tether.config import load

_WAYS = {"derp": " through a relay", "direct": " on a direct path"}


@click.command()
@click.argument("connection_id", metavar="ID")
@json_option
def explain(connection_id: str, as_json: bool) -> None:
    """Explain one connection's end, with its evidence.

    ID is the first column of `tether connections`; the first characters suffice.

    \b
    Examples:
      tether explain 3f2a9c01
      tether explain 3f2a9c01 --json | jq .evidence
    """
    told = Api(load(os.environ)).get(f"/connections/{segment(connection_id)}")
    if as_json:
        print_json(told)
        return
    for line in paragraphs(told):
        click.echo(line)


def paragraphs(told: dict[str, Any]) -> Iterator[str]:
    """The explanation, line by line."""
    if told.get("sentence"):
        yield clean(told["sentence"])
    if told.get("advice"):
        yield clean(told["advice"])
    yield ""
    for label, value in facts(told):
        if value not in (None, ""):
            yield f"  {label:<12}{clean(value)}"
    yield from _sessions(told.get("sessions") or [], over=bool(told.get("disconnected_at")))
    yield from contents(told)
    yield from path_lines(told)
    yield from _timeline("Evidence", told.get("evidence") or [])
    listed = [one for one in told.get("symptoms") or [] if one.get("kind") != "connection_ended"]
    yield from _timeline("What followed from it", listed)
    yield from _explains(told.get("explains") or [])
    yield from _revisions(told.get("revisions") or [])


def facts(told: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The fields of the record that a person wants first."""
    yield "connection", told.get("id") or told.get("connection_id")
    yield "workspace", told.get("workspace")
    yield "user", told.get("user")
    address = f" from {told['client_ip']}" if told.get("client_ip") else ""
    way = str(told.get("connection_method") or "")
    method = _WAYS.get(way, f" over {way}" if way else "")
    app = told.get("app")
    named = f" ({app})" if app and app != told.get("type") else ""
    yield "type", f"{told.get('type', '')}{named}{method}{address}"
    yield "began on", told.get("parent_id")
    yield "began", zoned_time(told.get("connected_at"))
    if not told.get("disconnected_at"):
        since = zoned_time(told.get("detached_since"))
        yield "ended", f"not yet: detached since {since}" if since else "not yet: it is ongoing"
        return
    lasted = span(told.get("duration_s"))
    yield "ended", zoned_time(told["disconnected_at"]) + (f", after {lasted}" if lasted else "")
    yield "reason", told.get("disconnect_reason")
    yield "cause", told.get("disconnect_cause")
    yield "begun by", told.get("disconnect_initiator") or "nobody can tell"
    yield "actor", told.get("disconnect_actor")
    yield "expected", "yes" if told.get("disconnect_expected") else "no: look into it"
    sure = told.get("confidence")
    yield "known as", f"{told.get('disconnect_basis')}{f', confidence {sure}' if sure else ''}"
    if told.get("proximate_cause"):
        yield "looked like", told["proximate_cause"]
    yield "rule", told.get("rule")
    because, detail = str(told.get("because") or ""), str(told.get("disconnect_detail") or "")
    if detail.startswith(because):  # the same, and what was seen besides
        because, detail = detail, ""
    yield "because", because
    yield "detail", detail
    yield "exit code", told.get("exit_code")
    yield "exit signal", told.get("exit_signal")
    if told.get("rx_bytes") is not None and told.get("tx_bytes") is not None:
        yield "bytes", f"{size(told['rx_bytes'])} to the agent, {size(told['tx_bytes'])} back"
    yield "lifecycle", _life(told.get("agent_states") or [])
    yield "incident", told.get("incident_id")
    if told.get("root_event_id") not in (None, told.get("id"), told.get("connection_id")):
        yield "began with", told["root_event_id"]


def _life(states: list[dict[str, Any]]) -> str:
    """What that run of the agent told of itself, where it was more than that it is ready."""
    if not any(str(one.get("state")).startswith("shut") for one in states):
        return ""
    words = (f"{one.get('state')} {local_time(one.get('at'))[-8:]}" for one in states)
    return ", ".join(words).replace("_", " ")


def _sessions(sessions: list[dict[str, Any]], *, over: bool) -> Iterator[str]:
    if sessions:
        yield ""
        yield "Sessions"
    for session in sessions:
        open_still = "an end that was not reported" if over else "now"
        ended = local_time(session.get("ended_at")) or open_still
        outlived = local_time(session.get("process_ended_at"))
        kind = clean(session.get("session_type") or session.get("type"))
        app = clean(session.get("app"))
        words = [
            f"{kind} ({app})" if app and app != kind else kind,
            "with a terminal" if session.get("pty") else "",
            f"{local_time(session.get('started_at'))} to {ended}",
            f"its process until {outlived}" if outlived else "",
            f"exit code {session['exit_code']}" if session.get("exit_code") is not None else "",
            f"signal {clean(session['exit_signal'])}" if session.get("exit_signal") else "",
        ]
        yield "  " + ", ".join(word for word in words if word)


_HEARSAY = " (hearsay: not judged)"
"""Behind a fact that its reporter cannot have seen or done."""


def _timeline(heading: str, records: list[dict[str, Any]]) -> Iterator[str]:
    if records:
        yield ""
        yield f"{heading} (each by its observer's own clock)"
    for record in sorted(records, key=lambda record: str(record.get("at"))):
        values = ", ".join(
            f"{key}={clean(_shown(key, value))}"
            for key, value in (record.get("values") or {}).items()
            if _tells(str(record.get("kind")), key, value)
        )
        at = moment(record.get("at"))
        time = at.astimezone().strftime("%H:%M:%S.%f")[:-3] if at else " " * 12
        kind = clean(record.get("kind")).replace("_", " ")
        told = f"{kind}{f': {values}' if values else ''}{_HEARSAY if record.get('hearsay') else ''}"
        yield f"  {time}  {clean(record.get('vantage')):<7} {told}"


def _tells(kind: str, key: str, value: object) -> bool:
    """Whether a person learns something from it. `--json` has all."""
    if value is None or value == "":
        return False
    if kind == "tcp_counters":
        return bool(value) and key not in ("pmtu", "snd_mss", "rtt_us")
    if isinstance(value, bool):
        return value or key.startswith("same_")
    return key != "signal" or value != 0


def _shown(key: str, value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_at") and isinstance(value, float):
        with suppress(ValueError, OverflowError):  # what somebody handed in may be no time
            return local_time(datetime.fromtimestamp(value, UTC).isoformat())
    return value


def _explains(ends: list[dict[str, Any]]) -> Iterator[str]:
    if ends:
        yield ""
        others = "another connection" if len(ends) == 1 else f"{len(ends)} other connections"
        yield f"With it ended {others}"
    for end in ends:
        words = [clean(end.get(key)) for key in ("connect_type", "workspace", "user")]
        about = " ".join(word for word in words if word)
        at = local_time(end.get("disconnected_at"))
        cause = clean(end.get("disconnect_cause"))
        yield f"  {clean(end.get('connection_id'))[:8]}  {at}  {about}: {cause}"


def _revisions(revisions: list[dict[str, Any]]) -> Iterator[str]:
    if len(revisions) < 2:
        return  # the first judgement alone is no revision
    yield ""
    yield "Judgements, latest last"
    for revision in revisions:
        number = revision.get("revision", "")
        cause = clean(revision.get("disconnect_cause"))
        at = local_time(revision.get("at"))
        yield f"  {number}  {at}  {cause}  (rule {clean(revision.get('rule'))})"
