"""Claims about IDE sessions: what makes one, what belongs to it, and why it ended.

The machine is driven by hand; the watcher meets real processes, ports and, where it may make one, a
memory cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from tests.support.agent.listening import listening
from tests.support.clock import EPOCH, at
from tests.support.deadline import DEADLINE_S
from tether.agent.ide.port_inspection import PortInspector
from tether.agent.ide.tracker import (
    GRACE_S,
    MAX_CHANNELS,
    SETTLE_S,
    Backend,
    Begun,
    Command,
    Finished,
    IdeSession,
    IdeTracker,
    Unwatch,
    Watch,
    jetbrains_marker,
)
from tether.agent.ide.watcher import IdeWatcher
from tether.agent.process.process_end import ProcessEnd, ProcessWatch
from tether.agent.process.socket_holders import Holder, started_at
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import ConnectType, Initiator, Party, Reason, StreamEnd, Vantage
from tether.net.clock import SystemClock
from tether.protocol.messages.reports import ForwardEnd, IdeChannel, IdeSessionRecord

A2C = ConnectType.AGENT_TO_CLIENT
PROCESS = Holder(4242, 99)
BACKEND = Backend(PROCESS, "idea.vendor.name=JetBrains")
BY_CLIENT, BY_WORKSPACE = ForwardEnd.CLIENT_CLOSED, ForwardEnd.WORKSPACE_CLOSED
BY_CONNECTION = ForwardEnd.CONNECTION_ENDED

# -- whose command line it is -------------------------------------------------------------------

JVM = ["/opt/jbr/bin/java", "-Xmx2048m", "-cp", "/opt/idea/lib/app.jar"]


@pytest.mark.parametrize(
    ("command", "marker"),
    [
        ([*JVM, "-Didea.vendor.name=JetBrains", "Main"], "idea.vendor.name=JetBrains"),
        ([*JVM, "-DIDEA.VENDOR.NAME=jetbrains"], "idea.vendor.name=JetBrains"),
        (["/tmp/echoserver", "-D", "idea.vendor.name=JetBrains"], "idea.vendor.name=JetBrains"),
        (["sh", "-c", "serve 'idea.vendor.name=JetBrains' x"], "idea.vendor.name=JetBrains"),
        ([*JVM, "com.jetbrains.toolbox.cli.Main", "agent"], "com.jetbrains.toolbox"),
        (["x", "-Dcom.jetbrains.toolbox=1"], "com.jetbrains.toolbox"),
        (["/opt/idea/bin/remote-dev-server", "run"], "remote-dev-server"),
        (["bash", "/opt/idea/bin/remote-dev-server.sh", "run"], "remote-dev-server"),
        (["Remote-Dev-Server"], "remote-dev-server"),
    ],
)
def test_a_backend_is_known_by_its_arguments(command: list[str], marker: str) -> None:
    assert jetbrains_marker(command) == marker


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["python3", "-m", "http.server"],
        ["java", "-Didea.vendor.name=JetBrainsFoo"],
        ["java", "-Dnot.idea.vendor.name=JetBrains"],
        ["java", "-cp", "/x/com.jetbrains.toolbox/gateway-api-1.0.jar:/y.jar", "GradleDaemon"],
        ["java", "-cp", "/cache/modules/com.jetbrains.toolbox-api.jar", "GradleDaemon"],
        ["gradle", "--include", "com.jetbrains.toolbox:plugin-api:1.0"],
        ["python3", "-m", "http.server", "-d", "/opt/remote-dev-server/docs"],
        ["tail", "-F", "/tmp/remote-dev-server.log"],
        ["node", "my-remote-dev-server-proxy.js"],
    ],
    ids=str,
)
def test_a_marker_within_another_name_is_none(command: list[str]) -> None:
    assert jetbrains_marker(command) is None


# -- the machine --------------------------------------------------------------------------------


class Story:
    """A tracker and everything that it said."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.tracker = IdeTracker(new_id=lambda: f"s{next(self.numbers)}")
        self.said: list[Command] = []

    def open(
        self,
        channel: str,
        mono: float,
        *,
        client: str = "alice",
        connection: str = "c1",
        backend: Backend = BACKEND,
    ) -> None:
        self.said += self.tracker.opened(
            channel,
            client=client,
            connection_id=connection,
            backend=backend,
            destination="127.0.0.1:5990",
            now=at(mono),
        )

    def close(self, channel: str, mono: float, end: ForwardEnd, rx: int = 0, tx: int = 0) -> None:
        self.said += self.tracker.closed(channel, end, at(mono), rx_bytes=rx, tx_bytes=tx)

    def gone(self, mono: float, **end: object) -> None:
        self.said += self.tracker.backend_gone(
            PROCESS,
            ProcessEnd(**end),  # type: ignore[arg-type]
            at(mono),
        )

    def connection_ends(self, connection: str, mono: float, *facts: Evidence) -> None:
        self.said += self.tracker.connection_ended(connection, facts, at(mono))

    def tick(self, mono: float) -> None:
        self.said += self.tracker.tick(at(mono))

    def wait(self) -> None:
        while (deadline := self.tracker.deadline()) is not None:
            self.tick(deadline)

    @property
    def finished(self) -> list[IdeSession]:
        return [said.session for said in self.said if isinstance(said, Finished)]

    @property
    def causes(self) -> list[str]:
        return [classify(A2C, s.cell.facts).disconnect.cause for s in self.finished]


