"""Writes the generated parts of docs/ from the tables in the source; with `--check` it only compares.

Law: what a table in the source says is never written by hand a second time. A page is whole
(docs/vocabulary.md), or prose with generated parts between `<!-- generated: NAME -->` and
`<!-- end -->` (docs/protocol.md, docs/logging.md, docs/attribution.md).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.causes.cause import Cause
from tether.attribution.causes.codes import CLIENT_CLOSED
from tether.attribution.classify import classify
from tether.attribution.examples.facts import behind_a_proxy
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.mappings import outside
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.rules.table import RULES
from tether.attribution.ssh_clients import FAMILIES, OTHERS
from tether.attribution.vocabulary import (
    COARSE,
    TITLES,
    AccessRefusal,
    Basis,
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Correction,
    DialStage,
    Element,
    HandshakeStage,
    Initiator,
    OomVictim,
    Party,
    Policy,
    Purpose,
    Reach,
    Reason,
    Resource,
    StreamEnd,
    Vantage,
)
from tether.protocol.messages import codec, control, derp, probe, reports, tunnel
from tether.protocol.messages.base import FactRecord, Message, wire_name
from tether.protocol.terminal import messages as terminal

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "tether"
DOCS = ROOT / "docs"

FIELDS: Mapping[str, tuple[type[StrEnum] | None, str]] = {
    "connect_type": (ConnectType, "The two parties that the connection joined."),
    "disconnect_reason": (Reason, "What happened."),
    "disconnect_expected": (None, "`true`: part of normal operation; `false`: investigate."),
    "disconnect_initiator": (Initiator, 'Who began the end; `""` where nobody can tell.'),
    "disconnect_detail": (None, "Free text for people, which no program parses."),
    "disconnect_cause": (None, "A code of the catalogue of causes below."),
    "disconnect_basis": (
        Basis,
        "How it is known: a party said so, somebody saw it, a rule concluded it.",
    ),
    "disconnect_actor": (
        None,
        "Who is behind the initiator, where known: `user:alice`, `policy:autostop`, "
        "`signal:15 from pid 1 uid 0`.",
    ),
    "exit_code": (None, "The exit code of the last session's process, where it exited."),
    "exit_signal": (None, "The signal that ended the last session's process, where one did."),
    "connection_method": (ConnectionMethod, "How the bytes of a tunnel travelled."),
}
OTHER_WORDS: tuple[tuple[type[StrEnum], str], ...] = (
    (ConnectionType, "`type`, what ran over a connection"),
    (StreamEnd, "`how` of `stream_ended`, how a byte stream stopped without a goodbye"),
    (Reach, "`reach` of `stream_ended`, `carrier_ended` and `tcp_counters`"),
    (AccessRefusal, "`why` of `access_refused`"),
    (Policy, "`policy` of `policy_refused`"),
    (HandshakeStage, "`stage` of `handshake_unfinished`, how far the client had come"),
    (DialStage, "`stage` of `redial_failed`, how far the dial came"),
    (Resource, "`resource` of `exhausted` and `pressure`"),
    (OomVictim, "`victim` of `oom_kills`, seen from the process that tells"),
    (Element, "`element` of a cause, of an incident and of `ended_together`, what ends share"),
    (Correction, "what may correct a cause"),
    (Purpose, "`purpose` of a tunnel, what the agent serves on it"),
    (Party, "who is at an end of a stream"),
    (Vantage, "who saw a fact"),
)


# -- Markdown ---------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def code(value: object) -> str:
    """`value` as code; the empty string is shown as what it is in JSON."""
    text = str(value) if str(value) else '""'
    return f"`{text}`"


def codes(values: Iterable[object]) -> str:
    return ", ".join(code(value) for value in values)


def noted(words: type[StrEnum]) -> str:
    """The words of an enum, each with the comment that follows it in the source."""
    notes = dict(re.findall(r"^    (\w+) = .*  # (.+)$", inspect.getsource(words), re.MULTILINE))
    return "<br>".join(
        f"{code(word)}: {notes[word.name]}" if word.name in notes else code(word) for word in words
    )


def first_paragraph(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0]


# -- docs/vocabulary.md -----------------------------------------------------------------


def vocabulary() -> str:
    """The whole page."""
    return "\n\n".join(
        [
            "# Vocabulary",
            "<!-- Written by scripts/gen_docs.py from src/tether/attribution/. Do not edit: run "
            "`make docs`. -->",
            "Every end of a connection is logged and stored with the same words. Readers can rely on "
            "them: no word is ever renamed, and the table of reasons gives the public word that "
            "stands for a newer reason.",
            "## Fields",
            table(
                ("field", "values", "meaning"),
                (
                    (code(name), codes(words) if words else "", meaning)
                    for name, (words, meaning) in FIELDS.items()
                ),
            ),
            "## Reasons",
            "A reason says what happened, never who did it or where it was seen. Readers that know only "
            "the first eight reasons are given the `public word`.",
            table(
                ("reason", "title", "public word", "causes"),
                (
                    (
                        code(reason),
                        TITLES[reason],
                        code(COARSE[reason]),
                        codes(row.code for row in CATALOGUE.values() if row.reason is reason),
                    )
                    for reason in Reason
                ),
            ),
            "## Causes",
            "Reason, initiator and expected follow from the cause; nothing in the source sets them by "
            "hand.",
            table(
                ("cause", "reason", "initiator", "expected", "title", "what people read", "advice"),
                (
                    (
                        code(row.code),
                        code(row.reason),
                        code(row.initiator),
                        "yes" if row.expected else "**no**",
                        row.title,
                        row.sentence,
                        row.advice,
                    )
                    for row in CATALOGUE.values()
                ),
            ),
            "Ends that share an *element* are one incident. An *actor* stands here where nothing more "
            "can be known of who is behind the cause. What may *correct* a cause is looked up before "
            "the verdict stays at it, or is heard later ([words](#other-words)).",
            table(
                ("cause", "element", "actor", "corrected by"),
                (
                    (
                        code(row.code),
                        code(row.element) if row.element else "",
                        code(row.actor) if row.actor else "",
                        codes(row.corrected_by),
                    )
                    for row in CATALOGUE.values()
                    if row.element or row.actor or row.corrected_by
                ),
            ),
            "## In the words of others",
            "OpenTelemetry's `error.type` (not set where nothing went wrong), OCSF's Network Activity "
            "(`activity_id` 2 close, 3 reset, 4 fail, 5 refuse; `status_id` 1 success, 2 failure), "
            "the WebSocket close code, and the code of SSH_MSG_DISCONNECT.",
            table(
                ("cause", "`error.type`", "activity_id", "status_id", "WebSocket", "SSH"),
                (mapping(row) for row in CATALOGUE.values()),
            ),
            "## Rules",
            "From facts to a cause: the first rule that matches decides, and the record names it. "
            "`confidence` says how far to trust its conclusion.",
            table(
                ("", "rule", "when", "cause", "basis", "confidence", "because"),
                (
                    (
                        number,
                        code(rule.name),
                        rule.when.__name__,
                        code(rule.cause) if isinstance(rule.cause, str) else picked(rule.cause),
                        rule.basis,
                        rule.confidence,
                        rule.because,
                    )
                    for number, rule in enumerate(RULES, 1)
                ),
            ),
            "## Evidence",
            "A fact is what a party saw or said. Every fact also has its observer (`vantage`) and the "
            "time by the observer's clock (`at`, unix seconds).",
            table(
                ("kind", "values", "meaning"),
                (
                    (code(kind), codes(fact_fields(cls)), inspect.getdoc(cls))
                    for kind, cls in ev.KINDS.items()
                ),
            ),
            "## SSH clients",
            "What the end of an SSH client means that closes its pipe without SSH_MSG_DISCONNECT and "
            "without a signal to its ProxyCommand, by the software that it names (`client` of "
            "`authenticated`): a crash only where every other end would have told.",
            table(
                ("software", "its silent end", "how it is known"),
                (
                    (
                        f"{code(family.begins)}…" if family.begins else "others",
                        code(
                            "client.ssh_killed" if family.silent_end_is_a_crash else CLIENT_CLOSED
                        ),
                        family.evidence,
                    )
                    for family in (*FAMILIES, OTHERS)
                ),
            ),
            "## Other words",
            table(("where", "words"), ((where, noted(words)) for words, where in OTHER_WORDS)),
            "",
        ]
    )


def mapping(row: Cause) -> tuple[object, ...]:
    words = outside(row)
    return (
        code(row.code),
        code(words.error_type) if words.error_type else "",
        words.ocsf_activity_id,
        words.ocsf_status_id,
        words.websocket,
        words.ssh,
    )


def picked(pick: Callable[..., str]) -> str:
    return f"picked: {first_paragraph(pick)}"


def fact_fields(cls: type[ev.Fact]) -> list[str]:
    return [
        f"{field.name}: {field.type}"
        for field in dataclasses.fields(cls)
        if field.name not in ("vantage", "at")
    ]


# -- docs/protocol.md -------------------------------------------------------------------


def message_table(types: Mapping[str, type[msgspec.Struct]]) -> str:
    return table(
        ("type", "keys", "meaning"),
        ((code(name), "<br>".join(keys_of(cls)), about(cls)) for name, cls in types.items()),
    )


def keys_of(cls: type[msgspec.Struct]) -> list[str]:
    notes = attribute_notes(cls)
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        hints |= inspect.get_annotations(base)
    keys = []
    for field in msgspec.structs.fields(cls):
        optional = "" if field.required else "?"
        note = f" {notes[field.name]}" if field.name in notes else ""
        keys.append(f"{code(f'{field.encode_name}{optional}: {hints[field.name]}')}{note}")
    return keys


def about(cls: type[msgspec.Struct]) -> str:
    own = cls.__dict__.get("__doc__")
    return " ".join(inspect.cleandoc(own).split()) if own else ""


def attribute_notes(cls: type) -> dict[str, str]:
    """The strings that follow attributes in a class's source."""
    (body,) = (node for node in ast.parse(inspect.getsource(cls)).body)
    assert isinstance(body, ast.ClassDef)
    notes = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            notes[before.target.id] = " ".join(after.value.value.split())
    return notes


