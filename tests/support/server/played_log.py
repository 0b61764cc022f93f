"""Two days of a small installation, played into a database through the connection log itself.

Law: what is on file afterwards was judged by the product, from the facts that agents, clients and
relays would have reported: nothing writes a verdict here. The same seed plays the same days. The
database is left for a server to start on.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import update

from tests.support.clock import EPOCH
from tests.support.server.log_reader import ADMIN
from tests.support.server.parts import Parts, parts
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Party,
    Reach,
    StreamEnd,
    Vantage,
)
from tether.protocol.messages.base import records_of
from tether.protocol.messages.reports import (
    Ended,
    Opened,
    PathRecord,
    Report,
    ReportItem,
    SessionRecord,
)
from tether.server.auth.accounts import ADMIN_TOKEN_FILE
from tether.server.connlog.ingest import Reporter
from tether.server.connlog.records import NewConnection
from tether.server.db.tables.accounts import Role
from tether.server.db.tables.server_runs import runs
from tether.server.identity import Identity

HOUR_S, DAY_S = 3_600.0, 86_400.0
SPAN_S = 2 * DAY_S
"""How far back the history begins."""

PEOPLE = {
    "ada": ("api", "203.0.113.17"),
    "ben": ("checkout", "203.0.113.17"),
    "chloe": ("data-lab", "198.51.100.4"),
    "dmitri": ("firmware", "198.51.100.88"),
    "elif": ("mobile", "192.0.2.31"),
    "farah": ("data-lab", "192.0.2.77"),
    "goran": ("api", "203.0.113.90"),
    "hana": ("search", "192.0.2.140"),
}
"""User -> their workspace, and the address that they come from."""

OWNERS = {
    "api": "ada",
    "checkout": "ben",
    "data-lab": "chloe",
    "firmware": "dmitri",
    "mobile": "elif",
    "search": "hana",
}
REGIONS = ("eu-central", "us-east")
AGENT, CLIENT, RELAY, SERVER = Vantage.AGENT, Vantage.CLIENT, Vantage.RELAY, Vantage.SERVER
Facts = Sequence[ev.Evidence]


@dataclass(frozen=True)
class _Step:
    """Something that happens at a moment (unix seconds)."""

    at: float
    does: Callable[[], Awaitable[object]]


@dataclass
class _Life:
    """One connection. Facts are made from the time of its end."""

    user: str
    began: float
    ended: float
    by_agent: Callable[[float], Facts]
    by_client: Callable[[float], Facts] = lambda at: ()
    agent_tells_at: float | None = None
    """Where the agent reports the end later than it comes: a post-mortem."""
    client_tells_at: float | None = None
    region: str = ""
    """Its relay; "" for a direct way."""
    gaps: Sequence[tuple[float, float]] = ()
    """When it was detached, and for how many seconds."""
    session: str = "ssh"
    exit_code: int | None = None


def left(at: float) -> Facts:
    """A shell that was left in order."""
    return (
        ev.SessionEnded(vantage=AGENT, at=at, exit_code=0, open_sessions=0),
        ev.SshDisconnected(vantage=AGENT, at=at, by=Party.CLIENT, code=11, open_sessions=0),
    )


def lid_closed(at: float) -> Facts:
    """What an agent sees of a laptop that fell asleep."""
    return (
        ev.StreamEnded(
            vantage=AGENT, at=at, peer=Party.CLIENT, how=StreamEnd.SILENT, silence_s=900.0
        ),
        ev.TcpCounters(
            vantage=AGENT, at=at, peer=Party.CLIENT, retransmits=9, probes=0, unacked=4,
            total_retrans=15, last_data_recv_ms=900_000, last_ack_recv_ms=900_000, pmtu=1500,
            rtt_us=18_400, backoff=7, lost=4, reach=Reach.DIRECT,
        ),
    )  # fmt: skip


def woke_up(at: float) -> Facts:
    """What the laptop tells once it is awake."""
    return (
        ev.Suspended(vantage=CLIENT, at=at, party=Party.CLIENT, gap_s=2_460.0),
        ev.AddressChanged(
            vantage=CLIENT, at=at, party=Party.CLIENT, removed="192.168.1.23", added="10.3.0.9",
            ours=True,
        ),
    )  # fmt: skip


def reset_on_the_way(at: float) -> Facts:
    """A firewall sent RST to both ends."""
    return (
        ev.StreamEnded(
            vantage=AGENT, at=at, peer=Party.CLIENT, how=StreamEnd.RESET, errno="ECONNRESET",
            heard_ago_s=1.2, reach=Reach.DIRECT,
        ),
    )  # fmt: skip


def reset_at_the_client(at: float) -> Facts:
    """The other half of it."""
    return (
        ev.StreamEnded(
            vantage=CLIENT, at=at, peer=Party.AGENT, how=StreamEnd.RESET, errno="ECONNRESET",
            heard_ago_s=1.3, reach=Reach.DIRECT,
        ),
    )  # fmt: skip


def killed_for_memory(at: float) -> Facts:
    """The next run of an agent found that the kernel had killed the last one."""
    return (
        ev.PreviousRunDied(
            vantage=AGENT, at=at, party=Party.AGENT, host_rebooted=False, last_alive_at=at - 2,
            signal=9, oom_kills=1, oom_named=True,
        ),
    )  # fmt: skip


def relay_died(at: float) -> Facts:
    """A relay's process was killed under a tunnel that had no other way."""
    return (
        ev.StreamEnded(
            vantage=AGENT, at=at, peer=Party.RELAY, how=StreamEnd.EOF, reach=Reach.DIRECT
        ),
        ev.PreviousRunDied(vantage=RELAY, at=at, party=Party.RELAY, host_rebooted=False, signal=9),
    )