IN = ev.Authenticated(vantage=Vantage.AGENT, at=0.5, user="alice", method="publickey")
NETWORK = (
    IN,
    ev.SessionEnded(vantage=Vantage.AGENT, at=1.0, exit_code=0, open_sessions=0),
    ev.StreamEnded(vantage=Vantage.RELAY, at=3.0, peer=Party.CLIENT, how=StreamEnd.SILENT),
)
STOP = (
    IN,
    ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=3.0,
        by=Party.SERVER,
        cause="workspace.autostop",
        actor="policy:autostop",
    ),
)
LEFT = (
    IN,
    ev.SessionEnded(vantage=Vantage.AGENT, at=1.0, exit_code=0, open_sessions=0),
    ev.SshDisconnected(vantage=Vantage.AGENT, at=3.0, by=Party.CLIENT, code=11, open_sessions=0),
)


def test_the_channels_of_one_backend_are_one_session() -> None:
    story = Story()
    for number in range(5):
        story.open(f"ch{number}", number)
    for number in range(5):
        story.close(f"ch{number}", 10 + number, BY_CLIENT, rx=number, tx=100)
    story.wait()
    (session,) = story.finished
    assert story.said[:1] == [Watch(PROCESS)]
    assert [type(said) for said in story.said] == [Watch, Begun, Unwatch, Finished]
    assert session.record() == IdeSessionRecord(
        session_id="s1",
        connection_id="c1",
        session_type="jetbrains",
        backend_pid=4242,
        backend_marker="idea.vendor.name=JetBrains",
        started_at=EPOCH,
        ended_at=EPOCH + 14,
        facts=session.record().facts,
        channels=[
            IdeChannel(
                connection_id="c1",
                destination="127.0.0.1:5990",
                started_at=EPOCH + number,
                ended_at=EPOCH + 10 + number,
                end="client_closed",
                rx_bytes=number,
                tx_bytes=100,
            )
            for number in range(5)
        ],
        channels_total=5,
        rx_bytes=10,
        tx_bytes=500,
    )


def test_another_client_or_backend_is_another_session() -> None:
    story = Story()
    story.open("a", 0)
    story.open("b", 0, client="bob")
    story.open("c", 0, backend=Backend(Holder(4242, 100), "remote-dev-server"))
    assert [session.session_id for session in story.tracker.sessions] == ["s1", "s2", "s3"]
    watched = [said.process for said in story.said if isinstance(said, Watch)]
    assert watched == [PROCESS, Holder(4242, 100)]


def test_a_process_is_watched_as_long_as_somebody_is_at_it() -> None:
    story = Story()
    story.open("a", 0)
    story.open("b", 0, client="bob")
    story.close("a", 1, BY_CLIENT)
    story.tick(1 + GRACE_S)
    assert not any(isinstance(said, Unwatch) for said in story.said)
    story.close("b", 20, BY_CLIENT)
    story.wait()
    assert story.said[-2:] == [Unwatch(PROCESS), Finished(story.finished[1])]


def test_an_ide_that_was_closed_is_not_waited_for_forever() -> None:
    story = Story()
    story.open("a", 0)
    story.close("a", 5, BY_CLIENT)
    assert story.finished == []
    assert story.tracker.deadline() == 5 + GRACE_S
    story.wait()
    assert story.causes == ["ide.closed"]
    assert story.finished[0].ended == at(5)
    assert story.tracker.deadline() is None