SHARED = (control.Ping, control.Pong, control.Goodbye, control.GoodbyeAck, control.Unsupported)
ON_TUNNELS = (
    *(tunnel.TunnelHello, tunnel.HalfClose, tunnel.LoginResult, tunnel.SessionResult),
    *(tunnel.Redraw, probe.ProbeStart, probe.ProbeStop, probe.ProbeResult),
)
OF_RELAYS = (
    *(derp.RelayRegister, derp.RelayRegistered, derp.RelayReport, derp.RelayReportAck),
    *(derp.RelayDraining, derp.RelayDrain, derp.RelayEnd),
)


def of_types(types: Iterable[type[Message]]) -> str:
    return message_table({wire_name(cls): cls for cls in types})


def protocol_parts() -> dict[str, str]:
    elsewhere = {*SHARED, *ON_TUNNELS, *OF_RELAYS}
    return {
        "numbers": table(
            ("name", "value"),
            (
                (code(name), code(getattr(codec, name)))
                for name in ("PROTOCOL", "MAX_CONTROL_MESSAGE", "MAX_TUNNEL_FRAME", "TUNNEL_CHUNK")
            ),
        ),
        "shared": of_types(SHARED),
        "control": of_types(cls for cls in codec.TYPES.values() if cls not in elsewhere),
        "tunnel": of_types(ON_TUNNELS),
        "facts": message_table({"fact record": FactRecord}),
        "items": message_table(tagged(reports.ReportItem.__args__)),
        "relays": of_types(OF_RELAYS)
        + "\n\n"
        + message_table({"carrier report": derp.CarrierReport}),
        "derp": message_table({"region": derp.DerpRegion, "node": derp.DerpNode}),
        "relay": message_table(tagged(derp.RelayWord.__args__)),
        "terminal": message_table(terminal.TYPES),
    }


