"""config-ssh: what is written, and what of the user's is left alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tether.cli.ssh.config import (
    host_block,
    include_line,
    with_block,
    with_include,
    without_ours,
)
from tether.cli.ssh.options import executable, proxy_command, quoted
from tether.config import ClientFiles
from tether.net.ssh_key import KeyType

OURS = Path("/home/a/.config/tether/ssh/config")
USERS = (
    b"",
    b"Host *\n    ServerAliveInterval 10\n",
    b"# no newline at the end\r\nHost a",
    b"\xff\xfe not utf-8\n\n\nMatch all\n",
    b"Include other\nHost b\n",
)


@pytest.mark.parametrize("text", USERS)
def test_the_include_is_first_and_the_rest_stays_byte_for_byte(text: bytes) -> None:
    written = with_include(text, OURS)
    assert written.endswith(text)
    assert written.splitlines()[1] == b'Include "/home/a/.config/tether/ssh/config"'
    assert with_include(written, OURS) == written
    assert without_ours(written, OURS) == text


def test_an_include_of_the_users_own_hand_is_left_where_it_is() -> None:
    text = b"User me\n" + include_line(OURS) + b"Host a\n"
    assert with_include(text, OURS) == text


def test_an_include_hidden_in_a_section_is_moved_to_the_top() -> None:
    text = b"Host a\n    User x\n" + include_line(OURS)
    written = with_include(text, OURS)
    assert written.count(include_line(OURS)) == 1
    assert written.splitlines()[1] + b"\n" == include_line(OURS)


@pytest.mark.parametrize("text", USERS)
def test_a_block_replaces_its_older_self_and_nothing_else(text: bytes) -> None:
    written = with_block(text, b"Host *.tether\n    A 1\n")
    again = with_block(written, b"Host *.tether\n    A 2\n    B 3\n")
    assert again == with_block(text, b"Host *.tether\n    A 2\n    B 3\n")
    assert without_ours(again, OURS) == text


def test_a_block_that_was_moved_by_the_user_stays_there() -> None:
    block = b"Host *.tether\n"
    alone = with_block(b"", block)
    text = b"Host z\n    User y\n\n" + alone + b"Host last\n"
    assert with_block(text, block) == text


def test_a_program_is_quoted_for_ssh_and_for_its_shell() -> None:
    command = proxy_command(["/opt/my tools/50%/tether"], "%h")
    assert command == "'/opt/my tools/50%%/tether' ssh --stdio -- '%h'"
    assert quoted(Path("/a b/c%")) == '"/a b/c%%"'


def test_the_installed_script_is_preferred_and_the_module_is_found_without_it(
    tmp_path: Path,
) -> None:
    script = tmp_path / "tether"
    script.write_text("")
    python = str(tmp_path / "python")
    assert executable(str(script), python) == [str(script)]
    assert executable("/elsewhere/tether", python) == [str(script)]
    assert executable("__main__.py", python) == [str(script)]
    script.unlink()
    assert executable("__main__.py", python) == [python, "-P", "-m", "tether"]


def test_openssh_understands_every_line_and_reads_what_we_mean(tmp_path: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("OpenSSH's ssh is not installed")
    files = ClientFiles(tmp_path / "with space")
    config, users = tmp_path / "ours", tmp_path / "config"
    config.write_bytes(host_block(files, ["/opt/a b/tether"], tuple(KeyType)))
    users.write_bytes(with_include(b"Host *\n    IdentityFile /mine\n    LogLevel INFO\n", config))
    shown = subprocess.run(
        ["ssh", "-F", str(users), "-G", "dev.tether"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    got = dict(line.partition(" ")[::2] for line in shown)
    assert got["proxycommand"] == "'/opt/a b/tether' ssh --stdio -- '%h'"
    assert got["userknownhostsfile"] == f"{files.known_hosts}".replace(" ", "\\ ") or got[
        "userknownhostsfile"
    ] == str(files.known_hosts)
    identities = [line for line in shown if line.startswith("identityfile ")]
    assert identities[:3] == [f"identityfile {files.device_key_of(kind)}" for kind in KeyType]
    assert got["stricthostkeychecking"] in ("true", "yes")
    assert got["identitiesonly"] == "yes"
    assert got["hostkeyalgorithms"].startswith("ssh-ed25519,")
    assert got["ciphers"].startswith("aes128-gcm@openssh.com,aes256-gcm@openssh.com,")
    assert got["loglevel"] == "INFO"  # what ssh says by default is shown
    other = subprocess.run(
        ["ssh", "-F", str(users), "-G", "example.org"], capture_output=True, text=True, check=True
    ).stdout
    assert "proxycommand" not in other