def test_an_ide_that_opens_the_next_channel_goes_on() -> None:
    story = Story()
    for number in range(50):
        story.open(f"ch{number}", number)
        story.close(f"ch{number}", number + 0.5, BY_WORKSPACE)
        story.tick(number + 0.9)
    assert story.finished == []
    assert len(story.tracker.sessions) == 1


def test_a_backend_that_hangs_up_and_runs_on_is_told_from_a_user_who_closes() -> None:
    story = Story()
    story.open("a", 0)
    story.close("a", 5, BY_WORKSPACE)
    story.wait()
    assert story.causes == ["ide.backend_closed"]


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ({"exit_code": 0}, "ide.backend_exited"),
        ({"exit_code": 3}, "ide.backend_failed"),
        ({"exit_code": 143}, "ide.backend_killed"),
        ({"exit_signal": "KILL", "oom_kills": 0}, "ide.backend_killed"),
        ({"exit_signal": "SEGV", "oom_kills": 1}, "ide.backend_killed"),
        ({"exit_signal": "KILL", "oom_kills": 1}, "ide.backend_oom_killed"),
        ({"oom_kills": 1}, "ide.backend_oom_killed"),
        ({"exit_signal": "KILL"}, "ide.backend_killed"),
        ({}, "ide.backend_gone"),
    ],
    ids=str,
)
@pytest.mark.parametrize("sockets_first", [True, False])
def test_a_backend_that_ended_is_the_cause_whoever_tells_first(
    end: dict[str, object], cause: str, sockets_first: bool
) -> None:
    story = Story()
    story.open("a", 0)
    story.open("b", 0)
    if sockets_first:
        story.close("a", 5.0, ForwardEnd.WORKSPACE_RESET)
        story.close("b", 5.0, ForwardEnd.WORKSPACE_RESET)
        story.gone(5.1, **end)
    else:
        story.gone(5.0, **end)
        assert story.finished == []  # its channels are about to follow
        story.close("a", 5.1, ForwardEnd.WORKSPACE_RESET, rx=7)
        story.close("b", 5.1, ForwardEnd.WORKSPACE_RESET)
    assert story.causes == [cause]
    (session,) = story.finished
    assert session.ended == at(5.0)
    assert session.channels_total == len(session.channels) == 2


def test_a_backend_that_is_gone_is_not_waited_for_long() -> None:
    story = Story()
    story.open("a", 0)
    story.gone(5.0, exit_signal="KILL")
    story.tick(5.0 + SETTLE_S)
    assert story.causes == ["ide.backend_killed"]
    story.close("a", 9.0, ForwardEnd.WORKSPACE_RESET)  # late, and nobody's any more
    assert len(story.finished) == 1


def test_a_channel_that_comes_late_to_a_dead_backend_is_no_new_session() -> None:
    story = Story()
    story.open("a", 0)
    story.gone(5.0, exit_signal="KILL")
    story.open("b", 5.0)
    story.close("a", 5.1, ForwardEnd.WORKSPACE_RESET)
    story.open("c", 5.2)
    assert len([said for said in story.said if isinstance(said, Begun)]) == 1
    assert story.causes == ["ide.backend_killed"]
    assert story.tracker.sessions == ()


def test_a_backend_that_ends_after_its_user_left_is_a_symptom() -> None:
    story = Story()
    story.open("a", 0)
    story.close("a", 5.0, BY_CLIENT)
    story.gone(7.0, exit_code=0)
    assert story.causes == ["ide.closed"]
    (session,) = story.finished
    assert [fact.kind for fact in session.cell.facts] == ["ide_channels_closed"]
    assert [fact.kind for fact in session.cell.symptoms] == ["ide_backend_gone"]


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (NETWORK, "client.unreachable"),
        (STOP, "workspace.autostop"),
        (LEFT, "client.closed"),
    ],
    ids=["network", "workspace stopped", "client left"],
)
@pytest.mark.parametrize("told", [BY_CONNECTION, BY_CLIENT, None], ids=str)
def test_a_connection_that_ends_explains_its_ides_end(
    facts: tuple[Evidence, ...], cause: str, told: ForwardEnd | None
) -> None:
    story = Story()
    story.open("a", 0)
    story.open("b", 0)
    if told is not None:  # asyncssh tells of the channels just before
        story.close("a", 60.0, told)
        story.close("b", 60.0, told)
    story.connection_ends("c1", 60.0, *facts)
    assert story.causes == [cause]
    (session,) = story.finished
    assert (session.caused_by, session.ended) == ("c1", at(60.0))