def tagged(types: Iterable[type[msgspec.Struct]]) -> dict[str, type[msgspec.Struct]]:
    return {str(cls.__struct_config__.tag): cls for cls in types}


# -- docs/logging.md --------------------------------------------------------------------

LEVELS = ("error", "warning", "info", "debug")


@dataclasses.dataclass(frozen=True, order=True)
class Event:
    """One place that logs."""

    level: int
    name: str
    where: str
    fields: tuple[str, ...]


def events() -> list[Event]:
    """Every event with a constant name that the source logs."""
    found = set()
    for path in sorted(SRC.rglob("*.py")):
        where = path.relative_to(SRC).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                found |= {dataclasses.replace(event, where=where) for event in _event(node)}
    return sorted(found)


def _event(call: ast.Call) -> list[Event]:
    function = ast.unparse(call.func)
    receiver, _, method = function.rpartition(".")
    if function.endswith("disconnected") and len(call.args) > 1:
        level, name = "info", call.args[1]
    elif receiver.endswith(("log", "logger")) and call.args:
        level, name = {"exception": "error"}.get(method, method), call.args[0]
    else:
        return []
    if level not in LEVELS or not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return []
    fields = tuple(
        keyword.arg for keyword in call.keywords if keyword.arg not in (None, "exc_info")
    )
    ends = function.endswith("disconnected")
    return [
        Event(LEVELS.index(level), name.value, "", (*(("disconnect_*",) if ends else ()), *fields))
    ]


