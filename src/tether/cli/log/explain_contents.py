"""What ran over a connection, line by line: IDE sessions, forwarded connections, file operations.

Law: as `connections`: shows the record, decides nothing. Lists are cut to what a person reads; the
JSON has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tether.attribution.causes.catalogue import CATALOGUE
from tether.cli.output import clean, local_time, size, span

SHOWN = 20
"""Lines of one list."""

_ENDS = {
    "client_closed": "closed by the client",
    "workspace_closed": "closed by the workspace",
    "workspace_reset": "reset by the workspace",
    "connection_ended": "ended with the connection",
    "refused": "refused: nothing was there",
    "blocked": "blocked by policy",
    "failed": "failed",
}
"""How a forwarded connection ended, in words for people."""

_KINDS = {
    "direct_tcpip": "to",
    "direct_streamlocal": "to",
    "forwarded_tcpip": "back from",
    "forwarded_streamlocal": "back from",
    "agent": "to the client's ssh-agent",
    "x11": "to the client's display",
}


def contents(told: dict[str, Any]) -> Iterator[str]:
    """Everything that ran over it but its sessions."""
    yield from _children(told.get("children") or [])
    yield from _ide(told.get("ide") or {})
    yield from _forwards(told.get("forwards") or [], told.get("forwards_total") or 0)
    for audit in told.get("file_operations") or []:
        yield from _files(audit)


def _children(children: list[dict[str, Any]]) -> Iterator[str]:
    if children:
        yield ""
        yield "IDE sessions"
    for child in children[:SHOWN]:
        cause = str(child.get("disconnect_cause") or "")
        title = CATALOGUE[cause].title if cause in CATALOGUE else cause
        ended = local_time(child.get("disconnected_at"))
        yield (
            f"  {clean(child.get('connection_id'))[:8]}  {clean(child.get('type'))},"
            f" {local_time(child.get('connected_at'))} to {ended or 'now'}"
            + (f": {clean(title)}" if ended else "")
        )
    yield from _rest(len(children) - SHOWN)


def _ide(ide: dict[str, Any]) -> Iterator[str]:
    if not ide:
        return
    yield ""
    yield "IDE"
    marker = clean(ide.get("backend_marker"))
    yield f"  backend     pid {ide.get('backend_pid')} ({marker})"
    if ide.get("caused_by"):
        yield f"  ended with  {clean(ide['caused_by'])}"
    total = ide.get("channels_total") or 0
    yield f"  channels    {total}"
    channels = ide.get("channels") or []
    for channel in channels[:SHOWN]:
        lasted = f"{local_time(channel.get('started_at'))} to {local_time(channel.get('ended_at'))}"
        yield f"  {clean(channel.get('destination'))}, {lasted}, {_end(channel)}, {_bytes(channel)}"
    yield from _rest(total - len(channels[:SHOWN]))


def _forwards(forwards: list[dict[str, Any]], total: int) -> Iterator[str]:
    if not forwards:
        return
    alone = [one for one in forwards if one.get("forward_id") is not None]
    many = [one for one in forwards if one.get("forward_id") is None]
    yield ""
    yield f"Forwarded connections: {total}"
    for one in alone[:SHOWN]:
        lasted = span(one.get("duration_s")) if one.get("ended_at") else "open"
        yield f"  {_where(one)}, {lasted}, {_end(one)}, {_bytes(one)}{_detail(one)}"
    for one in many[:SHOWN]:
        ends = ", ".join(
            f"{count} {_ENDS.get(end, clean(end))}"
            for end, count in (one.get("ends") or {}).items()
        )
        yield (
            f"  {_where(one)}, {one.get('count')} more: {ends or 'none ended'},"
            f" at most {span(one.get('duration_s'))}, {_bytes(one)}"
        )
    shown = len(alone[:SHOWN]) + sum(one.get("count") or 0 for one in many[:SHOWN])
    yield from _rest(total - shown)


def _files(audit: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"File operations asked for by {clean(audit.get('program'))}"
    operations = audit.get("operations") or []
    for one in operations[:SHOWN]:
        target = f" -> {clean(one['target'])}" if one.get("target") else ""
        count = one.get("count") or 1
        times = f", {count} times" if count > 1 else ""
        act = clean(one.get("act")).replace("_", " ")
        yield f"  {local_time(one.get('first_at'))}  {act} {clean(one.get('path'))}{target}{times}"
    yield from _rest(len(operations) - SHOWN)
    if audit.get("more"):
        yield "  and others: `--json` and the API have more"
    if audit.get("left_out"):
        yield f"  and {audit['left_out']} requests that were too many to be kept"
    if audit.get("complete") is False:
        yield "  the rest of the session could not be followed"


def _rest(count: int) -> Iterator[str]:
    if count > 0:
        yield f"  and {count} more"


def _where(one: dict[str, Any]) -> str:
    kind = str(one.get("kind") or "")
    way = _KINDS.get(kind, clean(kind).replace("_", " "))
    destination = clean(one.get("destination"))
    return way if kind in ("agent", "x11") else f"{way} {destination}"


def _end(one: dict[str, Any]) -> str:
    end = str(one.get("end") or "")
    return _ENDS.get(end, clean(end) or "not ended")


def _bytes(one: dict[str, Any]) -> str:
    return f"{size(one.get('rx_bytes'))} in, {size(one.get('tx_bytes'))} out"


def _detail(one: dict[str, Any]) -> str:
    said = clean(one.get("detail")) or clean(one.get("cause"))
    return f" ({said})" if said else ""


def path_lines(told: dict[str, Any]) -> Iterator[str]:
    """What happened to a tunnel's way, one event a line; a lone first carrier is no story."""
    events, total = told.get("path_events") or [], told.get("path_events_total") or 0
    if len(events) < 2:
        return
    yield ""
    left_out = total - len(events)
    some = f", {left_out} in between are not kept" if left_out > 0 else ""
    yield f"Its way ({total} events{some})"
    for event in events:
        place = " ".join(
            word for word in (clean(event.get("method")), clean(event.get("where"))) if word
        )
        words = [
            f"{clean(event.get('event'))} {place}".strip(),
            f"after {span(event['gap_s'])}" if event.get("gap_s") else "",
            f"the {clean(event['peer'])}'s stream: {_how(event)}" if event.get("peer") else "",
            f"{size(event['resent_bytes'])} sent again" if event.get("resent_bytes") else "",
        ]
        line = ", ".join(word for word in words if word)
        yield f"  {local_time(event.get('at'))}  {line}"


def _how(event: dict[str, Any]) -> str:
    how, errno = clean(event.get("how")), clean(event.get("errno"))
    return f"{how} ({errno})" if errno else how
