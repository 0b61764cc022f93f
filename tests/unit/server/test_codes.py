"""The codes of refusals: those that the messages' docstrings name are those that the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tether
from tether.protocol.messages import tunnel as messages
from tether.protocol.terminal import messages as terminal

SRC = Path(tether.__file__).parent

SAID = [
    (messages.TunnelDenied, "server/control/clients.py", "Denied", 0),
    (messages.CarrierDenied, "server/control/carriers.py", "_denied", 1),
    (terminal.Refused, "agent/terminal/terminals.py", "TerminalError", 0),
]


def said(path: str, function: str, place: int) -> set[str]:
    """The words that are given in this place of the calls of a function."""
    return {
        str(ast.literal_eval(call.args[place]))
        for call in ast.walk(ast.parse((SRC / path).read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == function
        and isinstance(call.args[place], ast.Constant)
    }


@pytest.mark.parametrize(("message", "path", "function", "place"), SAID)
def test_a_docstring_names_every_code_and_no_other(
    message: type, path: str, function: str, place: int
) -> None:
    codes = said(path, function, place)
    documented = (message.__doc__ or "").partition("`code` is ")[2]
    words = set(re.findall(r"`(\w+)`", documented)) - {"cause", "actor"}
    assert words == codes
