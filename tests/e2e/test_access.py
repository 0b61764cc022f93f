"""Who is let in, with the stock ssh: strangers, stale and foreign certificates, revoked people."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, truth

pytestmark = pytest.mark.real


def keygen(path: Path, *arguments: str) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path), *arguments], check=True
    )
    return path


def certify(stack: Stack, key: Path, *, principal: str, validity: str, user: str) -> Path:
    """A certificate for `key` from the server's own CA (only the server has its key)."""
    ca = stack.root / "server" / "ssh-user-ca"
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-s",
            str(ca),
            "-I",
            f"user:{user}",
            "-n",
            principal,
            "-V",
            validity,
            f"{key}.pub",
        ],
        check=True,
        capture_output=True,
    )
    return key.with_name(f"{key.name}-cert.pub")


def config_for(stack: Stack, path: Path, key: Path, certificate: Path | None) -> Path:
    """The generated configuration with another identity in it."""
    lines = []
    for line in stack.ssh_config.read_text().splitlines():
        word = line.split()[0] if line.split() else ""
        if word == "IdentityFile":
            line = f"    IdentityFile {key}"
        if word == "CertificateFile":
            line = f"    CertificateFile {certificate or 'none'}"
        lines.append(line)
    path.write_text("\n".join(lines) + "\n")
    return path


def workspace_id(stack: Stack) -> str:
    (found,) = [
        w
        for w in json.loads(stack.tether("workspace", "list", "--json").stdout)
        if w["name"] == stack.workspace
    ]
    return str(found["workspace_id"])


def attempt(stack: Stack, config: Path) -> subprocess.CompletedProcess[str]:
    return stack.run("ssh", "-F", str(config), stack.host, "echo in")


def test_a_strangers_key_is_refused_and_attributed(stack: Stack, tmp_path: Path) -> None:
    config = config_for(stack, tmp_path / "config", keygen(tmp_path / "stranger"), None)
    with stack.one_new_row() as row:
        done = attempt(stack, config)
    assert (done.returncode, done.stdout) == (255, "")
    assert "does not vouch for" in done.stderr
    assert (truth(row), row["disconnect_cause"]) == (
        ("access_revoked", "agent", False),
        "auth.key_refused",
    )


def test_a_valid_certificate_is_enough(stack: Stack, tmp_path: Path) -> None:
    key = keygen(tmp_path / "device")
    certificate = certify(
        stack, key, principal=workspace_id(stack), validity="-1m:+5m", user="admin"
    )
    with stack.one_new_row() as row:
        done = attempt(stack, config_for(stack, tmp_path / "config", key, certificate))
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")
    assert truth(row) == ("graceful", "client", True)


@pytest.mark.parametrize(
    ("principal", "validity", "user", "want", "cause", "words"),
    [
        (
            "",
            "-2h:-1h",
            "admin",
            ("session_expired", "server", True),
            "auth.certificate_expired",
            "expired",
        ),
        (
            "another-workspace",
            "-1m:+5m",
            "admin",
            ("access_revoked", "agent", False),
            "auth.certificate_refused",
            "another workspace",
        ),
        (
            "",
            "-1m:+5m",
            "mallory",
            ("access_revoked", "agent", False),
            "auth.certificate_refused",
            "another user",
        ),
    ],
    ids=["expired", "another workspace", "another user"],
)
def test_a_certificate_for_something_else_is_refused(
    stack: Stack,
    tmp_path: Path,
    principal: str,
    validity: str,
    user: str,
    want: tuple[str, str, bool],
    cause: str,
    words: str,
) -> None:
    key = keygen(tmp_path / "device")
    certificate = certify(
        stack, key, principal=principal or workspace_id(stack), validity=validity, user=user
    )
    with stack.one_new_row() as row:
        done = attempt(stack, config_for(stack, tmp_path / "config", key, certificate))
    assert (done.returncode, done.stdout) == (255, "")
    assert words in done.stderr
    assert (truth(row), row["disconnect_cause"]) == (want, cause)


def test_a_revoked_user_is_cut_off_and_kept_out(stack: Stack, tmp_path: Path) -> None:
    created = json.loads(stack.tether("user", "create", "bob", "--role", "admin", "--json").stdout)
    token = tmp_path / "token"
    token.write_text(created["token"])
    env = {**stack.env, "TETHER_CONFIG_DIR": str(tmp_path / "bob")}

    def as_bob(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TETHER, *arguments], env=env, capture_output=True, text=True, timeout=DEADLINE_S
        )

    assert as_bob("login", stack.url, "--token-file", str(token)).returncode == 0
    with stack.one_new_row() as row:
        session = subprocess.Popen(
            [*TETHER, "ssh", "dev", "--", "echo up; exec sleep 1000"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == "up\n"
            stack.tether("user", "delete", "bob")
            _out, err = session.communicate(timeout=DEADLINE_S)
        finally:
            session.kill()
            session.wait()
    assert session.returncode == 255
    assert "withdrawn" in err
    assert (truth(row), row["disconnect_cause"], row["user"]) == (
        ("access_revoked", "server", True),
        "auth.user_revoked",
        "bob",
    )
    refused = as_bob("ssh", "dev", "--", "true")
    assert refused.returncode == 255
    assert refused.stderr.count("\n") == 1
    assert "revoked" in refused.stderr or "withdrawn" in refused.stderr


def test_a_wrong_token_is_one_clear_line(stack: Stack, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("tether_user_" + "A" * 43)
    done = stack.tether("login", stack.url, "--token-file", str(token), check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tether: ")
    assert done.stderr.count("\n") == 1


def test_a_changed_host_key_is_refused_until_it_is_accepted(own_stack: Stack) -> None:
    stack = own_stack
    assert stack.ssh("true").returncode == 0
    stack.agent.stop()
    (stack.root / "agent" / "ssh_host_ed25519_key").unlink()
    stack.start_agent()
    refused = stack.ssh("true")
    assert (refused.returncode, refused.stdout) == (255, "")
    assert "--accept-new-host-key dev" in refused.stderr
    accept = ("--ssh-config-file", str(stack.ssh_config), "--accept-new-host-key", "dev")
    stack.tether("config-ssh", *accept)
    assert stack.ssh("true").returncode == 0


def test_no_secret_is_in_a_log_or_readable_by_others(stack: Stack) -> None:
    secrets = [
        (stack.root / "server" / "admin-token").read_text().strip(),
        stack.agent_token.read_text().strip(),
        (stack.root / "client" / "ssh" / "id_ed25519").read_text().splitlines()[1],
    ]
    for log in (stack.server.log, stack.agent.log):
        text = log.read_text()
        assert [secret for secret in secrets if secret in text] == []
    database = (stack.root / "server" / "server.db").read_bytes()
    assert [s for s in secrets if s.encode() in database] == []
    private = [
        stack.root / "server" / "admin-token",
        stack.root / "server" / "ssh-user-ca",
        stack.root / "server" / "ticket-key.pem",
        stack.root / "server" / "server.db",
        stack.root / "agent" / "ssh_host_ed25519_key",
        stack.root / "agent" / "journal.db",
        stack.root / "client" / "config.json",
        stack.root / "client" / "ssh" / "id_ed25519",
    ]
    assert {str(p): oct(p.stat().st_mode & 0o777) for p in private} == {
        str(p): "0o600" for p in private
    }