def test_a_session_that_ended_with_its_connection_has_no_exit_code_of_a_shell() -> None:
    story = Story()
    story.open("a", 0)
    story.connection_ends("c1", 60.0, *LEFT)
    disconnect = classify(A2C, story.finished[0].cell.facts).disconnect
    assert (disconnect.cause, disconnect.exit_code) == ("client.closed", None)


def test_a_connection_that_ends_long_after_explains_nothing() -> None:
    story = Story()
    story.open("a", 0)
    story.close("a", 5.0, BY_CLIENT)
    story.connection_ends("c1", 5.0 + SETTLE_S + 1, *NETWORK)
    assert story.causes == ["ide.closed"]
    assert story.finished[0].caused_by == ""


@pytest.mark.parametrize("backend_tells", [True, False])
def test_a_client_that_leaves_as_its_backend_dies_is_not_to_blame(backend_tells: bool) -> None:
    story = Story()
    story.open("a", 0)
    story.close("a", 5.0, ForwardEnd.WORKSPACE_RESET)
    story.connection_ends("c1", 5.1, *LEFT)
    if backend_tells:
        story.gone(5.5, exit_signal="KILL", oom_kills=1)
    story.wait()
    assert story.causes == ["ide.backend_oom_killed" if backend_tells else "client.closed"]


def test_a_session_over_two_connections_ends_with_the_last() -> None:
    story = Story()
    story.open("a", 0, connection="c1")
    story.open("b", 1, connection="c2")
    story.connection_ends("c1", 10, *NETWORK)
    assert story.finished == []
    story.connection_ends("c2", 20, *STOP)
    assert story.causes == ["workspace.autostop"]
    (session,) = story.finished
    assert (session.caused_by, session.connection_id) == ("c2", "c1")
    assert [channel.connection_id for channel in session.channels] == ["c1", "c2"]


def test_the_end_of_a_connection_that_carries_no_ide_is_nothing() -> None:
    story = Story()
    story.open("a", 0)
    story.connection_ends("other", 1, *NETWORK)
    story.close("never opened", 1, BY_CLIENT)
    assert story.finished == []


def test_the_channels_that_are_listed_have_a_bound() -> None:
    story = Story()
    for number in range(MAX_CHANNELS + 10):
        story.open(f"ch{number}", 0)
    for number in range(MAX_CHANNELS + 10):
        story.close(f"ch{number}", 1, BY_CLIENT, rx=1)
    story.wait()
    (session,) = story.finished
    assert (len(session.channels), session.channels_total, session.rx_bytes) == (64, 74, 74)


def test_an_agent_that_stops_tells_what_it_knows() -> None:
    story = Story()
    story.open("quiet", 0)
    story.open("open", 0, client="bob")
    story.close("quiet", 1, BY_CLIENT)
    story.said += story.tracker.finish(at(2))
    assert story.causes == ["ide.closed", "unknown"]
    assert story.tracker.sessions == ()


_steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "close", "gone", "connection", "tick"]),
        st.integers(0, 5),
        st.sampled_from(ForwardEnd),
        st.sampled_from([0.0, 0.1, 3.0, 20.0]),
    ),
    max_size=60,
)


@given(_steps)
def test_every_session_that_began_finishes_once_and_is_watched_meanwhile(
    steps: list[tuple[str, int, ForwardEnd, float]],
) -> None:
    story, now, dead = Story(), 0.0, set()
    for turn, (step, number, end, later) in enumerate(steps):
        now += later
        if step == "open" and "backend" not in dead:
            story.open(
                f"ch{turn % 7}-{turn}", now, client=f"u{number % 2}", connection=f"c{number % 3}"
            )
        elif step == "close":
            names = [name for s in story.tracker.sessions for name in s.open]
            if names:
                story.close(names[number % len(names)], now, end, rx=1)
        elif step == "gone":
            dead.add("backend")
            story.gone(now, exit_code=number)
        elif step == "connection":
            story.connection_ends(f"c{number % 3}", now, *NETWORK)
        else:
            story.tick(now)
    story.said += story.tracker.finish(at(now + 100))
    begun = [said.session.session_id for said in story.said if isinstance(said, Begun)]
    assert sorted(begun) == sorted(session.session_id for session in story.finished)
    balance = 0
    for said in story.said:
        balance += isinstance(said, Watch) - isinstance(said, Unwatch)
        assert balance in (0, 1)
    assert balance == 0
    for session in story.finished:
        assert session.ended is not None
        assert session.channels_total >= len(session.channels)
    assert story.tracker._by_channel == {}