def logging_parts() -> dict[str, str]:
    found = events()
    parts = {}
    for number, level in enumerate(LEVELS):
        rows = [event for event in found if event.level == number]
        parts[level] = table(
            ("event", "fields", "where"),
            ((code(e.name), codes(e.fields), code(e.where)) for e in rows),
        )
    return parts


# -- docs/architecture.md ---------------------------------------------------------------


def package_tree() -> str:
    """Every package with the first sentence of its docstring, indented by its depth."""
    lines = []
    for path in sorted(SRC.rglob("__init__.py"), key=lambda found: found.parent.parts):
        package = path.parent.relative_to(SRC)
        if "versions" in package.parts:
            continue
        says = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
        depth = len(package.parts)
        name = "  " * depth + (package.name or "tether") + "/"
        lines.append(f"{name:<22}{' '.join(says.split())}")
    return "\n".join(["```text", *lines, "```"])


# -- docs/attribution.md -----------------------------------------------------------------

NEXT_PROXY = "to the next proxy"


def sight_table() -> str:
    """What each cause is known by, how far that sees, and what a proxy in between makes of it."""
    by_cause: dict[str, list[tuple[Rule, Case]]] = {}
    for rule, case in zip(RULES, EXAMPLES, strict=True):
        if isinstance(rule.cause, str):
            by_cause.setdefault(rule.cause, []).append((rule, case))
    rows = [row for row in CATALOGUE.values() if row.code in by_cause]
    return table(
        ("cause", "concluded by", "its evidence sees", "behind a proxy"),
        (
            (code(row.code), code(rule.name), *_sight(rule, case))
            for row in rows
            for rule, case in by_cause[row.code]
        ),
    )


def _sight(rule: Rule, case: Case) -> tuple[str, str]:
    match rule.sight:
        case Sight.THROUGH:
            return "through", "the same"
        case Sight.BLURRED:
            return NEXT_PROXY, "the same, confidence low"
        case Sight.BLOCKED:
            proxied = classify(case.connect_type, map(behind_a_proxy, case.facts))
            return NEXT_PROXY, code(proxied.disconnect.cause)


# -- writing ----------------------------------------------------------------------------


def filled(page: str, parts: Mapping[str, str]) -> str:
    """`page` with every generated part replaced; a part without a place is an error."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        escaped = part.replace("\\", "\\\\")
        page, count = pattern.subn(rf"\g<1>\n{escaped}\n\n\g<2>", page)
        assert count == 1, f"one place for the part {name!r}, found {count}"
    return page


def pages() -> dict[Path, str]:
    """Every page with generated parts, as it should be."""
    protocol, logging = DOCS / "protocol.md", DOCS / "logging.md"
    architecture, attribution = DOCS / "architecture.md", DOCS / "attribution.md"
    return {
        DOCS / "vocabulary.md": vocabulary(),
        protocol: filled(protocol.read_text(), protocol_parts()),
        logging: filled(logging.read_text(), logging_parts()),
        attribution: filled(attribution.read_text(), {"sight": sight_table()}),
        architecture: filled(architecture.read_text(), {"packages": package_tree()}),
    }


def stale() -> list[Path]:
    """The pages that are not as they should be."""
    return [path for path, text in pages().items() if not path.exists() or path.read_text() != text]


def main(arguments: list[str]) -> int:
    """Write what is stale, or with `--check` only tell of it."""
    found = stale()
    if arguments == ["--check"]:
        for path in found:
            print(f"{path.relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
        return 1 if found else 0
    written = pages()
    for path in found:
        path.write_text(written[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