def network_gone(at: float) -> Facts:
    """Nobody heard anything of the client again."""
    return (
        ev.StreamEnded(
            vantage=AGENT, at=at, peer=Party.CLIENT, how=StreamEnd.SILENT, silence_s=900.0
        ),
    )


def link_went_down(at: float) -> Facts:
    """The client's wireless network went."""
    return (ev.LinkChanged(vantage=CLIENT, at=at, party=Party.CLIENT, interface="wlan0", up=False),)


def said(by: Party, vantage: Vantage, cause: str, actor: str = "") -> Callable[[float], Facts]:
    """A goodbye."""
    return lambda at: (ev.GoodbyeSaid(vantage=vantage, at=at, by=by, cause=cause, actor=actor),)


class History:
    """Plays lives in the order of what happens in them."""

    def __init__(self, made: Parts, now: float, seed: int) -> None:
        self._made, self._now = made, now
        self._random = random.Random(seed)
        self._steps: list[_Step] = []
        self._ids: dict[str, str] = {}
        self._seqs: dict[str, int] = {}
        self._links = 0

    async def play(self) -> None:
        """Everything, from `SPAN_S` ago until now."""
        self._move(self._now - 30 * DAY_S)
        for name in PEOPLE:
            await self._made.accounts.create_user(name, Role.MEMBER, ADMIN)
        for name, owner in OWNERS.items():
            by = Identity(kind="user", user=owner, role="member")
            created = await self._made.workspaces.create(name, by)
            self._ids[name] = created.workspace_id
        self._server_runs()
        self._everyday()
        self._what_went_wrong()
        for step in sorted(self._steps, key=lambda one: one.at):
            if step.at < self._now:
                self._move(step.at)
                await step.does()
        await self._made.store.write(
            lambda tx: tx.execute(
                update(runs).where(runs.c.run_id == "run-before").values(version="0.9.0")
            )
        )

    def _move(self, wall: float) -> None:
        self._made.clock.mono = wall - EPOCH

    def _at(self, at: float, does: Callable[[], Awaitable[object]]) -> None:
        self._steps.append(_Step(at, does))

    def _id(self) -> str:
        return self._random.randbytes(16).hex()

    # -- what is played -----------------------------------------------------------------------

    def _server_runs(self) -> None:
        """A deploy 21 h ago, which every agent's control link sees."""
        log, restart = self._made.connections, self._now - 21 * HOUR_S
        first = self._now - SPAN_S - 600
        self._at(first, lambda: log.start_run("run-before", booted_at=None))
        self._at(restart, lambda: log.end_run("run-before"))
        self._at(restart + 4, lambda: log.start_run("run-after", booted_at=None))
        self._at(self._now - 5, lambda: log.end_run("run-after"))
        for name in OWNERS:
            stopped = said(Party.SERVER, SERVER, "server.shutdown", "signal:15 from pid 1")
            self._link(name, first + 2, restart - 0.5, stopped)
            if name != "search":
                self._link(name, restart + 6, self._now - 6, stopped)

    def _everyday(self) -> None:
        """People come and leave in order, by day more than at night."""
        for user in PEOPLE:
            at = self._now - SPAN_S
            while at < self._now - HOUR_S:
                at += self._random.expovariate(1 / (5 * HOUR_S)) + 300
                lasts = min(self._random.expovariate(1 / 3_000) + 40, self._now - at - 60)
                if lasts < 30:
                    break
                region = self._random.choice(("", "", *REGIONS))
                self._life(_Life(user, at, at + lasts, left, region=region, exit_code=0))

    def _what_went_wrong(self) -> None:
        now = self._now
        for user, ago, lasted in (
            ("ada", 2.2, 5_400), ("elif", 3.4, 9_100), ("ada", 26.0, 3_300), ("hana", 31.5, 8_000),
            ("dmitri", 8.1, 4_000),
        ):  # fmt: skip
            end = now - ago * HOUR_S
            gap = ((end - lasted / 2, 6.4),)
            asleep = _Life(
                user, end - lasted, end, lid_closed, woke_up, client_tells_at=end + 1_560,
                region="eu-central", gaps=gap,
            )  # fmt: skip
            self._life(asleep)
        for user in ("chloe", "farah", "farah"):
            end = now - 5.6 * HOUR_S + self._random.random()
            self._life(_Life(user, end - 6_600, end, killed_for_memory, agent_tells_at=end + 9))
        self._link(
            "data-lab", now - 9 * HOUR_S, now - 5.6 * HOUR_S + 2, killed_for_memory, died=True
        )
        for user in ("ben", "goran", "dmitri", "hana"):
            end = now - 12.3 * HOUR_S + 2 * self._random.random()
            self._life(_Life(user, end - 2_900, end, relay_died, region="us-east"))
        for user, ago in (
            ("ben", 1.4),
            ("ben", 4.9),
            ("goran", 15.0),
            ("ben", 28.2),
            ("ben", 40.1),
        ):
            end = now - ago * HOUR_S
            self._life(_Life(user, end - 1_810, end, reset_on_the_way, reset_at_the_client))
        for user, ago in (("elif", 6.6), ("hana", 18.3), ("elif", 33.0)):
            end = now - ago * HOUR_S
            lost = _Life(
                user, end - 3_100, end, network_gone, link_went_down, client_tells_at=end + 300,
                region="us-east",
            )  # fmt: skip
            self._life(lost)
        self._life(_Life("goran", now - 8 * HOUR_S, now - 7 * HOUR_S, lambda at: ()))
        stop = said(Party.AGENT, AGENT, "workspace.autostop", "policy:autostop")
        self._life(_Life("dmitri", now - 17 * HOUR_S, now - 16 * HOUR_S, stop))

    # -- how it is played ---------------------------------------------------------------------

    def _link(
        self,
        workspace: str,
        began: float,
        ended: float,
        facts: Callable[[float], Facts],
        *,
        died: bool = False,
    ) -> None:
        """An agent's control link; `died`: it is closed when the next run tells of it."""
        connection_id, log = self._id(), self._made.connections
        self._links += 1
        new = NewConnection(
            connection_id=connection_id,
            connect_type=ConnectType.SERVER_TO_AGENT,
            type=ConnectionType.CONTROL,
            workspace_id=self._ids[workspace],
            workspace=workspace,
            agent=f"{workspace}-1",
            client_ip="10.20.0.7",
            agent_instance=f"run-{self._links}",
        )
        told = ended + 9 if died else ended
        self._at(began, lambda: log.open(new))
        self._at(told, lambda: log.close_control(connection_id, facts(ended), ()))

    def _life(self, life: _Life) -> None:
        workspace, address = PEOPLE[life.user]
        connection_id, log = self._id(), self._made.connections
        method = ConnectionMethod.DERP if life.region else ConnectionMethod.DIRECT
        where = life.region or f"{workspace}-1:41641"
        new = NewConnection(
            connection_id=connection_id,
            connect_type=ConnectType.AGENT_TO_CLIENT,
            type=ConnectionType.TUNNEL,
            workspace_id=self._ids[workspace],
            workspace=workspace,
            agent=f"{workspace}-1",
            user=life.user,
            client_ip=address,
            journal_id=f"journal-{workspace}",
            connection_method=method,
            relay_region=life.region or None,
        )

        def session(ended: float | None) -> SessionRecord:
            return SessionRecord(
                connection_id=connection_id, session_id="1", session_type=life.session, pty=True,
                started_at=life.began + 0.3, ended_at=ended, exit_code=life.exit_code,
            )  # fmt: skip

        def path(at: float, event: str, **more: object) -> PathRecord:
            return PathRecord(
                connection_id=connection_id, at=at, event=event, carrier=1, method=str(method),
                where=where, **more,  # type: ignore[arg-type]
            )  # fmt: skip

        def over() -> Ended:
            return Ended(
                connection_id=connection_id, at=life.ended,
                facts=records_of((
                    ev.Authenticated(
                        vantage=AGENT, at=life.began, user=life.user, method="publickey",
                        client="OpenSSH_9.2p1",
                    ),
                    *life.by_agent(life.ended),
                )),
                rx_bytes=self._random.randrange(4_000, 900_000),
                tx_bytes=self._random.randrange(40_000, 90_000_000),
            )  # fmt: skip

        self._at(life.began, lambda: log.grant(new))
        self._agent(
            life.began + 0.2,
            workspace,
            lambda: (
                Opened(connection_id=connection_id, at=life.began + 0.2),
                path(life.began + 0.2, "used"),
                session(None),
            ),
        )
        for at, gap_s in life.gaps:
            self._agent(at, workspace, lambda at=at: (path(at, "detached", how="eof"),))  # type: ignore[misc]
            self._agent(
                at + gap_s,
                workspace,
                lambda at=at, gap_s=gap_s: (path(at + gap_s, "resumed", gap_s=gap_s),),  # type: ignore[misc]
            )
        tells = life.agent_tells_at or life.ended
        self._agent(tells, workspace, lambda: (session(life.ended), over()))
        told = life.by_client(life.ended)
        if told:
            reporter = Reporter(vantage=CLIENT, since=life.began, user=life.user)
            item = Ended(connection_id=connection_id, at=life.ended, facts=records_of(told))
            self._at(
                life.client_tells_at or life.ended + 0.4,
                lambda: self._report(reporter, f"client-{life.user}", (item,)),
            )

    def _agent(self, at: float, workspace: str, items: Callable[[], Sequence[ReportItem]]) -> None:
        since = self._now - SPAN_S - DAY_S
        reporter = Reporter(vantage=AGENT, since=since, workspace_id=self._ids[workspace])
        self._at(at, lambda: self._report(reporter, f"journal-{workspace}", items()))

    async def _report(
        self, reporter: Reporter, journal_id: str, items: Sequence[ReportItem]
    ) -> None:
        first = self._seqs.get(journal_id, 0) + 1
        self._seqs[journal_id] = first + len(items) - 1
        report = Report(journal_id=journal_id, first_seq=first, items=list(items))
        await self._made.connections.apply(reporter, report)


async def play(data_dir: Path, now: float, *, seed: int = 15) -> None:
    """Make `data_dir` the data directory of a server that has two days behind it.

    Args:
        data_dir: gets the database and the administrator's token; it must exist.
        now: when the history ends, in unix seconds.
        seed: of what is left to chance.
    """
    async with parts(data_dir) as made:
        if await made.accounts.bootstrap(data_dir) is None:  # there are users of an earlier year
            issued = await made.accounts.create_user("admin", Role.ADMIN, ADMIN)
            token = data_dir / ADMIN_TOKEN_FILE
            token.touch(mode=0o600)
            token.write_text(issued.token)
        await History(made, now, seed).play()
