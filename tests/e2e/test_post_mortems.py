"""How an agent ends is told by its next start: killed, crashed, out of memory, each from the other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.stack import Stack
from tests.support.host.cgroups import control_group

pytestmark = [pytest.mark.real, pytest.mark.long]


def session_up(stack: Stack) -> Any:
    ssh = stack.spawn_ssh(stack.host, "echo up; exec sleep 600")
    assert ssh.stdout is not None and ssh.stdout.readline() == b"up\n"
    return ssh


def done_with(ssh: Any) -> None:
    ssh.kill()
    ssh.wait(DEADLINE_S)
    for pipe in (ssh.stdin, ssh.stdout, ssh.stderr):
        pipe.close()


def death_in(stack: Stack, row: dict[str, Any]) -> dict[str, Any]:
    """The values of the one post-mortem in a row's evidence."""
    (found,) = [
        fact["values"]
        for fact in stack.explain(row["id"])["evidence"]
        if fact["kind"] == "previous_run_died"
    ]
    return dict(found)


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGKILL, "agent.killed"), (signal.SIGSEGV, "agent.crashed")]
)
def test_an_agent_that_was_killed_is_told_from_one_that_crashed(
    stack: Stack, number: signal.Signals, cause: str
) -> None:
    with stack.one_new_row() as row:
        ssh = session_up(stack)
        stack.agent.stop(number)
        stack.start_agent()
    done_with(ssh)
    assert (row["disconnect_cause"], row["disconnect_initiator"]) == (cause, "agent")
    death = death_in(stack, row)
    assert (death["signal"], death["host_rebooted"], death["oom_named"]) == (number, False, False)


def test_a_command_that_the_kernel_kills_for_memory_is_not_a_command_that_was_killed(
    stack: Stack,
) -> None:
    with control_group("memory", memory__limit_in_bytes=str(300 << 20)) as group:
        procs = group / "cgroup.procs"
        before = Path(f"/proc/{stack.agent.pid}/cgroup").read_text()
        eat = "exec python3 -c 'import os; a = [os.urandom(1 << 20) for _ in range(400)]'"
        try:
            procs.write_text(str(stack.agent.pid))
            with stack.one_new_row() as killed:
                assert stack.ssh(f"echo 1000 > /proc/self/oom_score_adj; {eat}").returncode == 255
            assert stack.agent.process.poll() is None, "the agent lives"
            with stack.one_new_row() as by_hand:
                assert stack.ssh("kill -9 $$").returncode == 255
        finally:
            memory = next(line for line in before.splitlines() if ":memory:" in line)
            root = Path("/sys/fs/cgroup/memory") / memory.rpartition(":")[2].lstrip("/")
            for pid in procs.read_text().split():
                (root / "cgroup.procs").write_text(pid)
    assert (killed["disconnect_cause"], killed["disconnect_actor"]) == (
        "session.oom_killed",
        "kernel:oom",
    )
    assert by_hand["disconnect_cause"] == "session.signal"


def test_an_agent_that_the_kernel_kills_for_memory_says_so(stack: Stack) -> None:
    """A fellow of its group eats; the kernel is asked to take the agent first."""
    with control_group("memory", memory__limit_in_bytes=str(300 << 20)) as group:
        procs = group / "cgroup.procs"
        procs.write_text(str(stack.agent.pid))
        Path(f"/proc/{stack.agent.pid}/oom_score_adj").write_text("1000")
        with stack.one_new_row() as row:
            ssh = session_up(stack)
            eat = "import os; a = [os.urandom(1 << 20) for _ in range(400)]"
            last = "open('/proc/self/oom_score_adj', 'w').write('-900')"
            stack.run("python3", "-c", f"open('{procs}', 'w').write('0'); {last}; {eat}")
            assert stack.agent.process.wait(DEADLINE_S) == -signal.SIGKILL
            for pid in procs.read_text().split():  # what its sessions left
                (group.parent / "cgroup.procs").write_text(pid)
            stack.start_agent()
        done_with(ssh)
    assert (row["disconnect_cause"], row["disconnect_actor"]) == ("agent.oom_killed", "kernel:oom")
    death = death_in(stack, row)
    assert death["signal"] == 9 and (death["oom_named"] or death["oom_kills"])
