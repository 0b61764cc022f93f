"""The gauntlet's figures, for people and for programs.

Law: pure: outcomes in, text or plain data out. What was skipped or could not be staged is said first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tether_gauntlet.ablation import Effect
from tether_gauntlet.scenario import FIELDS
from tether_gauntlet.scoring import RunOutcome
from tether_gauntlet.summary import summarize

_GOT = ("connect_type", "type", *FIELDS, "disconnect_cause", "disconnect_actor", "incident_id")
_BASELINES = ("errno", "original", "openssh")


def as_json(outcomes: Sequence[RunOutcome]) -> dict[str, Any]:
    """The whole run as plain data: `scenarios` one entry a run, and `summary`."""
    return {
        "scenarios": [
            {
                "name": one.scenario,
                "topology": one.topology,
                "skipped": one.skipped or False,
                "failed": one.failed,
                "correct": one.correct,
                "known": one.known,
                "lost": list(one.lost),
                "objections": list(one.objections),
                "turned": list(one.turned),
                "want": [match.truth.want for match in one.matches]
                + [truth.want for truth in one.missing],
                "got": [{name: match.row.get(name) for name in _GOT} for match in one.matches],
                "missing": len(one.missing),
                "false_disconnects": [
                    {name: row.get(name) for name in _GOT} for row in one.false_disconnects
                ],
                "duplicates": list(one.duplicates),
                "left_open": list(one.left_open),
                "seconds": one.seconds,
                "ablation": {name: dict(counts) for name, counts in one.ablation.items()},
                "misled": list(one.misled),
                "baselines": {name: dict(said) for name, said in one.baselines.items()},
            }
            for one in outcomes
        ],
        "summary": asdict(summarize(outcomes)),
    }


def as_markdown(outcomes: Sequence[RunOutcome]) -> str:
    """The tables of `docs/gauntlet-results.md`."""
    parts = (_figures, _scenarios, _topologies, _confusion, _without)
    return "\n\n".join(filter(None, (part(outcomes) for part in parts)))


def line(one: RunOutcome) -> str:
    """One run in one line, for when it is over."""
    if one.skipped:
        return f"SKIPPED {one.name}: this machine has no {one.skipped}"
    if one.correct:
        said = (
            "nothing said" if one.control else ", ".join(_said(match.row) for match in one.matches)
        )
        return f"{'FIXED  ' if one.known else 'right  '} {one.name} ({one.seconds:.1f} s): {said}"
    words = "KNOWN  " if one.known else "FAILED " if one.failed else "WRONG  "
    return f"{words} {one.name} ({one.seconds:.1f} s): {'; '.join(complaints(one))}"


def complaints(one: RunOutcome) -> list[str]:
    """What is wrong with a run."""
    if one.failed:
        return [one.failed]
    found = [f"session lost: {how}" for how in one.lost] + list(one.objections)
    found += [
        f"{match.row['connect_type']} {name}: {match.row.get(name)!r}, want "
        f"{match.truth.want.get(name, getattr(match.truth, name, None))!r}"
        for match in one.matches
        for name in match.wrong
    ]
    found += [
        f"no {truth.connect_type} row ended as {truth.reason}/{truth.initiator}"
        for truth in one.missing
    ]
    found += [f"false disconnect: {_said(row)}" for row in one.false_disconnects]
    found += [f"{connection} was ended twice in a log" for connection in one.duplicates]
    found += [f"{connection} was left open" for connection in one.left_open]
    found += ["one incident was told as several"] * one.scattered
    return found + list(one.turned)


def _figures(outcomes: Sequence[RunOutcome]) -> str:
    total = summarize(outcomes)
    rows: list[tuple[str, object]] = [
        ("scenarios, runs", f"{total.scenarios}, {total.runs}"),
        ("right in every field", _of(total.correct, total.runs)),
        *((name.removeprefix("disconnect_"), _of(*share)) for name, share in total.fields.items()),
        ("tricky ones", _of(*total.tricky)),
        ("nothing to report, nothing reported", _of(*total.controls)),
        ("false disconnects", total.false_disconnects),
        ("ends logged twice", total.duplicates),
        ("rows left open", total.left_open),
        ("sessions lost that could have lived", total.lost),
        ("incidents told as several", total.scattered),
        ("wrong and sure of it", total.wrong_and_sure),
        ("wrong and sure of it without a part of the evidence", total.misled),
        ("unknown", total.unknown),
        ("fault to the right record, p50 and p95", f"{total.seconds_p50} s, {total.seconds_p95} s"),
        ("flaky", ", ".join(total.flaky) or "none"),
        ("could not be staged", total.failed),
        ("wrong, and known to be", total.known),
        *((f"baseline {name}", _of(*share)) for name, share in total.baselines.items()),
    ]
    skipped = [(f"**skipped** {name}", f"no {why}") for name, why in total.skipped.items()]
    return "## Figures\n\n" + _table(("what", "figure"), [*skipped, *rows])


def _scenarios(outcomes: Sequence[RunOutcome]) -> str:
    names = dict.fromkeys(one.name for one in outcomes)
    rows = (_scenario([one for one in outcomes if one.name == name]) for name in names)
    head = ("scenario", "right", "the log says", *_BASELINES, "s")
    return "## Scenarios\n\n" + _table(head, rows)


def _scenario(runs: Sequence[RunOutcome]) -> tuple[str, ...]:
    """The row of a scenario: what its last wrong run says; the last run where none is wrong."""
    last = next((one for one in runs if not one.correct), runs[-1])
    right = "skipped" if last.skipped else _of(sum(one.correct for one in runs), len(runs))
    said = "; ".join(dict.fromkeys(_said(match.row) for match in last.matches)) or "nothing"
    wrong = complaints(last) if not last.correct and not last.skipped else []
    return (
        f"{last.name} ★" if last.tricky else last.name,
        f"{right} (known)" if last.known and not last.correct else right,
        f"{said} **{'; '.join(wrong)}**" if wrong else said,
        *(_baseline(last.baselines.get(name)) for name in _BASELINES),
        f"{last.seconds:.1f}",
    )


def _topologies(outcomes: Sequence[RunOutcome]) -> str:
    """Scenario by topology, right runs of all; "" where there is one topology only."""
    places = list(dict.fromkeys(one.topology for one in outcomes))
    if len(places) < 2:
        return ""
    runs: dict[tuple[str, str], list[RunOutcome]] = {}
    for one in outcomes:
        runs.setdefault((one.scenario, one.topology), []).append(one)
    rows = [
        (name, *(_cell(runs.get((name, place), [])) for place in places))
        for name in dict.fromkeys(one.scenario for one in outcomes)
    ]
    return "## Scenario by topology\n\n" + _table(("scenario", *places), rows)


def _cell(runs: Sequence[RunOutcome]) -> str:
    ran = [one for one in runs if not one.skipped]
    if not ran:
        return "skipped" if runs else "–"
    right = sum(one.correct for one in ran)
    return f"{'✓' if right == len(ran) else '✗'} {right} of {len(ran)}"


def _confusion(outcomes: Sequence[RunOutcome]) -> str:
    pairs = Counter(
        (match.truth.reason, str(match.row["disconnect_reason"]))
        for one in outcomes
        for match in one.matches
    )
    if not pairs:
        return ""
    rows = [
        (want, got, count, "" if want == got else "✗")
        for (want, got), count in sorted(pairs.items())
    ]
    return "## Confusion\n\n" + _table(("true reason", "told", "rows", ""), rows)


def _without(outcomes: Sequence[RunOutcome]) -> str:
    words = [answer.word for answer in Effect]
    rows = [
        (
            name,
            counts["had"],
            _of(counts.get(words[0], 0), counts["truths"]),
            *(counts.get(word, 0) for word in words[1:]),
        )
        for name, counts in summarize(outcomes).ablation.items()
    ]
    misled = dict.fromkeys(f"- {one.name}: {what}" for one in outcomes for what in one.misled)
    return "\n\n".join(
        [
            "## Without a part of the evidence",
            _table(("withheld", "truths that lost evidence", *words), rows),
            "\n".join(misled) or "No verdict turns wrong and sure.",
        ]
    )


def _baseline(said: Mapping[str, Any] | None) -> str:
    if said is None or said.get("correct") is None:
        return "–"
    words = f"{said['disconnect_reason']}/{said['disconnect_initiator'] or '–'}"
    return f"{'✓' if said['correct'] else '✗'} {words}"


def _said(row: Mapping[str, Any]) -> str:
    expected = "expected" if row["disconnect_expected"] else "unexpected"
    who = row["disconnect_initiator"] or "–"
    return f"{row['disconnect_cause']} ({row['disconnect_reason']}/{who}, {expected})"


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({part / whole:.0%})" if whole else "")


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0])]
    lines += [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
