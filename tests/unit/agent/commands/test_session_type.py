"""Claims about which program a session serves."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given, strategies as st

from tether.agent.commands.command_line import commands, program
from tether.agent.commands.session_type import (
    PLAIN,
    SNIFF_BYTES,
    TYPED_BYTES,
    Bootstrap,
    Direction,
    SessionType,
    Source,
    Transfer,
    adds_login_keys,
    bootstrap_type,
    connection_type,
    from_environment,
    normalized,
    transfer_of,
)
from tether.attribution.vocabulary import ConnectionType
from tether.protocol.apps import FAMILIES

COMMIT = "4949701c880d4bdb949e3c0e6b400288da7f474b"

STOCK_SCRIPT = """# shellcheck shell=sh

echo "0e21d0e5a3e0: running"
echo "Script executing under PID: $$"
VSC_TMP="${XDG_RUNTIME_DIR:-/tmp}"
COMMIT_ID="4949701c880d4bdb949e3c0e6b400288da7f474b"
QUALITY="stable"
VSCODE_AGENT_FOLDER="$HOME/.vscode-server"
"""
"""The head of what Remote-SSH writes to the standard input of `ssh -T -D PORT HOST sh`."""

INLINE_SCRIPT = """
# Server installation script
SERVER_APP_NAME="{app}"
SERVER_DATA_DIR="$HOME/{folder}"
print_install_results_and_exit() {{
"""
"""The head of what its relatives pass as `bash -c '…'`."""


def declared(*assignments: tuple[str, str]) -> SessionType | None:
    return from_environment(assignments)[0]


# -- the variable -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "app"),
    [
        ("vscode", "vscode"),
        ("JetBrains", "jetbrains"),
        (" Code-Server\r\n", "code_server"),
        ("vs\x00co\x1bde\x7f", "vscode"),
        ("x" * 80, "x" * 64),
        ("\u00dcber-IDE", "\u00fcber_ide"),
        ("", ""),
        (" \t\x07 ", ""),
    ],
)
def test_a_value_is_normalized(value: str, app: str) -> None:
    assert normalized(value) == app


@given(st.text())
def test_a_normalized_name_stays_as_it_is(value: str) -> None:
    once = normalized(value)
    assert len(once) <= 64 * 3  # lower-casing may lengthen a letter
    assert "-" not in once
    assert not any(char < " " for char in once)


def test_the_last_value_wins() -> None:
    found = declared(("CODER_SSH_SESSION_TYPE", "vscode"), ("CODER_SSH_SESSION_TYPE", "cursor"))
    assert found == SessionType("cursor", ConnectionType.VSCODE, Source.VARIABLE)


def test_our_own_variable_decides_where_both_are_set() -> None:
    found = declared(("TETHER_SSH_SESSION_TYPE", "zed"), ("CODER_SSH_SESSION_TYPE", "vscode"))
    assert found == SessionType("zed", ConnectionType.SSH, Source.VARIABLE)


def test_an_empty_value_says_ssh() -> None:
    assert declared(("CODER_SSH_SESSION_TYPE", "")) == SessionType(
        "ssh", ConnectionType.SSH, Source.VARIABLE
    )


def test_only_the_whole_name_counts_and_is_stripped() -> None:
    found, environment = from_environment(
        [("CODER_SSH_SESSION_TYPE_X", "vscode"), ("coder_ssh_session_type", "b"), ("LANG", "C")]
    )
    assert found is None
    assert environment == {
        "CODER_SSH_SESSION_TYPE_X": "vscode",
        "coder_ssh_session_type": "b",
        "LANG": "C",
    }


def test_the_variables_never_reach_the_child() -> None:
    _, environment = from_environment(
        [("CODER_SSH_SESSION_TYPE", "vscode"), ("A", "1"), ("TETHER_SSH_SESSION_TYPE", "x")]
    )
    assert environment == {"A": "1"}


def test_an_unknown_app_is_counted_by_its_name_under_ssh() -> None:
    assert declared(("CODER_SSH_SESSION_TYPE", "Future-Editor-Next")) == SessionType(
        "future_editor_next", ConnectionType.SSH, Source.VARIABLE, recognized=False
    )


@pytest.mark.parametrize(
    ("app", "family"),
    [
        ("ssh", ConnectionType.SSH),
        ("zed", ConnectionType.SSH),
        ("devin_next", ConnectionType.VSCODE),
        ("code_oss", ConnectionType.VSCODE),
        ("trae_cn", ConnectionType.VSCODE),
        ("android_studio", ConnectionType.JETBRAINS),
        ("rustrover", ConnectionType.JETBRAINS),
    ],
)
def test_later_apps_have_a_family(app: str, family: ConnectionType) -> None:
    assert FAMILIES[app] is family


# -- the bootstrap script -----------------------------------------------------------------------


def test_remote_ssh_is_recognized_by_what_it_writes_to_a_bare_shell() -> None:
    watch = Bootstrap("sh", pty=False)
    assert watch.undecided
    assert watch.feed(STOCK_SCRIPT.encode()) == SessionType(
        "vscode", ConnectionType.VSCODE, Source.BOOTSTRAP
    )
    assert not watch.undecided


def test_remote_ssh_is_recognized_in_a_session_without_a_command() -> None:
    watch = Bootstrap(None, pty=False)
    assert watch.feed(b"uname -rsv; echo 'ready: 49'\n") is None
    assert watch.feed(STOCK_SCRIPT.encode()) is not None
    assert watch.type.app == "vscode"


def test_the_script_may_arrive_in_pieces() -> None:
    watch = Bootstrap("bash --login -c bash", pty=False)
    script = (STOCK_SCRIPT + "# filler\n" * 200).encode()
    for start in range(0, len(script), 7):
        watch.feed(script[start : start + 7])
    assert watch.type.app == "vscode"


@pytest.mark.parametrize(
    ("folder", "app"),
    [
        (".cursor-server", "cursor"),
        (".windsurf-server", "windsurf"),
        (".vscodium-server", "vscodium"),
        (".positron-server", "positron"),
        (".vscode-server-insiders", "vscode_insiders"),
        (".vscode-server-oss", "code_oss"),
    ],
)
def test_relatives_are_recognized_by_their_inline_script(folder: str, app: str) -> None:
    script = INLINE_SCRIPT.format(app="x-server", folder=folder)
    assert Bootstrap(f"bash -c '{script}'", pty=False).type.app == app


@pytest.mark.parametrize(
    "command",
    [
        f"sh -c '~/.vscode-server/bin/{COMMIT}/bin/code-server --start-server --port=0'",
        f"~/.vscode-server/code-{COMMIT} command-shell --cli-data-dir ~/.vscode-server/cli",
        f"mkdir -p ~/.vscode-server/bin/{COMMIT} && cd ~/.vscode-server/bin/{COMMIT}",
        f"bash ~/.vscode-server/cli/servers/Stable-{COMMIT}/server/bin/code-server",
    ],
)
def test_starting_the_server_is_a_bootstrap(command: str) -> None:
    assert bootstrap_type(command) == SessionType("vscode", ConnectionType.VSCODE, Source.BOOTSTRAP)


@pytest.mark.parametrize(
    "command",
    [
        "ls -la ~/.vscode-server",
        "cat ~/.vscode-server/data/logs/x.log",
        "rm -rf ~/.vscode-server/bin",
        "code-server --help",
        "grep -r vscode-server .",
        "echo 'VSCODE_AGENT_FOLDER'",
        "ls ~/.zed_server/",
        "",
    ],
)
def test_a_person_who_looks_around_is_no_editor(command: str) -> None:
    assert bootstrap_type(command) is None


ZED = ".zed_server/zed-remote-server-stable-0.200.3 proxy --identifier workspace-1"
JETBRAINS = "~/.cache/JetBrains/RemoteDev/dist/f00_idea/bin/remote-dev-server.sh"


@pytest.mark.parametrize(
    ("command", "app"),
    [
        (ZED, "zed"),
        (f"cd; env RUST_LOG=info RUST_BACKTRACE=1 {ZED}", "zed"),
        (f"cd && exec env RUST_LOG=info {ZED}", "zed"),
        (f"sh -c 'cd; RUST_LOG=info {ZED}'", "zed"),
        (f"bash -lc 'exec $HOME/{ZED}'", "zed"),
        (f"/bin/sh -c \"bash -c 'cd /tmp; ~/{ZED}'\"", "zed"),
        (f"/home/alice/{ZED} 2>/dev/null", "zed"),
        (f"sh <<'EOF'\ncd\nexec {ZED}\nEOF", "zed"),
        (f"{JETBRAINS} run /home/alice/project", "jetbrains"),
        (f"cd /x && nohup bash -c '{JETBRAINS} status /x' &", "jetbrains"),
        ("~/.cache/JetBrains/RemoteDev/remote-dev-worker/remote-dev-worker_1 get-os", "jetbrains"),
        ("nvim --headless --listen /tmp/nvim.sock", "neovim"),
        ("cd src; exec /opt/nvim/bin/nvim --embed", "neovim"),
        ("exec env TERM='dumb' INSIDE_EMACS='30.1,tramp:2.7.1' /bin/sh -i", "emacs"),
    ],
)
def test_servers_are_recognized_as_the_programs_that_a_shell_would_run(
    command: str, app: str
) -> None:
    found = Bootstrap(command, pty=False).type
    assert (found.app, found.source, found.recognized) == (app, Source.BOOTSTRAP, True)


@pytest.mark.parametrize(
    "command",
    [
        f"echo '{ZED}'",
        f"cat <<'EOF'\n{ZED}\nEOF",
        f"ls > {ZED}",
        "ls -l ~/.cache/JetBrains/RemoteDev/dist",
        "nvim notes.md",
        "echo $INSIDE_EMACS",
    ],
)
def test_what_is_only_named_is_not_run(command: str) -> None:
    assert Bootstrap(command, pty=False).type == PLAIN


def test_tramp_is_recognized_by_what_it_types() -> None:
    watch = Bootstrap(None, pty=True)
    assert watch.feed(b"exec env TERM='dumb' INSIDE_EMACS='29.4,tramp:2.6.3' ENV='' /bin/sh\n")
    assert (watch.type.app, watch.undecided) == ("emacs", False)


def test_a_person_who_types_is_not_listened_to_for_long() -> None:
    watch = Bootstrap(None, pty=True)
    watch.feed(STOCK_SCRIPT.encode())
    watch.feed(b"ls\n" * TYPED_BYTES)
    assert (watch.type, watch.undecided) == (PLAIN, False)


@pytest.mark.parametrize(
    ("command", "pty"), [("ls -l", True), ("ls -l", False), ("python3 -", False)]
)
def test_nobody_listens_to_another_program(command: str | None, pty: bool) -> None:
    watch = Bootstrap(command, pty=pty)
    assert not watch.undecided
    assert watch.feed(STOCK_SCRIPT.encode()) is None
    assert watch.type == PLAIN


@given(st.lists(st.binary(max_size=9000), max_size=8))
def test_listening_is_bounded(pieces: list[bytes]) -> None:
    watch = Bootstrap(None, pty=False)
    for piece in pieces:
        watch.feed(piece)
        assert len(watch._seen) <= SNIFF_BYTES
    assert watch.undecided == (sum(map(len, pieces)) < SNIFF_BYTES)


# -- what a command runs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("rsync --server . /x", ["rsync", "--server", ".", "/x"]),
        ("FOO=1 sudo -u root rsync --server .", ["rsync", "--server", "."]),
        ("sh -c 'exec scp -t /x'", ["scp", "-t", "/x"]),
        ("env -i X=1 nice -n 5 nc -l 1", ["nc", "-l", "1"]),
        ("timeout -k 1 5 rsync x", ["rsync", "x"]),
        ("scp 'a b'\"c d\"\\ e '' f", ["scp", "a bc d e", "", "f"]),
        ("echo a#b #c d", ["echo", "a#b"]),
        ("echo 'x'#b c", ["echo", "x#b", "c"]),
        ("scp;ls", ["scp"]),
        ("cd /x && rsync --server .", ["rsync", "--server", "."]),
        ("mkdir -p /x && rsync --server .", ["rsync", "--server", "."]),
        ("cd", ["cd"]),
        ("bash -lc 'set -e; cd; exec scp -f a'", ["scp", "-f", "a"]),
        ("scp <in >out 2>&1 a", ["scp", "a"]),
        ("bash <<X\nscp -t b\nX", ["scp", "-t", "b"]),
        ("bash <<X; sh <<Y\ncd\nX\nscp -t b\nY", ["scp", "-t", "b"]),
        ("sh <<X\n" * 10_000, ["sh"]),
        ("\n\n scp\nls", ["scp"]),
        ("echo 'unclosed ; scp", ["echo", "unclosed ; scp"]),
        ("sudo", ["sudo"]),
        ("# nothing", []),
        ("", []),
    ],
)
def test_a_command_is_read_through_simple_wrappers(command: str, runs: list[str]) -> None:
    assert program(command) == runs


@given(st.text())
def test_any_command_can_be_read(command: str) -> None:
    assert len("".join(chain.from_iterable(commands(command)))) <= len(command)
    program(command)
    transfer_of(command)
    bootstrap_type(command)


# -- file transfer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "transfer"),
    [
        ("scp -t /tmp/x", Transfer("scp", Direction.UPLOAD, ("/tmp/x",))),
        ("/usr/bin/scp -v -prt -- -odd", Transfer("scp", Direction.UPLOAD, ("-odd",))),
        ("scp -f a b", Transfer("scp", Direction.DOWNLOAD, ("a", "b"))),
        ("scp a host:b", None),
        (
            "rsync --server -vlogDtpre.iLsfxCIvu . /srv/x",
            Transfer("rsync", Direction.UPLOAD, ("/srv/x",)),
        ),
        (
            "sudo rsync --server --sender -logDtpre.iLsfxCIvu . a 'b c'",
            Transfer("rsync", Direction.DOWNLOAD, ("a", "b c")),
        ),
        ("rsync -a x y", None),
        ("/usr/lib/openssh/sftp-server", Transfer("sftp", Direction.BOTH)),
        ("echo scp -t", None),
        (None, None),
    ],
)
def test_the_far_half_of_a_transfer_is_seen_with_its_direction(
    command: str | None, transfer: Transfer | None
) -> None:
    assert transfer_of(command) == transfer


def test_the_sftp_subsystem_is_a_transfer_and_its_own_type() -> None:
    transfer = transfer_of(None, "sftp")
    assert transfer == Transfer("sftp", Direction.BOTH)
    assert connection_type(PLAIN, transfer) is ConnectionType.SFTP


def test_what_a_client_declared_outranks_what_its_session_does() -> None:
    session = declared(("TETHER_SSH_SESSION_TYPE", "vscode"))
    assert session is not None
    assert connection_type(session, Transfer("sftp", Direction.BOTH)) is ConnectionType.VSCODE


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('exec sh -c \'cd; mkdir -p ".ssh" && cat >> ".ssh/authorized_keys" || exit 1\'', True),
        ("cat >>~/.ssh/authorized_keys", True),
        ("cat >> /etc/dropbear/authorized_keys", True),
        ("cat ~/.ssh/authorized_keys", False),
        ("echo a >> log; cat authorized_keys", False),
        (None, False),
    ],
)
def test_what_adds_a_key_for_logins(command: str | None, expected: bool) -> None:
    assert adds_login_keys(command) is expected