# -- real processes -----------------------------------------------------------------------------

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


@contextlib.contextmanager
def grandchild(script: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A process that is not our child, which does `script` when its input ends."""
    command = f"exec 3<&0; sh -c 'read x <&3; {script}' & echo $!; wait"
    parent = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        yield int(parent.stdout.readline()), parent
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(DEADLINE_S)
        for pipe in (parent.stdin, parent.stdout):
            if pipe is not None:
                pipe.close()


async def end_of(script: str) -> ProcessEnd:
    with grandchild(script) as (pid, parent):
        started = started_at(pid)
        assert started is not None
        told: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()
        watch = ProcessWatch(Holder(pid, started), told.set_result)
        try:
            assert parent.stdin is not None
            parent.stdin.close()
            return await asyncio.wait_for(told, DEADLINE_S)
        finally:
            watch.close()


@linux
@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, None), ("exit 7", 7, None), ("kill -KILL $$", None, "KILL")],
)
async def test_the_end_of_a_process_that_is_not_our_child(
    script: str, code: int | None, number: str | None
) -> None:
    end = await end_of(script)
    # Before Linux 6.15 a quick burial hides the status; what is told is never wrong.
    assert (end.exit_code, end.exit_signal) in {(code, number), (None, None)}
    assert end.oom_kills in (0, None)


@linux
async def test_a_process_that_is_already_gone_ends_at_once_and_untold() -> None:
    told: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()
    ProcessWatch(Holder(os.getpid(), 1), told.set_result)  # our pid, of another start
    end = await asyncio.wait_for(told, DEADLINE_S)
    assert (end.exit_code, end.exit_signal) == (None, None)


Records = asyncio.Queue[IdeSessionRecord]


@pytest.fixture
async def watched() -> AsyncIterator[tuple[IdeWatcher, Records]]:
    clock = SystemClock()
    inspector = PortInspector(clock=clock)
    records: Records = asyncio.Queue()
    watcher = IdeWatcher(inspector, clock=clock, on_record=records.put_nowait)
    yield watcher, records
    await watcher.close()
    inspector.close()


async def following(records: Records) -> IdeSessionRecord:
    return await asyncio.wait_for(records.get(), DEADLINE_S)


MARKER = "-Didea.vendor.name=JetBrains"


def told(line: object) -> tuple[object, ...]:
    assert isinstance(line, dict)
    names = ("connect_type", "reason", "expected", "initiator", "cause", "actor")
    return tuple(line[name if name == "connect_type" else f"disconnect_{name}"] for name in names)


@linux
@pytest.mark.parametrize(
    ("how", "cause"),
    [("exit", "ide.backend_failed"), ("kill", "ide.backend_killed")],
)
async def test_a_real_backend_that_ends_is_logged_with_the_fields(
    watched: tuple[IdeWatcher, Records], how: str, cause: str
) -> None:
    watcher, records = watched
    with capture_logs() as lines, listening("127.0.0.1", MARKER, code=3) as backend:
        watcher.channel_opened(
            "c1/1", client="alice", connection_id="c1", host="127.0.0.1", port=backend.port
        )
        begun = await following(records)
        assert (begun.backend_pid, begun.ended_at) == (backend.pid, None)
        if how == "exit":
            backend.finish()
        else:
            backend.kill()
        watcher.channel_closed("c1/1", ForwardEnd.WORKSPACE_RESET, rx_bytes=1, tx_bytes=2)
        ended = await following(records)
    assert [line["event"] for line in lines] == ["ide session opened", "ide session closed"]
    connect_type, reason, expected, initiator, named, actor = told(lines[-1])
    assert (connect_type, expected, initiator, actor) == (
        "agent_to_client",
        False,
        str(Initiator.AGENT),
        "",
    )
    # Popen buries its child at once; before Linux 6.15 only "gone" may be known then.
    assert (named, reason) in {
        (cause, str(Reason.PROCESS_CRASHED)),
        ("ide.backend_gone", str(Reason.PROCESS_CRASHED)),
    }
    assert (ended.channels_total, ended.rx_bytes, ended.tx_bytes) == (1, 1, 2)
    assert watcher.sessions == ()


@linux
async def test_a_process_without_a_marker_is_no_ide(
    watched: tuple[IdeWatcher, Records],
) -> None:
    watcher, records = watched
    with (
        listening("127.0.0.1", "nothing", "special") as other,
        listening("127.0.0.1", MARKER) as backend,
    ):
        for number, port in enumerate((other.port, backend.port)):
            watcher.channel_opened(
                f"c1/{number}", client="alice", connection_id="c1", host="127.0.0.1", port=port
            )
        assert (await following(records)).backend_pid == backend.pid
    assert len(watcher.sessions) == 1


@linux
async def test_a_channel_that_is_shorter_than_the_look_behind_it_counts(
    watched: tuple[IdeWatcher, Records],
) -> None:
    watcher, records = watched
    with listening("127.0.0.1", MARKER) as backend:
        watcher.channel_opened(
            "c1/1", client="alice", connection_id="c1", host="127.0.0.1", port=backend.port
        )
        watcher.channel_closed("c1/1", BY_CLIENT, rx_bytes=5, tx_bytes=6)
        await following(records)
        watcher.connection_ended("c1", LEFT)
        ended = await following(records)
    assert (ended.rx_bytes, ended.tx_bytes, ended.caused_by) == (5, 6, "c1")


@linux
async def test_a_workspace_that_stops_explains_the_ides_end(
    watched: tuple[IdeWatcher, Records],
) -> None:
    watcher, records = watched
    with capture_logs() as lines, listening("127.0.0.1", MARKER) as backend:
        watcher.channel_opened(
            "c1/1", client="alice", connection_id="c1", host="localhost", port=backend.port
        )
        await following(records)
        watcher.channel_closed("c1/1", BY_CONNECTION, rx_bytes=0, tx_bytes=0)
        watcher.connection_ended("c1", STOP)
    assert told(lines[-1]) == (
        "agent_to_client",
        "workspace_stopped",
        True,
        "server",
        "workspace.autostop",
        "policy:autostop",
    )
    assert lines[-1]["caused_by"] == "c1"


# -- a real out-of-memory kill --------------------------------------------------------------------

CGROUP = Path("/sys/fs/cgroup/memory")

EATER = """
import os, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
print(os.getpid(), flush=True)
sys.stdin.read(1)
eaten = []
while True:
    eaten.append(bytearray(os.urandom(1 << 20)))
"""


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    version_1 = CGROUP.is_dir()
    path = (CGROUP if version_1 else CGROUP.parent) / f"tether-test-{uuid.uuid4().hex[:8]}"
    try:
        path.mkdir()
        if version_1:
            (path / "memory.limit_in_bytes").write_text(str(48 << 20))
        else:
            (path / "memory.max").write_text(str(48 << 20))
            (path / "memory.swap.max").write_text("0")
    except OSError as wrong:
        pytest.skip(f"no memory cgroup can be made here: {wrong}")
    yield path
    path.rmdir()


@linux
async def test_a_process_that_runs_out_of_memory_is_told_from_one_that_is_killed(
    small_cgroup: Path,
) -> None:
    eater = subprocess.Popen(
        [sys.executable, "-c", EATER, str(small_cgroup)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert eater.stdout is not None and eater.stdin is not None
        pid = int(eater.stdout.readline())
        told: asyncio.Future[ProcessEnd] = asyncio.get_running_loop().create_future()
        watch = ProcessWatch(Holder(pid, started_at(pid) or 0), told.set_result)
        eater.stdin.write("x")
        eater.stdin.flush()
        end = await asyncio.wait_for(told, DEADLINE_S)
        watch.close()
    finally:
        eater.kill()
        eater.wait(DEADLINE_S)
        for pipe in (eater.stdin, eater.stdout):
            if pipe is not None:
                pipe.close()
    assert (end.exit_signal, end.oom_kills) == ("KILL", 1)
    fact = ev.IdeBackendGone(
        vantage=Vantage.AGENT, at=1.0, pid=pid, exit_signal=end.exit_signal, oom_kills=end.oom_kills
    )
    disconnect = classify(A2C, (fact,)).disconnect
    assert (disconnect.cause, disconnect.reason, disconnect.actor) == (
        "ide.backend_oom_killed",
        Reason.RESOURCE_EXHAUSTED,
        "kernel:oom",
    )
