"""One sentence and one advice for people, from a judged end; CLI, terminal and API share it.

Law: words only; nothing is decided here. Placeholders that cannot be filled get plain words.
"""

from __future__ import annotations

from dataclasses import dataclass

from tether.attribution.disconnect import Disconnect


@dataclass(frozen=True, slots=True)
class Explanation:
    """What to tell a person."""

    title: str
    sentence: str
    advice: str


def explain(disconnect: Disconnect, workspace: str = "") -> Explanation:
    """The words for `disconnect`; `workspace` is the name that advice may mention."""
    row = disconnect.row
    words = {
        "exit_code": "unknown" if disconnect.exit_code is None else str(disconnect.exit_code),
        "exit_signal": disconnect.exit_signal or "unknown",
        "actor": people(disconnect.actor),
        "workspace": workspace or "NAME",
    }
    return Explanation(row.title, row.sentence.format(**words), row.advice.format(**words))


def people(actor: str) -> str:
    """An actor's code in plain words: `user:alice` reads as `alice`."""
    kind, _, rest = actor.partition(":")
    match kind:
        case "":
            return "somebody unknown"
        case "user" | "admin":
            return rest or kind
        case "policy":
            return f"the {rest} policy"
        case "signal":
            return f"signal {rest}"
        case _:
            return actor
