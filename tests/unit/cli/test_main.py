"""The command line against a scripted server: what is asked, printed, and answered by exit codes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.server.rest import ScriptedServer
from tether import __main__ as program
from tether.cli import main as commands

ME = {"user": "alice", "role": "admin", "server_version": "0.1.0"}
AGENT = {
    "status": "connected",
    "version": "0.1.0",
    "hostname": "box",
    "last_seen_at": "2026-11-23T03:57:12.345Z",
}
DEV = {
    "workspace_id": "w-1",
    "name": "dev",
    "owner": "alice",
    "state": "running",
    "agent": AGENT,
    "host_key": "ssh-ed25519 AAAAone agent",
    "created_at": "2026-11-23T03:00:00.000Z",
}
ROW = {
    "id": "3f2a9c0100000000",
    "connected_at": "2026-11-23T03:57:12.345Z",
    "disconnected_at": "2026-11-23T03:58:12.345Z",
    "duration_s": 60.0,
    "workspace": "dev",
    "type": "ssh",
    "user": "alice",
    "disconnect_cause": "agent.crashed",
    "disconnect_expected": False,
    "disconnect_reason": "process_crashed",
    "disconnect_initiator": "agent",
}
ANSWERS: dict[str, tuple[int, Any]] = {
    "GET /whoami": (200, ME),
    "GET /workspaces": (200, [DEV]),
    "GET /workspaces/dev": (200, DEV),
    "POST /workspaces": (201, {"workspace_id": "w-1", "name": "dev", "agent_token": "secret"}),
    "POST /workspaces/dev/stop": (200, {**DEV, "state": "stopped"}),
    "POST /workspaces/dev/start": (200, DEV),
    "POST /workspaces/dev/agent-token": (200, {"agent_token": "secret2"}),
    "DELETE /workspaces/dev": (200, {"name": "dev", "deleted": True}),
    "POST /users": (201, {"name": "bob", "role": "member", "token": "tok"}),
    "GET /users": (200, [{"name": "bob", "role": "member", "created_at": DEV["created_at"]}]),
    "DELETE /users/bob": (200, {"name": "bob", "revoked": True}),
    "POST /tokens": (201, {"token_id": "t1", "token": "tok"}),
    "GET /tokens": (200, [{"token_id": "t1", "name": "laptop", "created_at": DEV["created_at"]}]),
    "GET /tokens?kind=relay": (200, []),
    "DELETE /tokens/t1": (200, {"token_id": "t1", "revoked": True}),
    "GET /log?limit=100": (200, {"rows": [ROW], "next": ""}),
    "POST /connections/3f2a/end": (200, ROW),
}


@dataclass
class Answer:
    code: int
    out: str
    err: str


Tether = Callable[..., Answer]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer(ANSWERS)
    try:
        yield scripted
    finally:
        scripted.close()


@pytest.fixture
def tether(
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Tether:
    """Run one command in this process, as user `alice` of `server`."""
    monkeypatch.setenv("TETHER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("TETHER_URL", server.url)
    monkeypatch.setenv("TETHER_TOKEN", "token-of-alice")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for variable in ("TETHER_DEBUG", "COLUMNS"):
        monkeypatch.delenv(variable, raising=False)

    def call(*arguments: str) -> Answer:
        code = program.main(list(arguments))
        seen = capfd.readouterr()
        return Answer(code, seen.out, seen.err)

    return call


@pytest.mark.parametrize(
    ("line", "call", "body"),
    [
        ("whoami --json", "GET /whoami", None),
        ("workspace create dev --json", "POST /workspaces", {"name": "dev"}),
        ("workspace list --json", "GET /workspaces", None),
        ("workspace show dev --json", "GET /workspaces/dev", None),
        ("workspace stop dev --json", "POST /workspaces/dev/stop", {"reason": "user"}),
        (
            "workspace stop dev --reason autostop",
            "POST /workspaces/dev/stop",
            {"reason": "autostop"},
        ),
        ("workspace start dev", "POST /workspaces/dev/start", {}),
        ("workspace delete dev -y", "DELETE /workspaces/dev", None),
        ("workspace token dev", "POST /workspaces/dev/agent-token", {}),
        ("user create bob", "POST /users", {"name": "bob", "role": "member"}),
        ("user list", "GET /users", None),
        ("user delete bob", "DELETE /users/bob", None),
        ("token create laptop", "POST /tokens", {"name": "laptop"}),
        ("token create fra --relay", "POST /tokens", {"name": "fra", "kind": "relay"}),
        ("token list --relay", "GET /tokens?kind=relay", None),
        (
            "token create laptop --expires-in 30d",
            "POST /tokens",
            {"name": "laptop", "expires_in_s": 2_592_000},
        ),
        ("token delete t1", "DELETE /tokens/t1", None),
        ("connections", "GET /log?limit=100", None),
        (
            "connections end 3f2a --reason busy",
            "POST /connections/3f2a/end",
            {"reason": "busy"},
        ),
    ],
)
def test_a_command_is_one_call(
    server: ScriptedServer, tether: Tether, line: str, call: str, body: Any
) -> None:
    answer = tether(*line.split())
    assert (answer.code, server.calls) == (0, [(call, body)]), answer.err
    assert server.tokens == {"Bearer token-of-alice"}
    if "--json" in line:
        assert json.loads(answer.out) in [body for _, body in ANSWERS.values()] + [
            {**ME, "url": server.url}
        ]


def test_an_administrators_tokens_are_listed_with_those_of_relays(
    server: ScriptedServer, tether: Tether
) -> None:
    relays = [{"token_id": "r1", "name": "derp-1", "created_at": DEV["created_at"]}]
    server.answers["GET /tokens?kind=relay"] = (200, relays)

    def listed() -> list[tuple[str, str]]:
        shown = json.loads(tether("token", "list", "--json").out)
        return [(row["token_id"], row["kind"]) for row in shown]

    assert listed() == [("t1", "user"), ("r1", "relay")]
    server.answers["GET /whoami"] = (200, {**ME, "role": "member"})
    assert listed() == [("t1", "user")]


def test_filters_become_a_query(server: ScriptedServer, tether: Tether) -> None:
    query = (
        "workspace=dev&user=a%26b&type=ssh&type=sftp&type=%21control&reason=unknown"
        "&cause=agent.crashed&initiator=unknown&initiator=%21client&expected=false&status=closed"
        "&since=2h&until=2026-11-23T03%3A57%3A12%2B00%3A00&ended_since=3d"
    )
    asked = (
        *("--workspace", "dev", "--user", "a&b", "--type", "ssh", "--type", "sftp"),
        *("--not-type", "control", "--reason", "unknown", "--cause", "agent.crashed"),
        *("--initiator", "unknown", "--not-initiator", "client"),
        *("--expected", "false", "--status", "closed", "--since", "2h"),
        *("--until", "2026-11-23T03:57:12Z", "--ended-since", "3d"),
    )
    server.answers[f"GET /log?{query}&limit=5"] = (200, {"rows": [], "next": ""})
    answer = tether("connections", "--json", *asked, "--limit", "5")
    assert (answer.code, answer.out) == (0, "[]\n"), (answer.err, server.calls)
    server.answers[f"GET /report?{query}&by=cause"] = (200, {"ends": 0})
    assert tether("report", *asked, "--by", "cause").out == "No such ends.\n"
    server.answers[f"GET /log/export?{query}&format=csv"] = (200, b"a,b\r\n1,2\r\n")
    assert tether("connections", "--csv", *asked).out == "a,b\r\n1,2\r\n"


def test_a_long_list_is_fetched_in_pages_and_its_cursor_leads_on(
    server: ScriptedServer, tether: Tether
) -> None:
    for query, count, after in (
        ("limit=500", 500, "c1"),
        ("limit=500&cursor=c1", 500, "c2"),
        ("limit=200&cursor=c2", 200, "c3"),
        ("limit=100&cursor=c3", 7, ""),
    ):
        server.answers[f"GET /log?{query}"] = (200, {"rows": [ROW] * count, "next": after})
    answer = tether("connections", "--json", "--limit", "1200")
    assert (len(json.loads(answer.out)), answer.err) == (
        1200,
        "There are more: go on with --cursor c3\n",
    )
    last = tether("connections", "--json", "--cursor", "c3")
    assert (len(json.loads(last.out)), last.err) == (7, "")


CARRIED = {
    **ROW,
    "connect_type": "agent_to_client",
    "client_ip": "10.0.0.9",
    "created_at": "2026-11-23T03:57:12.345Z",
}
CONTROL = {
    **CARRIED,
    "id": "c0" * 16,
    "connect_type": "client_to_server",
    "type": "control",
    "workspace": None,
    "created_at": "2026-11-23T03:57:12.000Z",
    "disconnect_cause": "client.command_done",
    "disconnect_expected": True,
}


@pytest.mark.parametrize(
    ("changed", "folded"),
    [
        ({}, True),
        ({"disconnected_at": None, "disconnect_expected": None}, True),
        ({"disconnect_expected": False, "disconnect_cause": "agent.crashed"}, True),
        ({"disconnect_expected": False, "disconnect_cause": "server.crashed"}, False),
        ({"user": "bob"}, False),
        ({"client_ip": "10.0.0.8"}, False),
        ({"created_at": "2026-11-23T03:57:13.000Z"}, False),
        ({"disconnected_at": "2026-11-23T03:57:12.100Z"}, False),
        ({"connect_type": "server_to_agent"}, False),
    ],
)
def test_a_clients_control_link_is_folded_under_what_it_carried(
    server: ScriptedServer, tether: Tether, changed: dict[str, Any], folded: bool
) -> None:
    rows = [CARRIED, {**CONTROL, **changed}]
    for query in ("limit=100", "type=control&limit=100"):
        server.answers[f"GET /log?{query}"] = (200, {"rows": rows, "next": ""})
    assert ("c0c0c0c0" not in tether("connections").out) is folded
    for more in (("--unfold",), ("--json",), ("--type", "control")):
        assert "c0c0c0c0" in tether("connections", *more).out


@pytest.mark.parametrize("columns", [80, 100])
def test_a_row_is_one_line_at_any_width(
    server: ScriptedServer, tether: Tether, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    long = {"workspace": "w" * 32, "user": "u" * 32, "type": "vscode", "app": "visual-studio"}
    rows = [{**ROW, **long}, {**ROW, "user": "bob"}]
    server.answers["GET /log?limit=100"] = (200, {"rows": rows, "next": ""})
    server.answers["GET /workspaces"] = (200, [{**DEV, "name": "w" * 32, "owner": "u" * 32}])
    monkeypatch.setenv("COLUMNS", str(columns))
    for command, lines in (("connections", 4), ("workspace list", 3)):
        shown = tether(*command.split()).out.splitlines()
        assert len(shown) == lines
        assert max(map(len, shown)) <= columns
    listed = tether("connections").out
    assert listed.count("3f2a9c01") == 2
    assert listed.count("11-23 03:57:12") == 2


def test_what_is_the_same_in_each_row_is_said_once_where_columns_are_few(
    server: ScriptedServer, tether: Tether, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["GET /log?limit=100"] = (200, {"rows": [ROW, ROW], "next": ""})
    monkeypatch.setenv("COLUMNS", "80")
    shown = tether("connections").out.splitlines()
    assert shown[:2] == ["WORKSPACE: dev", "USER: alice"]
    assert "The workspace's agent was killed" in shown[-1]


INCIDENT = {
    "incident_id": "5f" * 16,
    "element": "relay",
    "name": "fra",
    "cause": "relay.crashed",
    "title": "The relay was killed or crashed",
    "began_at": "2026-11-23T03:57:12.345Z",
    "until": "2026-11-23T03:57:13.345Z",
    "ends": 12,
    "people": 3,
    "acknowledged_by": "bob",
}


def test_incidents_are_listed_and_one_is_shown_with_whom_it_hit(
    server: ScriptedServer, tether: Tether
) -> None:
    server.answers["GET /incidents?hours=168.0"] = (200, [INCIDENT])
    server.answers["GET /incidents?hours=1.0"] = (200, [])
    server.answers[f"GET /incidents/{'5f' * 16}"] = (200, {**INCIDENT, "hit": [ROW]})
    _, _, row = tether("incidents").out.splitlines()
    assert row.split() == [
        *("5f" * 16, "2026-11-23", "03:57:12", "12", "3", "relay", "fra"),
        *["The", "relay", "was", "killed", "or", "crashed"],
    ]
    assert json.loads(tether("incidents", "--json").out) == [INCIDENT]
    assert tether("incidents", "--hours", "1").err == "No incidents.\n"
    shown = tether("incidents", "5f" * 16).out
    assert "hit         3 people, 12 ends" in shown
    assert "3f2a9c01" in shown


def test_relays_are_listed_by_region(server: ScriptedServer, tether: Tether) -> None:
    counts = {"tunnels": 4, "ended": 9, "cut": 2, "cut_by_relay": 1, "lost_per_1000_h": 0.5}
    nodes = [{"url": "wss://a", "status": "up"}, {"url": "wss://b", "status": "down"}]
    told = [{"region": "fra", "nodes": nodes, **counts}, {"region": "old", "nodes": [], **counts}]
    server.answers["GET /relays?hours=24.0"] = (200, told)
    assert [line.split() for line in tether("relays").out.splitlines()[2:]] == [
        ["fra", "wss://a", "up", "4", "9", "1", "0.5"],
        ["fra", "wss://b", "down", "4", "9", "1", "0.5"],
        ["old", "not", "on", "the", "map", "4", "9", "1", "0.5"],
    ]
    assert json.loads(tether("relays", "--json").out) == told


def test_the_table_of_connections_says_why(tether: Tether) -> None:
    heading, _, row = tether("connections").out.splitlines()[:3]
    assert heading.split() == [
        *("ID", "TIME", "(UTC)", "WORKSPACE", "TYPE", "USER", "LASTED", "WHY")
    ]
    assert "3f2a9c01" in row
    assert "1 min    The workspace's agent was killed or crashed   !" in row


@pytest.mark.parametrize(
    ("status", "lifecycle", "shown"),
    [
        ("connected", "ready", "connected"),
        ("connected", None, "connected"),
        ("connected", "shutting_down", "connected (shutting down)"),
        ("disconnected", "shutdown_error", "disconnected (shutdown error)"),
    ],
)
def test_workspaces_show_the_state_of_an_agent_that_is_not_ready(
    server: ScriptedServer, tether: Tether, status: str, lifecycle: str | None, shown: str
) -> None:
    agent = {**AGENT, "status": status, "lifecycle": lifecycle, "lifecycle_at": "2026-11-23T03:57Z"}
    server.answers["GET /workspaces"] = (200, [{**DEV, "agent": agent}])
    (row,) = tether("workspace", "list").out.splitlines()[2:]
    assert f"   {shown}   " in row
    server.answers["GET /workspaces/dev"] = (200, {**DEV, "agent": agent})
    lines = tether("workspace", "show", "dev").out.splitlines()
    assert any(line.startswith("agent's life  ") for line in lines) is (lifecycle is not None)


def test_workspace_show_tells_the_agents_home_and_how_far_it_is(
    server: ScriptedServer, tether: Tether
) -> None:
    agent = {**AGENT, "home_region": "fra", "region_latency_ms": {"fra": 12.4, "ams": 30.0}}
    server.answers["GET /workspaces/dev"] = (200, {**DEV, "agent": agent})
    assert "home region   fra (12.4 ms)\n" in tether("workspace", "show", "dev").out


def test_explain_tells_of_the_agents_life_where_it_shut_down(
    server: ScriptedServer, tether: Tether
) -> None:
    states = [
        {"state": word, "at": f"2026-11-23T03:57:0{n}.000Z"}
        for n, word in enumerate(("created", "ready", "shutting_down", "shutdown_timeout"))
    ]
    for told, seen in ((states, True), (states[:2], False)):
        server.answers["GET /connections/3f2a"] = (200, {**ROW, "agent_states": told})
        text = tether("explain", "3f2a").out
        assert ("shutting down" in text, "shutdown timeout" in text) == (seen, seen)


def test_a_secret_alone_is_on_stdout(tether: Tether) -> None:
    assert tether("workspace", "create", "dev").out == "secret\n"
    assert tether("token", "create", "laptop").out == "tok\n"


def test_a_detached_connection_says_for_how_long_by_the_servers_clock(
    server: ScriptedServer, tether: Tether
) -> None:
    row = {
        "id": "3f2a9c01d4e5",
        "type": "tunnel",
        "created_at": "2026-11-23T01:00:00Z",
        "connected_at": "2026-11-23T01:00:00Z",
        "disconnected_at": None,
        "detached_since": "2026-11-23T01:01:00Z",
        "duration_s": 72.0,
    }
    rows = [row, {**row, "detached_since": None}]
    server.answers["GET /log?limit=100"] = (200, {"rows": rows, "next": ""})
    lines = tether("connections").out.splitlines()
    assert "detached 12 s" in lines[-2]
    assert "ongoing" in lines[-1]


def test_explain_tells_what_happened_to_a_tunnels_way(
    server: ScriptedServer, tether: Tether
) -> None:
    def event(word: str, **more: Any) -> dict[str, Any]:
        return {"at": "2026-11-23T01:01:00Z", "event": word, "carrier": 1, "method": "derp", **more}

    told = {
        "id": "3f2a9c01d4e5",
        "type": "tunnel",
        "detached_since": "2026-11-23T01:01:00Z",
        "path_events_total": 9,
        "path_events": [
            event("used", where="fra"),
            event("detached", where="fra", peer="client", how="reset", errno="ECONNRESET"),
            event("resumed", method="direct", where="10.0.0.1:7", gap_s=2.5, resent_bytes=4096),
        ],
    }
    server.answers["GET /connections/3f2a"] = (200, told)
    text = tether("explain", "3f2a").out
    assert "not yet: detached since " in text
    lines = text[text.index("Its way") :].splitlines()
    assert lines[0] == "Its way (9 events, 6 in between are not kept)"
    assert [line.split("  ", 2)[2] for line in lines[1:4]] == [
        "used derp fra",
        "detached derp fra, the client's stream: reset (ECONNRESET)",
        "resumed direct 10.0.0.1:7, after 2.5 s, 4.1 kB sent again",
    ]


def test_explain_tells_the_whole_story(server: ScriptedServer, tether: Tether) -> None:
    at = "2026-11-23T03:58:12.345Z"
    fact = {"vantage": "relay", "at": at, "kind": "stream_ended", "values": {"how": "eof"}}
    told = {
        **ROW,
        "sentence": "The agent was killed.",
        "advice": "Reconnect.",
        "rule": "agent-post-mortem",
        "because": "Its next run said so.",
        "evidence": [fact],
        "symptoms": [],
        "sessions": [{"session_type": "ssh", "pty": True, "started_at": at, "ended_at": None}],
        "revisions": [
            {"revision": n, "at": at, "rule": f"r{n}", "disconnect_cause": f"c{n}"} for n in (1, 2)
        ],
    }
    server.answers["GET /connections/3f2a"] = (200, told)
    lines = tether("explain", "3f2a").out.splitlines()
    assert lines[:2] == ["The agent was killed.", "Reconnect."]
    text = "\n".join(lines)
    for part in ("agent-post-mortem", "stream ended: how=eof", "with a terminal", "c2  (rule r2)"):
        assert part in text
    assert json.loads(tether("explain", "3f2a", "--json").out) == told


def test_explain_says_what_a_person_learns_something_from(
    server: ScriptedServer, tether: Tether
) -> None:
    def fact(kind: str, **values: Any) -> dict[str, Any]:
        return {"vantage": "agent", "at": "2026-11-23T03:58:12Z", "kind": kind, "values": values}

    told = {
        **ROW,
        "root_event_id": "89e2",
        "because": "Its parent saw it.",
        "disconnect_detail": "Its parent saw it. (signal 9)",
        "evidence": [
            fact("tcp_counters", peer="agent", retransmits=0, unacked=3, pmtu=1500, rtt_us=12),
            fact("previous_run_died", party="agent", host_rebooted=False, signal=9, core=True),
            fact("peer_returned", same_run=False),
            fact("local_side_closed", signal=0),
            fact("previous_run_died", party="agent", last_alive_at=1e300),
        ],
        "symptoms": [fact("connection_ended", connection_id="1b12")],
        "explains": [{"connection_id": "1b12", "workspace": "dev", "disconnect_cause": "c"}],
    }
    server.answers["GET /connections/3f2a"] = (200, told)
    text = tether("explain", "3f2a").out
    lines = [line.strip() for line in text.splitlines()]
    assert "because     Its parent saw it. (signal 9)" in lines
    assert "began with  89e2" in lines
    assert [line.split("agent   ", 1)[1] for line in lines if ".000  agent" in line] == [
        "tcp counters: peer=agent, unacked=3",
        "previous run died: party=agent, signal=9, core=yes",
        "peer returned: same_run=no",
        "local side closed",
        "previous run died: party=agent, last_alive_at=1e+300",
    ]
    assert "With it ended another connection" in lines
    assert "connection ended:" not in text


def test_an_ide_session_is_listed_on_its_connection(server: ScriptedServer, tether: Tether) -> None:
    ide = {**ROW, "id": "1d" * 16, "type": "jetbrains", "app": "", "parent_id": ROW["id"]}
    named = {**ROW, "type": "vscode", "app": "cursor"}
    server.answers["GET /log?limit=100"] = (200, {"rows": [ide, named], "next": ""})
    lines = tether("connections").out.splitlines()
    assert "jetbrains on 3f2a9c01" in lines[2]
    assert "vscode (cursor)" in lines[3]


AT = "2026-11-23T03:58:12.345Z"


def forward(number: int | None, **more: Any) -> dict[str, Any]:
    return {
        "forward_id": number,
        "kind": "direct_tcpip",
        "destination": "127.0.0.1:8080",
        "started_at": AT,
        "ended_at": AT,
        "duration_s": 2.0,
        "count": 1,
        "end": "client_closed",
        "ends": {"client_closed": 1},
        "rx_bytes": 10,
        "tx_bytes": 2000,
        **more,
    }


def test_explain_tells_what_ran_over_a_connection(server: ScriptedServer, tether: Tether) -> None:
    told = {
        **ROW,
        "app": "cursor",
        "sessions": [{"session_type": "vscode", "app": "cursor", "started_at": AT}],
        "children": [
            {
                "connection_id": "1d" * 16,
                "type": "jetbrains",
                "connected_at": AT,
                "disconnected_at": AT,
                "disconnect_cause": "ide.closed",
            }
        ],
        "forwards": [
            *(forward(n) for n in range(1, 30)),
            forward(30, ended_at=None, end=""),
            forward(None, count=70, ends={"client_closed": 69, "migrated": 1}, duration_s=0.5),
        ],
        "forwards_total": 100,
        "file_operations": [
            {
                "program": "sftp",
                "operations": [
                    {"act": "create", "path": "/a", "first_at": AT, "count": 3},
                    {"act": "rename", "path": "/a", "target": "/b", "first_at": AT},
                    *({"act": "remove", "path": f"/{n}", "first_at": AT} for n in range(30)),
                ],
                "more": True,
                "left_out": 4,
                "complete": False,
            }
        ],
    }
    server.answers["GET /connections/3f2a"] = (200, told)
    text = tether("explain", "3f2a").out
    for part in (
        "vscode (cursor), ",
        "an end that was not reported",
        "IDE sessions\n  1d1d1d1d  jetbrains, ",
        ": The IDE was closed",
        "Forwarded connections: 100",
        "  to 127.0.0.1:8080, 2.0 s, closed by the client, 10 B in, 2.0 kB out\n",
        "  to 127.0.0.1:8080, 70 more: 69 closed by the client, 1 migrated, at most 0.5 s",
        "  and 10 more\n",
        "File operations asked for by sftp",
        "create /a, 3 times",
        "rename /a -> /b",
        "  and 12 more\n",
        "  and others: ",
        "  and 4 requests that were too many",
        "  the rest of the session could not be followed",
    ):
        assert part in text, part


def test_explain_tells_of_an_ides_channels(server: ScriptedServer, tether: Tether) -> None:
    channel = {
        "connection_id": "c1",
        "destination": "127.0.0.1:5990",
        "started_at": AT,
        "ended_at": AT,
        "end": "workspace_reset",
        "rx_bytes": 1,
        "tx_bytes": 2,
    }
    ide = {
        "backend_pid": 77,
        "backend_marker": "remote-dev-server",
        "caused_by": ROW["id"],
        "channels": [channel] * 2,
        "channels_total": 70,
    }
    told = {**ROW, "type": "jetbrains", "parent_id": ROW["id"], "ide": ide}
    server.answers["GET /connections/3f2a"] = (200, told)
    text = tether("explain", "3f2a").out
    for part in (
        f"  began on    {ROW['id']}\n",
        "  backend     pid 77 (remote-dev-server)\n",
        f"  ended with  {ROW['id']}\n",
        "  channels    70\n",
        "  127.0.0.1:5990, ",
        "reset by the workspace, 1 B in, 2 B out\n",
        "  and 68 more\n",
    ):
        assert part in text, part


def test_what_the_server_says_cannot_drive_the_terminal(
    server: ScriptedServer, tether: Tether
) -> None:
    evil = {**DEV, "agent": {**AGENT, "hostname": "\x1b]0;owned\x07[red]x[/red]"}}
    server.answers["GET /workspaces"] = (200, [evil])
    shown = tether("workspace", "list").out
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("frob", 2, "No such command 'frob'. See `tether --help`."),
        (
            "conection",
            2,
            "No such command 'conection': did you mean 'connections'? See `tether --h",
        ),
        (
            "connections --initator x",
            2,
            "(Did you mean one of: '--incident', '--initiator', '--not-ini",
        ),
        ("connections --since teatime", 2, "--since: 'teatime' is no time: write it as the tables"),
        ("connections --csv --json", 2, "--csv and --json exclude one another."),
        ("workspace stop", 2, "Missing argument 'NAME'. See `tether workspace stop --help`."),
        ("token create x --expires-in soon", 2, "'soon' is no span of time: write 12h"),
        ("workspace show gone", 1, "no GET /workspaces/gone"),
        ("explain ../users", 1, "no GET /connections/..%2Fusers"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    tether: Tether, line: str, code: int, message: str
) -> None:
    answer = tether(*line.split())
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1)
    assert answer.err.startswith("tether: ")
    assert message in answer.err


def test_a_proxy_command_without_a_name_is_told_so() -> None:
    argv = [sys.executable, "-m", "tether", "ssh", "--stdio"]
    done = subprocess.run(argv, capture_output=True, text=True)
    want = "tether: `tether ssh --stdio` takes the name of one workspace\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", want)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"code": "token_revoked", "message": "use a new one"}}, "use a new one"),
        (500, b"<html>", "answered with HTTP status 500"),
        (502, b"<html>", "a proxy in front of"),
        (307, b"", "if that is the server, give `tether login` that URL"),
        (200, b"<html>", "answered with a web page instead of a connection"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(
    server: ScriptedServer, tether: Tether, status: int, body: Any, message: str
) -> None:
    server.answers["GET /whoami"] = (status, body)
    answer = tether("whoami")
    assert (answer.code, message in answer.err) == (1, True), answer.err


def test_a_server_that_is_not_there_is_said_to_be_not_there(
    tether: Tether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TETHER_URL", "http://127.0.0.1:1")
    answer = tether("whoami")
    assert answer.err == "tether: nothing listens at 127.0.0.1:1: is the server running?\n"


def test_login_checks_the_token_and_keeps_it(
    server: ScriptedServer, tether: Tether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TETHER_URL")
    monkeypatch.delenv("TETHER_TOKEN")
    token = tmp_path / "token"
    token.write_text("tether_user_x\n")
    answer = tether("login", f"{server.url}/", "--token-file", str(token))
    assert answer.out == f"Logged in to {server.url} as alice (admin).\n"
    assert server.tokens == {"Bearer tether_user_x"}
    saved = tmp_path / "config" / "config.json"
    assert json.loads(saved.read_text()) == {"url": server.url, "token": "tether_user_x"}
    assert tether("whoami").code == 0
    assert (tether("logout").out, saved.exists()) == ("Logged out.\n", False)


def test_a_token_that_is_refused_is_not_kept(
    server: ScriptedServer, tether: Tether, tmp_path: Path
) -> None:
    server.answers["GET /whoami"] = (401, {"error": {"code": "x", "message": "unknown token"}})
    token = tmp_path / "token"
    token.write_text("wrong")
    answer = tether("login", server.url, "--token-file", str(token))
    assert (answer.code, answer.err) == (1, "tether: unknown token\n")
    assert not (tmp_path / "config" / "config.json").exists()


def test_a_token_as_an_argument_is_refused(server: ScriptedServer, tether: Tether) -> None:
    answer = tether("login", server.url, "--token", "tether_user_x")
    assert (answer.code, server.calls) == (2, [])
    assert "must not be an argument" in answer.err


def test_config_ssh_writes_pins_and_takes_back(tether: Tether, tmp_path: Path) -> None:
    users = tmp_path / "home" / ".ssh" / "config"
    users.parent.mkdir(parents=True)
    users.write_bytes(b"Host *\n")
    assert tether("config-ssh").code == 0
    ours = tmp_path / "config" / "ssh"
    assert f'Include "{ours}/config"'.encode() in users.read_bytes()
    assert (ours / "known_hosts").read_text().endswith("dev.tether ssh-ed25519 AAAAone\n")
    assert (ours / "id_ed25519").exists()
    assert tether("config-ssh", "--remove").code == 0
    assert users.read_bytes() == b"Host *\n"


def test_a_link_to_the_users_dotfiles_stays_a_link(tether: Tether, tmp_path: Path) -> None:
    dotfile, link = tmp_path / "dotfile", tmp_path / "home" / ".ssh" / "config"
    dotfile.write_bytes(b"Host *\n")
    dotfile.chmod(0o644)
    link.parent.mkdir(parents=True)
    link.symlink_to(dotfile)
    assert tether("config-ssh").code == 0
    assert link.is_symlink()
    assert dotfile.read_bytes().endswith(b"Host *\n")
    assert dotfile.stat().st_mode & 0o777 == 0o644


def test_a_dry_run_writes_nothing(tether: Tether, tmp_path: Path) -> None:
    answer = tether("config-ssh", "--dry-run")
    assert "Host *.tether" in answer.out
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "config").exists()


def test_a_changed_host_key_is_refused_until_it_is_accepted(
    server: ScriptedServer, tether: Tether, tmp_path: Path
) -> None:
    file = str(tmp_path / "f")
    assert tether("config-ssh", "--ssh-config-file", file).code == 0
    changed = {**DEV, "host_key": "ssh-ed25519 AAAAtwo"}
    server.answers |= {
        "GET /workspaces": (200, [changed]),
        "GET /workspaces/dev": (200, changed),
    }
    refused = tether("config-ssh", "--ssh-config-file", file)
    assert (refused.code, "--accept-new-host-key dev" in refused.err) == (1, True)
    accepted = tether("config-ssh", "--ssh-config-file", file, "--accept-new-host-key", "dev")
    assert accepted.code == 0, accepted.err


def test_a_directory_that_cannot_be_made_is_named(
    tether: Tether, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TETHER_CONFIG_DIR", str(tmp_path / "file" / "config"))
    for line, code in (("config-ssh", 1), ("ssh dev", 255)):
        answer = tether(*line.split())
        assert (answer.code, answer.err.count("\n")) == (code, 1)
        assert "file/config" in answer.err
        assert "Not a directory" in answer.err
        assert "bug" not in answer.err


def every_command() -> Iterator[tuple[str, click.Command, str]]:
    group = commands.build(program.PROGRAMS)
    context = click.Context(group, info_name="tether")
    for name, entry in group.entries.items():
        command = group.get_command(context, name)
        assert command is not None
        yield name, command, entry.summary
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield f"{name} {inner.name}", inner, inner.get_short_help_str(200)


def test_every_command_explains_itself_with_an_example() -> None:
    for name, command, summary in every_command():
        text = command.help or ""
        assert " " in name or text.splitlines()[0] == summary, name
        assert f"  tether {name}" in text or f"| tether {name}" in text, name


def test_client_commands_import_nothing_of_the_server() -> None:
    heavy = "asyncssh fastapi sqlalchemy structlog uvicorn pydantic httpx"
    light = f"{heavy} asyncio websockets msgspec rich cryptography"
    late = (
        "tether.net.link.coordination tether.net.link.control_log"
        " tether.protocol.coordination.client tether.log"
    )
    proxy = f"{heavy} click rich {late}"
    targets = [e.target.partition(":")[0] for e in commands.CLIENT]
    for modules, forbidden in ((targets, light), (["tether.cli.ssh.stdio"], proxy)):
        code = (
            f"import sys, importlib; [importlib.import_module(m) for m in {modules!r}];"
            f"print([m for m in {forbidden.split()!r} if m in sys.modules])"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_every_program_is_where_the_table_says() -> None:
    for _, target, _ in program.PROGRAMS:
        module, _, attribute = target.partition(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)


def test_a_reader_that_has_seen_enough_is_no_error(server: ScriptedServer) -> None:
    server.answers["GET /log?limit=100"] = (200, {"rows": [ROW] * 5000, "next": ""})
    env = {**os.environ, "TETHER_URL": server.url, "TETHER_TOKEN": "t"}
    argv = [sys.executable, "-m", "tether", "connections", "--json"]
    with subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
