"""What an exec request will run, as far as its text tells: the program behind simple wrappers.

Law: pure text in, words out; nothing is executed, expanded or looked up. Session types, transfer
policy and transfer records all read commands through this one file, so that they cannot disagree.
What is not visible in the text (variables, aliases, functions) is taken literally.
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
    | (?P<redirection><<-?(?!<)|<<<|[<>]&?|>>)
    | (?P<end>[;&|()\n])
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
_PREPARES = frozenset(
    {"cd", "pushd", "export", "set", "unset", "umask", "ulimit", "source", ".", ":", "true", "test"}
    | {
        "[",
        "[[",
        "{",
        "}",
        "!",
        "if",
        "then",
        "fi",
        "shopt",
        "setopt",
        "readonly",
        "declare",
        "trap",
    }
    | {"alias", "unalias", "hash", "mkdir"}
)
"""What comes before the program that a command is for; rsync's own `--rsync-path` may make a folder."""

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})


def basename(word: str) -> str:
    """The last component of a path; `word` itself where it is none."""
    return word.rstrip("/").rpartition("/")[2]


def commands(command: str) -> list[list[str]]:
    """The words of each simple command in `command`, in their order, quotes taken off.

    What a redirection names is left out. A here-document is the input of a program, and counts where
    that is a shell, which runs it. An unclosed quote is read as part of its word: nothing is refused.
    """
    return _commands(command, _MAX_DEPTH)


def _commands(command: str, depth: int) -> list[list[str]]:
    return _Scanner(command[:MAX_COMMAND].replace("\0", "").lstrip(), depth).run()


class _Scanner:
    """One pass over the text of a command."""

    def __init__(self, text: str, depth: int) -> None:
        """Here-documents are read into for so many levels."""
        self._text = text
        self._depth = depth
        self._found: list[list[str]] = []
        self._command: list[str] = []  # the words of the one that is being read
        self._word: str | None = None  # what there is of the next
        self._names_file = False  # the next word belongs to a redirection
        self._delimiter = False  # the next word ends a here-document
        self._documents: list[tuple[str, int | None]] = []  # their ends; which shell runs each

    def run(self) -> list[list[str]]:
        at = 0
        while at < len(self._text):
            token = _TOKEN.match(self._text, at)
            if token is None:  # an unclosed quote, or a lone backslash at the end
                self._word, at = (self._word or "") + self._text[at + 1 :], len(self._text)
                continue
            at = token.end()
            match token.lastgroup:
                case "comment" if self._word is not None:
                    at = token.start() + 1
                    self._word += "#"  # within a word it is an ordinary character
                case "comment":
                    pass
                case "redirection":
                    self._redirected(token.group())
                case "blank":
                    self._word_over()
                case "end":
                    self._command_over()
                    if token.group() == "\n":
                        at = self._read_documents(at)
                case _:
                    self._word = (self._word or "") + _unquoted(token.group())
        self._command_over()
        return self._found

    def _redirected(self, sign: str) -> None:
        if self._word is not None and self._word.isdigit():  # `2>`: a descriptor
            self._word = None
        self._word_over()
        self._delimiter = sign.rstrip("-") == "<<"
        self._names_file = not self._delimiter

    def _word_over(self) -> None:
        if self._word is None:
            return
        if self._delimiter:
            runs = self._depth > 0 and is_shell_without_script(self._command)
            shell = len(self._found) if runs else None
            self._documents.append((self._word, shell))
        elif not self._names_file:
            self._command.append(self._word)
        self._word = None
        self._names_file = False
        self._delimiter = False

    def _command_over(self) -> None:
        self._word_over()
        if self._command:
            self._found.append(self._command)
        self._command = []

    def _read_documents(self, at: int) -> int:
        """Read the here-documents that begin at `at`; where they end."""
        documents, self._documents = self._documents, []
        scripts: list[tuple[int, str]] = []
        for delimiter, shell in documents:
            lines = []
            while at < len(self._text):
                line, newline, _ = self._text[at:].partition("\n")
                at += len(line) + len(newline)
                if line.lstrip("\t") == delimiter:
                    break
                lines.append(line)
            if shell is not None:
                scripts.append((shell, "\n".join(lines)))
        for shell, script in reversed(scripts):  # what a shell runs stands for it
            self._found[shell : shell + 1] = _commands(script, self._depth - 1)
        return at


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
    """The program that `command` is for and its arguments, wrappers taken off; [] for none.

    `FOO=1 sudo -u root rsync --server .` reads as `rsync --server .`, `sh -c 'exec scp -t /x'` as
    `scp -t /x`, and `cd /x && rsync --server .` as what follows the `cd`.
    """
    found = programs(command)
    meant = (each for each in found if basename(each[0]) not in _PREPARES)
    return next(meant, found[0] if found else [])


def programs(command: str) -> list[list[str]]:
    """Every program that `command` runs, with its arguments, wrappers taken off."""
    return _programs(command, _MAX_DEPTH)


def _programs(command: str, depth: int) -> list[list[str]]:
    found = []
    for words in commands(command):
        inner = _unwrapped(words, depth)
        script = script_of(inner) if inner and basename(inner[0]) in SHELLS else None
        if script and depth:
            found += _programs(script, depth - 1)
        elif inner:
            found.append(inner)
    return found


def is_shell(command: str) -> bool:
    """Whether `command` only starts a shell that will read its script from standard input."""
    return is_shell_without_script(program(command))


def is_shell_without_script(found: list[str]) -> bool:
    """Whether these words start a shell that will read its script from standard input."""
    found = _unwrapped(found, _MAX_DEPTH)
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
