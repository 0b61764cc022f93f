"""People's programs, each as its own manual says to use it: sshfs, git, rsync, scp, sftp, Ansible,
a library and a program that know no certificates. Nothing of what they expect may be missing, and the
record of each must read like what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import TETHER, Stack, truth, wait_for

pytestmark = [pytest.mark.real, pytest.mark.long]
GRACEFUL = ("graceful", "client", True)


def needs(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def remote_shell(stack: Stack) -> str:
    return f"ssh -F {stack.ssh_config}"


def proxy_command(stack: Stack) -> list[str]:
    """What stands in the ProxyCommand of programs that read no ssh_config."""
    config = f"TETHER_CONFIG_DIR={stack.env['TETHER_CONFIG_DIR']}"
    return ["env", config, *TETHER, "ssh", "--stdio", "--", stack.host]


def device_key(stack: Stack) -> str:
    return str(stack.root / "client" / "ssh" / "id_ed25519")


def known_hosts(stack: Stack) -> str:
    return str(stack.root / "client" / "ssh" / "known_hosts")


def tree(path: Path) -> dict[str, str]:
    """Every file below `path` with what it holds."""
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


# -- a file system ------------------------------------------------------------------------------


@contextlib.contextmanager
def mounted(stack: Stack, there: Path, here: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`there` in the workspace, mounted at `here` for as long as this lasts."""
    sshfs = subprocess.Popen(
        [needs("sshfs"), "-f", "-F", str(stack.ssh_config), f"{stack.host}:{there}", str(here)],
        env=stack.env,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:

        def is_there() -> bool:
            if sshfs.poll() is not None:
                assert sshfs.stderr is not None
                said = sshfs.stderr.read().decode()
                assert "fuse" in said.lower(), said
                pytest.skip(f"FUSE cannot be used here: {said}")
            return os.path.ismount(here)

        wait_for("the file system", is_there)
        yield sshfs
    finally:
        if os.path.ismount(here):
            subprocess.run(["fusermount3", "-u", str(here)], check=True)
        try:
            sshfs.wait(DEADLINE_S)
        finally:
            sshfs.kill()


def test_sshfs_mounts_reads_writes_and_unmounts(stack: Stack, tmp_path: Path) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no /dev/fuse")
    there, here = stack.home / "fs", tmp_path / "mnt"
    there.mkdir()
    here.mkdir()
    (there / "old.txt").write_text("from the workspace\n")
    with stack.one_new_row() as row, mounted(stack, there, here):
        assert (here / "old.txt").read_text() == "from the workspace\n"
        (here / "dir").mkdir()
        (here / "dir" / "ünïcode 字.txt").write_text("from the laptop\n")
        (here / "big").write_bytes(b"0123456789abcdef" * 500_000)
        os.rename(here / "big", here / "dir" / "big")
        os.truncate(here / "dir" / "big", 100)
        os.symlink("big", here / "dir" / "link")
        (here / "old.txt").unlink()
        assert os.statvfs(here).f_blocks > 0
    assert tree(there) == {
        "dir/ünïcode 字.txt": "from the laptop\n",
        "dir/big": "0123456789abcdef" * 6 + "0123",
        "dir/link": "0123456789abcdef" * 6 + "0123",
    }
    assert os.readlink(there / "dir" / "link") == "big"
    assert row["type"] == "sftp"
    # sshfs ends its ssh with a signal or by closing its pipes: either way the user has unmounted.
    assert truth(row) in {GRACEFUL, ("client_closed", "client", True)}


# -- git and rsync ------------------------------------------------------------------------------


def test_git_pushes_and_fetches(stack: Stack, tmp_path: Path) -> None:
    needs("git")
    env = {
        **stack.env,
        "GIT_SSH_COMMAND": remote_shell(stack),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_NAME": "t" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "t@example.com" for who in ("AUTHOR", "COMMITTER")},
    }

    def git(*words: str, cwd: Path = tmp_path) -> str:
        done = subprocess.run(
            ["git", *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    git("init", "-q", "--bare", "-b", "main", str(stack.home / "push.git"))
    git("init", "-q", "-b", "main", "work")
    work = tmp_path / "work"
    (work / "a").write_text("one\n")
    git("add", ".", cwd=work)
    git("commit", "-qm", "one", cwd=work)
    url = f"ssh://{stack.host}{stack.home}/push.git"
    with stack.one_new_row() as push:
        git("push", "-q", url, "main", cwd=work)
    with stack.one_new_row() as fetch:
        git("clone", "-q", url, "again")
    assert (tmp_path / "again" / "a").read_text() == "one\n"
    assert [(truth(r), r["exit_code"]) for r in (push, fetch)] == [(GRACEFUL, 0)] * 2


def test_rsync_mirrors_both_ways_and_deletes(stack: Stack, tmp_path: Path) -> None:
    needs("rsync")
    mine, there, back = tmp_path / "mine", stack.home / "mirror", tmp_path / "back"
    mine.mkdir()
    for n in range(50):
        (mine / f"f{n} with spaces 字").write_text(f"{n}\n" * n)

    def rsync(source: str, target: str) -> None:
        stack.run("rsync", "-a", "--delete", "-e", remote_shell(stack), source, target, check=True)

    rsync(f"{mine}/", f"{stack.host}:{there}/")
    assert tree(there) == tree(mine)
    for n in range(25):
        (mine / f"f{n} with spaces 字").unlink()
    with stack.one_new_row() as up:
        rsync(f"{mine}/", f"{stack.host}:{there}/")
    assert tree(there) == tree(mine)
    back.mkdir()
    (back / "too much").write_text("x")
    with stack.one_new_row() as down:
        rsync(f"{stack.host}:{there}/", f"{back}/")
    assert tree(back) == tree(mine)
    assert [(truth(r), r["exit_code"]) for r in (up, down)] == [(GRACEFUL, 0)] * 2


# -- scp and sftp -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["-O", "-s"])
def test_scp_copies_a_tree_both_ways_in_both_protocols(
    stack: Stack, tmp_path: Path, protocol: str
) -> None:
    needs("scp")
    mine, there = tmp_path / "mine", stack.home / f"scp{protocol}"
    (mine / "deep" / "deeper").mkdir(parents=True)
    (mine / "deep" / "a b 字").write_text("a\n")
    (mine / "deep" / "deeper" / "run").write_text("#!/bin/sh\n")
    (mine / "deep" / "deeper" / "run").chmod(0o750)
    scp = ["scp", "-F", str(stack.ssh_config), protocol, "-r", "-p"]
    stack.run(*scp, str(mine), f"{stack.host}:{there}", check=True)
    stack.run(*scp, f"{stack.host}:{there}", str(tmp_path / "back"), check=True)
    assert tree(tmp_path / "back") == tree(mine)
    assert (tmp_path / "back" / "deep" / "deeper" / "run").stat().st_mode & 0o777 == 0o750


def test_scp_of_what_is_not_there_says_so(stack: Stack, tmp_path: Path) -> None:
    needs("scp")
    for protocol in ("-O", "-s"):
        with stack.one_new_row() as row:
            done = stack.run(
                *["scp", "-F", str(stack.ssh_config), protocol],
                *[f"{stack.host}:/not/there", str(tmp_path)],
            )
        assert done.returncode == 1
        assert "No such file or directory" in done.stderr
        assert truth(row) == GRACEFUL


def test_sftp_resumes_an_upload_and_a_download(stack: Stack, tmp_path: Path) -> None:
    needs("sftp")
    whole = os.urandom(3_000_000)
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "part").write_bytes(whole[:1_234_567])
    (stack.home / "resumed").write_bytes(whole[:1_000_001])
    batch = (
        f"reput {tmp_path}/whole {stack.home}/resumed\n"
        f"reget {stack.home}/resumed {tmp_path}/part\n"
        f"chmod 600 {stack.home}/resumed\nrename {stack.home}/resumed {stack.home}/renamed\n"
        f"df {stack.home}\n"
    )
    with stack.one_new_row() as row:
        sftp = ["sftp", "-F", str(stack.ssh_config), "-b", "-", stack.host]
        stack.run(*sftp, input=batch, check=True)
    assert (stack.home / "renamed").read_bytes() == whole
    assert (tmp_path / "part").read_bytes() == whole
    assert len(whole) - 1_000_001 < row["rx_bytes"] < len(whole), "only the rest was sent"
    assert (truth(row), row["type"]) == (GRACEFUL, "sftp")


# -- libraries that know no certificates --------------------------------------------------------


def test_paramiko_runs_commands_and_moves_files(stack: Stack, tmp_path: Path) -> None:
    import paramiko

    client = paramiko.SSHClient()
    client.load_host_keys(known_hosts(stack))
    with stack.one_new_row() as row:
        proxy = paramiko.ProxyCommand(shlex.join(proxy_command(stack)))
        try:
            client.connect(
                stack.host,
                username="anybody",
                sock=proxy,
                key_filename=device_key(stack),
                allow_agent=False,
                look_for_keys=False,
            )
            stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 5")
            stdin.write("in\n")
            stdin.channel.shutdown_write()
            assert (stdout.read(), stderr.read()) == (b"in\n", b"err\n")
            assert stdout.channel.recv_exit_status() == 5
            with client.open_sftp() as sftp:
                with sftp.open(f"{stack.home}/paramiko", "w") as file:
                    file.write("x" * 100_000)
                assert sftp.stat(f"{stack.home}/paramiko").st_size == 100_000
            shell = client.invoke_shell(width=100, height=30)
            shell.sendall(b"stty size; exit 0\n")
            seen = b""
            while b"30 100" not in seen:
                piece = shell.recv(4096)
                assert piece, seen
                seen += piece
            assert shell.recv_exit_status() == 0
        finally:
            client.close()
            proxy.close()
            proxy.process.wait(DEADLINE_S)
            for pipe in (proxy.process.stdin, proxy.process.stdout, proxy.process.stderr):
                pipe.close()
    sessions = stack.explain(row["id"])["sessions"]
    assert all(s["ended_at"] for s in sessions)
    # paramiko closes its sftp channel without waiting for the server's exit.
    ended = {(s["subsystem"], s["exit_code"]) for s in sessions}
    assert {("", 5), ("", 0)} < ended
    assert ended - {("", 5), ("", 0)} <= {("sftp", None), ("sftp", 0)}
    # paramiko leaves without a word of SSH and terminates its proxy, which says who did.
    assert truth(row) == ("client_closed", "client", True)
    assert row["disconnect_actor"].startswith(f"signal:15 from pid {os.getpid()} ")


def test_dropbears_client_runs_commands_and_forwards(stack: Stack, tmp_path: Path) -> None:
    """An SSH program of another family: its own key format, its own algorithms, no certificates."""
    dbclient, convert = needs("dbclient"), needs("dropbearconvert")
    key, home = tmp_path / "key", tmp_path / "home"
    subprocess.run(
        [convert, "openssh", "dropbear", device_key(stack), str(key)],
        check=True,
        capture_output=True,
    )
    (home / ".ssh").mkdir(parents=True)
    shutil.copy(known_hosts(stack), home / ".ssh" / "known_hosts")
    argv = [dbclient, "-i", str(key), "-J", shlex.join(proxy_command(stack))]
    env = {**stack.env, "HOME": str(home)}
    with stack.one_new_row() as row:
        done = subprocess.run(
            [*argv, "-T", stack.host, "cat; echo err >&2; exit 5"],
            input="in\n",
            env=env,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
    assert (done.returncode, done.stdout) == (5, "in\n"), done.stderr
    assert "err\n" in done.stderr
    assert truth(row) == GRACEFUL
    with socket.create_server(("127.0.0.1", 0)) as listener, stack.one_new_row() as piped:
        port = listener.getsockname()[1]
        through = subprocess.Popen(
            [*argv, "-B", f"127.0.0.1:{port}", stack.host],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            listener.settimeout(30)
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert through.stdout is not None
                assert through.stdout.read(5) == b"hello"
        finally:
            through.communicate(timeout=DEADLINE_S)
    assert piped["disconnect_initiator"] == "client"
    assert piped["disconnect_reason"] != "unknown"


def test_asyncssh_multiplexes_over_the_proxy_command(stack: Stack) -> None:
    async def use() -> tuple[list[str], bytes]:
        async with asyncssh.connect(
            stack.host,
            username="anybody",
            proxy_command=proxy_command(stack),
            known_hosts=known_hosts(stack),
            client_keys=[device_key(stack)],
            config=None,
            agent_path=None,
        ) as ssh:
            done = await asyncio.gather(*(ssh.run(f"echo {n}; exit {n}") for n in range(20)))
            assert [d.exit_status for d in done] == list(range(20))
            async with ssh.start_sftp_client() as sftp:
                await sftp.makedirs(f"{stack.home}/asyncssh/deep")
                async with sftp.open(f"{stack.home}/asyncssh/deep/f", "wb") as file:
                    await file.write(b"y" * 1_000_000)
            listener = await ssh.forward_local_port("127.0.0.1", 0, "127.0.0.1", stack.port)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = await reader.readline()
            writer.close()
            listener.close()
            return [str(d.stdout).strip() for d in done], answer

    with stack.one_new_row() as row:
        out, answer = asyncio.run(use())
    assert (out, answer.split()[1:2]) == ([str(n) for n in range(20)], [b"200"])
    assert (stack.home / "asyncssh" / "deep" / "f").stat().st_size == 1_000_000
    # asyncio kills a subprocess whose transport is closed, with SSH's goodbye perhaps still in the
    # pipe: then that is what happened to the client, and the record says so.
    assert truth(row) in {GRACEFUL, ("process_crashed", "client", False)}
    assert len(stack.explain(row["id"])["sessions"]) == 21


# -- Ansible ------------------------------------------------------------------------------------

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {src: "%(source)s", dest: "{{ home }}/ansible/", mode: "0640"}
    - ansible.builtin.template: {src: "%(template)s", dest: "{{ home }}/ansible/made"}
    - ansible.builtin.command: sh -c 'echo "$TETHER_WORKSPACE $(id -un)" >{{ home }}/ansible/said'
      become: "{{ can_become }}"
      become_method: su
"""


def test_an_ansible_playbook_copies_templates_and_becomes(stack: Stack, tmp_path: Path) -> None:
    playbook = Path(TETHER[0]).with_name("ansible-playbook")
    if not playbook.exists():
        pytest.skip("ansible-core is not installed")
    (tmp_path / "source").write_text("copied\n")
    (tmp_path / "template").write_text("made for {{ inventory_hostname }}: {{ 6 * 7 }}\n")
    (tmp_path / "play.yml").write_text(
        PLAYBOOK % {"source": tmp_path / "source", "template": tmp_path / "template"}
    )
    (stack.home / "ansible").mkdir()
    env = {
        **stack.env,
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_SSH_ARGS": f"-F {stack.ssh_config} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(tmp_path / "cp"),
    }
    can_become = os.geteuid() == 0 and shutil.which("su") is not None
    more = {
        "home": str(stack.home),
        "can_become": str(can_become).lower(),
        "ansible_python_interpreter": TETHER[0],
        "ansible_remote_tmp": str(stack.home / "ansible" / "tmp"),
    }
    with stack.one_new_row() as row:
        done = subprocess.run(
            [str(playbook), "-i", f"{stack.host},", str(tmp_path / "play.yml")]
            + [word for key, value in more.items() for word in ("-e", f"{key}={value}")],
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (master,) = (tmp_path / "cp").iterdir()
        stack.run(*stack.ssh_argv("-S", str(master), "-O", "exit", stack.host), check=True)
    made = stack.home / "ansible"
    me = subprocess.check_output(["id", "-un"], text=True).strip()
    assert (made / "source").read_text() == "copied\n"
    assert (made / "source").stat().st_mode & 0o777 == 0o640
    assert (made / "made").read_text() == f"made for {stack.host}: 42\n"
    assert (made / "said").read_text() == f"dev {me}\n"
    assert truth(row) == GRACEFUL, "its ControlPersist master: one connection for all tasks"
    assert len(stack.explain(row["id"])["sessions"]) >= 3


def test_control_persist_keeps_one_connection_for_many_programs(
    stack: Stack, tmp_path: Path
) -> None:
    path = tmp_path / "cm"
    shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}", "-o", "ControlPersist=1"]
    (tmp_path / "f").write_text("f\n")
    with stack.one_new_row() as row:
        first = stack.run(*stack.ssh_argv(*shared, stack.host, "exit 3"))
        second = stack.run(*stack.ssh_argv(*shared, stack.host, "echo two"))
        copied = stack.run(
            *["scp", "-F", str(stack.ssh_config), *shared],
            *[str(tmp_path / "f"), f"{stack.host}:{stack.home}/cm"],
        )
        wait_for("the master to leave by itself", lambda: not path.exists() or None)
    assert (first.returncode, second.stdout, copied.returncode) == (3, "two\n", 0)
    sessions = stack.explain(row["id"])["sessions"]
    assert sorted((s["exit_code"], s["subsystem"]) for s in sessions) == [
        (0, ""),
        (0, "sftp"),
        (3, ""),
    ]
    assert truth(row) == GRACEFUL
