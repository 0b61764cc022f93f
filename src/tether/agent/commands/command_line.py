"""What an exec request will run, as far as its text tells: the program behind simple wrappers.

Law: pure text in, words out; nothing is executed, expanded or looked up. Session types, transfer
policy and transfer records all read commands through this one file, so that they cannot disagree.
A command that a shell would treat in a way that is not visible here (pipes, variables, aliases) is
read by its first simple command.
"""

from __future__ import annotations

import re
import shlex

MAX_COMMAND = 64 << 10
"""Characters. The rest of a longer command is not read."""

_MAX_DEPTH = 4
_SHEBANG = "#!"
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_TOKEN = re.compile(
    r"""(?P<blank>[^\S\n]+)
    | (?P<end>[;&|<>()\n])
    | (?P<comment>\#[^\n]*)
    | (?P<part>'[^']*' | "(?:[^"\\]|\\.)*" | \\. | [^\s;&|<>()'"\\\#][^\s;&|<>()'"\\]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r'\\([\\"$`])')
_TRANSPARENT = frozenset(
    {"exec", "command", "builtin", "nohup", "setsid", "time", "env", "busybox"}
)
"""Wrappers whose first word that is neither an option nor an assignment is the program."""

_TAKES_VALUE: dict[str, frozenset[str]] = {
    "sudo": frozenset({"-u", "-g", "-h", "-p", "-C", "-T", "-r", "-t", "--user", "--group"}),
    "doas": frozenset({"-u", "-C"}),
    "nice": frozenset({"-n", "--adjustment"}),
    "ionice": frozenset({"-c", "-n", "-p", "--class", "--classdata"}),
    "env": frozenset({"-u", "-C", "-S", "--unset", "--chdir"}),
    "exec": frozenset({"-a"}),
    "stdbuf": frozenset({"-i", "-o", "-e"}),
    "timeout": frozenset({"-s", "-k", "--signal", "--kill-after"}),
}
"""Wrappers' options that are followed by a value of their own."""

_WRAPPERS = _TRANSPARENT | _TAKES_VALUE.keys()
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})


def basename(word: str) -> str:
    """The last component of a path; `word` itself where it is none."""
    return word.rstrip("/").rpartition("/")[2]


def words(command: str) -> list[str]:
    """The words of the first simple command in `command`, quotes taken off.

    An unclosed quote is read as part of its word: nothing is refused here.
    """
    text = command[:MAX_COMMAND].replace("\0", "").lstrip()
    found: list[str] = []
    word: str | None = None
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:  # an unclosed quote, or a lone backslash at the end
            word, at = (word or "") + text[at + 1 :], len(text)
            continue
        at = token.end()
        kind, part = token.lastgroup, token.group()
        if kind == "comment":
            if word is None:
                continue
            at, part = token.start() + 1, "#"  # within a word it is an ordinary character
        if kind == "end":
            break
        if kind == "blank":
            if word is not None:
                found.append(word)
            word = None
            continue
        word = (word or "") + _unquoted(part)
    if word is not None:
        found.append(word)
    return found


def runner(command: str, shell: str) -> list[str]:
    """What runs `command`: the shell, or the interpreter that a script names in its first line.

    The script is handed on as its `-c`, the way a shell's is, so only such interpreters can run one.
    """
    script = command.strip()
    if script.startswith(_SHEBANG):
        try:
            found = shlex.split(script.partition("\n")[0].removeprefix(_SHEBANG))
        except ValueError:  # an unclosed quote
            found = []
        if found:
            return [*found, "-c", script]
    return [shell, "-c", command]


def program(command: str) -> list[str]:
    """The program that `command` runs and its arguments, wrappers taken off; [] for none.

    `FOO=1 sudo -u root rsync --server .` reads as `rsync --server .`, and `sh -c 'exec scp -t /x'`
    as `scp -t /x`.
    """
    return _unwrapped(words(command), _MAX_DEPTH)


def is_shell(command: str) -> bool:
    """Whether `command` only starts a shell that will read its script from standard input."""
    found = program(command)
    return bool(found) and basename(found[0]) in SHELLS and script_of(found) is None


def script_of(found: list[str]) -> str | None:
    """The script that a shell's words carry after `-c`; None where there is none."""
    for position, word in enumerate(found[1:], start=1):
        if word.startswith("-") and not word.startswith("--") and "c" in word[1:]:
            return next(iter(found[position + 1 :]), "")
        if not word.startswith("-"):
            return None
    return None


def _unwrapped(found: list[str], depth: int) -> list[str]:
    while found and _ASSIGNMENT.match(found[0]):
        found = found[1:]
    if not found or depth == 0:
        return found
    name = basename(found[0])
    if name in SHELLS:
        script = script_of(found)
        return found if not script else _unwrapped(words(script), depth - 1)
    if name not in _WRAPPERS:
        return found
    inner = _after_options(found[1:], _TAKES_VALUE.get(name, frozenset()))
    if name == "timeout":  # its first operand is a duration
        inner = inner[1:]
    return _unwrapped(inner, depth - 1) if inner else found


def _after_options(found: list[str], takes_value: frozenset[str]) -> list[str]:
    while found and (found[0].startswith("-") or _ASSIGNMENT.match(found[0])):
        if found[0] == "--":
            return found[1:]
        found = found[2:] if found[0] in takes_value else found[1:]
    return found


def _unquoted(part: str) -> str:
    match part[0]:
        case "'":
            return part[1:-1]
        case '"':
            return _ESCAPED.sub(r"\1", part[1:-1])
        case "\\":
            return "" if part[1:] == "\n" else part[1:]
        case _:
            return part
