"""The REST API in process: who gets in, what they see, and how every refusal looks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query
from sqlalchemy import Table, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.support.clock import EPOCH
from tests.support.server.log_reader import ADMIN
from tests.support.server.parts import Parts, parts
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import (
    Basis,
    ConnectType,
)
from tether.server.api.app import create_api
from tether.server.api.parts import PartsOf
from tether.server.api.query import LogQuery, search_of
from tether.server.auth.throttle import FailureThrottle
from tether.server.connlog.filter import RowSearch, Values
from tether.server.db.tables.activity import file_operations, forwards, sessions
from tether.server.db.tables.agent_states import agent_states
from tether.server.db.tables.connections import (
    connections,
    evidence,
    path_events,
    revisions,
)
from tether.server.derp.map import Regions
from tether.server.derp.map_store import DerpMaps
from tether.server.errors import Conflict
from tether.server.identity import Identity

pytestmark = pytest.mark.anyio

NOW = "2027-01-15T08:00:00.000Z"
CONNECTION = "3f2a9c01"


@dataclass
class Api:
    """A server, and callers of its API."""

    server: Parts
    transport: httpx.ASGITransport
    admin: httpx.AsyncClient

    def caller(self, token: str = "", address: str = "192.0.2.7") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(
            self.transport.app, raise_app_exceptions=False, client=(address, 1)
        )
        return httpx.AsyncClient(
            transport=transport, base_url="http://tether.test", headers=headers
        )

    @asynccontextmanager
    async def user(self, name: str) -> AsyncIterator[httpx.AsyncClient]:
        made = await self.admin.post("/api/v1/users", json={"name": name})
        async with self.caller(made.json()["token"]) as client:
            yield client


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with parts(tmp_path) as server:
        token = await server.accounts.bootstrap(tmp_path)
        app = create_api(
            store=server.store,
            accounts=server.accounts,
            workspaces=server.workspaces,
            connections=server.connections,
            hub=server.hub,
            derp_maps=server.derp_maps,
            metrics=server.metrics,
            clock=server.clock,
            version="1.2.3",
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        admin = httpx.AsyncClient(
            transport=transport,
            base_url="http://tether.test",
            headers={"Authorization": f"Bearer {token}"},
        )
        async with admin:
            yield Api(server, transport, admin)


def _error(answer: httpx.Response, status: int) -> tuple[str, str]:
    """The code and the message of a refusal, which has no other shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body == {"error": {"code": body["error"]["code"], "message": body["error"]["message"]}}
    return body["error"]["code"], body["error"]["message"]


# -- coming in --------------------------------------------------------------------------------


async def test_whoami_names_the_user_and_the_server(api: Api) -> None:
    answer = await api.admin.get("/api/v1/whoami")
    assert answer.json() == {"user": "admin", "role": "admin", "server_version": "1.2.3"}


async def test_no_token_is_a_401_that_says_what_to_do(api: Api) -> None:
    async with api.caller() as nobody:
        answer = await nobody.get("/api/v1/whoami")
    assert _error(answer, 401) == (
        "token_unknown",
        "no token was sent: set TETHER_TOKEN or run `tether login`",
    )
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_each_refusal_has_its_code(api: Api) -> None:
    made = (await api.admin.post("/api/v1/users", json={"name": "alice"})).json()
    short = await api.admin.post("/api/v1/tokens", json={"name": "t", "expires_in_s": 5})
    revoked = (await api.admin.post("/api/v1/tokens", json={"name": "t"})).json()
    await api.admin.delete(f"/api/v1/tokens/{revoked['token_id']}")
    await api.admin.delete("/api/v1/users/alice")
    api.server.clock.mono = 6.0
    tokens = {
        "user_revoked": made["token"],
        "token_expired": short.json()["token"],
        "token_revoked": revoked["token"],
        "token_unknown": "tether_user_" + "A" * 43,
    }
    codes = {}
    for wanted, token in tokens.items():
        async with api.caller(token) as client:
            codes[wanted] = _error(await client.get("/api/v1/whoami"), 401)[0]
    assert codes == {code: code for code in tokens}
    refused = api.server.metrics.render().decode()
    for code in tokens:
        assert f'tether_handshakes_refused_total{{code="{code}"}} 1.0' in refused


async def test_an_agents_token_does_not_open_the_api(api: Api) -> None:
    made = (await api.admin.post("/api/v1/workspaces", json={"name": "dev"})).json()
    async with api.caller(made["agent_token"]) as agent:
        assert _error(await agent.get("/api/v1/connections"), 403)[0] == "user_only"


async def test_an_address_that_fails_too_often_is_turned_away_but_its_neighbour_is_not(
    api: Api,
) -> None:
    async with api.caller("tether_user_nonsense", "192.0.2.66") as stranger:
        codes = [(await stranger.get("/api/v1/whoami")).status_code for _ in range(22)]
        answer = await stranger.get("/api/v1/whoami")
    assert codes == [401] * 20 + [429] * 2
    assert _error(answer, 429)[0] == "too_many_failures"
    assert answer.headers["Retry-After"] == "2"
    token = api.admin.headers["Authorization"].removeprefix("Bearer ")
    async with api.caller(token, "192.0.2.66") as behind_the_same_nat:
        assert (await behind_the_same_nat.get("/api/v1/whoami")).status_code == 200


async def test_the_budget_of_failures_is_the_callers_behind_a_trusted_proxy(
    api: Api,
) -> None:
    app = create_api(
        store=api.server.store,
        accounts=api.server.accounts,
        workspaces=api.server.workspaces,
        connections=api.server.connections,
        hub=api.server.hub,
        derp_maps=api.server.derp_maps,
        metrics=api.server.metrics,
        clock=api.server.clock,
        version="1.2.3",
        throttle=FailureThrottle(api.server.clock, burst=1),
        client_ip=lambda scope: dict(scope["headers"])[b"x-forwarded-for"].decode(),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://tether.test"
    ) as nobody:
        codes = [
            (await nobody.get("/api/v1/whoami", headers={"X-Forwarded-For": ip})).status_code
            for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.1")
        ]
    assert codes == [401, 401, 429]


# -- workspaces -------------------------------------------------------------------------------


async def test_a_workspace_is_created_shown_stopped_started_and_deleted(api: Api) -> None:
    created = await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    assert created.status_code == 201
    made = created.json()
    assert made == {
        "workspace_id": made["workspace_id"],
        "name": "dev",
        "agent_token": made["agent_token"],
    }
    assert made["agent_token"].startswith("tether_agent_")
    workspace = {
        "workspace_id": made["workspace_id"],
        "name": "dev",
        "owner": "admin",
        "state": "running",
        "agent": {
            "status": "never_connected",
            "version": None,
            "hostname": None,
            "last_seen_at": None,
            "lifecycle": None,
            "lifecycle_at": None,
            "home_region": "",
            "region_latency_ms": {},
        },
        "host_key": None,
        "created_at": NOW,
    }
    stopped = {**workspace, "state": "stopped"}
    assert (await api.admin.get("/api/v1/workspaces")).json() == [workspace]
    assert (await api.admin.get("/api/v1/workspaces/dev")).json() == workspace
    stop = await api.admin.post("/api/v1/workspaces/dev/stop", json={"reason": "autostop"})
    assert (stop.status_code, stop.json()) == (200, stopped)
    start = await api.admin.post("/api/v1/workspaces/dev/start", json={})
    assert (start.status_code, start.json()) == (200, workspace)
    assert (await api.admin.post("/api/v1/workspaces/dev/stop")).json() == stopped
    gone = await api.admin.delete("/api/v1/workspaces/dev")
    assert (gone.status_code, gone.json()) == (200, {"name": "dev", "deleted": True})
    assert _error(await api.admin.get("/api/v1/workspaces/dev"), 404)[0] == "workspace_not_found"
    workspace_id = made["workspace_id"]
    assert api.server.hub.told == [
        ("stop", workspace_id, "workspace.autostop", "policy:autostop", "asked for by user:admin"),
        ("start", workspace_id),
        ("stop", workspace_id, "workspace.stopped", "user:admin", ""),
        ("delete", workspace_id, "workspace.deleted", "user:admin"),
    ]


async def test_a_token_is_shown_once(api: Api) -> None:
    made = (await api.admin.post("/api/v1/workspaces", json={"name": "dev"})).json()
    laptop = (await api.admin.post("/api/v1/tokens", json={"name": "laptop"})).json()
    seen = [
        (await api.admin.get(f"/api/v1/{path}")).text
        for path in ("workspaces", "workspaces/dev", "tokens", "users", "whoami")
    ]
    for token in (made["agent_token"], laptop["token"]):
        assert [token in page for page in seen] == [False] * len(seen)


async def test_a_rotated_agent_token_is_a_new_one(api: Api) -> None:
    made = (await api.admin.post("/api/v1/workspaces", json={"name": "dev"})).json()
    rotated = await api.admin.post("/api/v1/workspaces/dev/agent-token")
    assert rotated.status_code == 200
    assert rotated.json() == {"agent_token": rotated.json()["agent_token"]}
    assert rotated.json()["agent_token"] != made["agent_token"]


async def test_a_member_cannot_see_or_touch_anothers_workspace(api: Api) -> None:
    await api.admin.post("/api/v1/workspaces", json={"name": "secret"})
    async with api.user("alice") as alice:
        assert (await alice.get("/api/v1/workspaces")).json() == []
        for answer in (
            await alice.get("/api/v1/workspaces/secret"),
            await alice.delete("/api/v1/workspaces/secret"),
            await alice.post("/api/v1/workspaces/secret/stop", json={"reason": "user"}),
            await alice.post("/api/v1/workspaces/secret/start"),
            await alice.post("/api/v1/workspaces/secret/agent-token"),
        ):
            assert _error(answer, 404) == (
                "workspace_not_found",
                "there is no workspace 'secret' of yours",
            )
    assert api.server.hub.told == []


@pytest.mark.parametrize("name", ["Dev", "-dev", "a" * 33, "", "a/b"])
async def test_a_bad_name_is_refused(api: Api, name: str) -> None:
    answer = await api.admin.post("/api/v1/workspaces", json={"name": name})
    assert _error(answer, 422)[0] == "bad_name"


async def test_a_taken_name_is_a_conflict(api: Api) -> None:
    await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    answer = await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    assert _error(answer, 409) == (
        "workspace_exists",
        "the name dev is taken by another workspace: choose one",
    )


async def test_an_unknown_reason_to_stop_is_refused(api: Api) -> None:
    await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    answer = await api.admin.post("/api/v1/workspaces/dev/stop", json={"reason": "bored"})
    assert _error(answer, 422) == (
        "invalid_request",
        "body reason: must be one of 'user', 'autostop', 'deleted' or 'evicted'",
    )
    assert api.server.hub.told == []


# -- users and tokens -------------------------------------------------------------------------


async def test_a_user_is_created_listed_and_revoked(api: Api) -> None:
    created = await api.admin.post("/api/v1/users", json={"name": "bob", "role": "admin"})
    assert created.status_code == 201
    assert created.json() == {"name": "bob", "role": "admin", "token": created.json()["token"]}
    gone = await api.admin.delete("/api/v1/users/bob")
    assert (gone.status_code, gone.json()) == (200, {"name": "bob", "revoked": True})
    assert api.server.hub.told == [("revoke_user", "bob", "admin:admin")]
    bob = {"role": "admin", "created_at": NOW, "revoked_at": NOW, "revoked_by": "admin:admin"}
    assert (await api.admin.get("/api/v1/users")).json()[1] == {"name": "bob", **bob}


async def test_a_member_cannot_manage_users(api: Api) -> None:
    async with api.user("alice") as alice:
        for answer in (
            await alice.get("/api/v1/users"),
            await alice.post("/api/v1/users", json={"name": "eve", "role": "admin"}),
            await alice.delete("/api/v1/users/admin"),
        ):
            assert _error(answer, 403) == ("admin_only", "only administrators may do this")


async def test_tokens_are_created_listed_and_revoked(api: Api) -> None:
    async with api.user("alice") as alice:
        api.server.clock.mono = 1.0
        created = await alice.post("/api/v1/tokens", json={"name": "ci", "expires_in_s": 60})
        assert created.status_code == 201
        token_id = created.json()["token_id"]
        listed = (await alice.get("/api/v1/tokens")).json()
        assert [token["name"] for token in listed] == ["first token", "ci"]
        assert listed[1] == {
            "token_id": token_id,
            "name": "ci",
            "created_at": "2027-01-15T08:00:01.000Z",
            "expires_at": "2027-01-15T08:01:01.000Z",
            "last_used_at": None,
        }
        gone = await alice.delete(f"/api/v1/tokens/{token_id}")
        assert gone.json() == {"token_id": token_id, "revoked": True}
        again = await alice.delete(f"/api/v1/tokens/{token_id}")
        assert _error(again, 404)[0] == "token_not_found"
    assert api.server.hub.told == [("revoke_tokens", token_id, "user:alice")]


# -- connections ------------------------------------------------------------------------------


async def search_for(api: Api, query: str) -> RowSearch:
    """What the API makes of a query."""
    asked: list[RowSearch] = []
    app = FastAPI()
    app.state.parts = api.transport.app.state.parts  # type: ignore[attr-defined]

    @app.get("/")
    async def endpoint(query: Annotated[LogQuery, Query()], parts: PartsOf) -> None:
        asked.append(await search_of(query, parts, ADMIN))

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://tether.test"
    ) as client:
        answer = await client.get(f"/?{query}")
        assert answer.status_code == 200, answer.text
    (only,) = asked
    return only


async def test_the_words_of_a_query_become_a_search(api: Api) -> None:
    await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    query = (
        "workspace=dev&user=!admin&type=sftp&type=ssh&reason=network_error&cause=agent.crashed"
        "&initiator=agent&initiator=!unknown&expected=false&status=closed&since=2h"
        "&until=2027-01-15T09:59:00%2B02:00&ended_since=2027-01-15T08:00:00Z&incident=77&side=us"
    )
    assert await search_for(api, query) == RowSearch(
        values={
            "workspace": Values(("dev",)),
            "user": Values((), ("admin",)),
            "type": Values(("sftp", "ssh")),
            "reason": Values(("network_error",)),
            "cause": Values(("agent.crashed",)),
            "initiator": Values(("agent",), ("",)),
            "expected": Values((False,)),
            "status": Values(("closed",)),
            "incident": Values(("77",)),
        },
        sides=Values(("us",)),
        lived_since=EPOCH - 7200,
        lived_until=EPOCH - 60,
        ended_since=EPOCH,
    )


async def test_no_words_are_no_filter_and_an_empty_initiator_is_one(api: Api) -> None:
    assert await search_for(api, "") == RowSearch()
    untold = RowSearch(values={"initiator": Values(("",))})
    assert await search_for(api, "initiator=") == untold
    assert await search_for(api, "initiator=unknown") == untold


LISTS = ("connections", "log", "log/summary", "log/export", "report")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("type=tunel", "query parameter type: there is no 'tunel': did you mean 'tunnel'?"),
        ("type=telnet", "query parameter type: there is no 'telnet': it is one of ssh, vscode, "),
        ("reason=gracefull", "query parameter reason: there is no 'gracefull': did you mean 'gra"),
        ("initiator=nobody", "query parameter initiator: there is no 'nobody': it is one of cli"),
        ("status=onging", "query parameter status: there is no 'onging': did you mean 'ongoing'?"),
        ("expected=maybe", "query parameter expected: there is no 'maybe': it is one of true, f"),
        ("cause=agent.crash", "query parameter cause: there is no 'agent.crash': did you mean 'ag"),
        ("since=yesterday", "query parameter since: 'yesterday' is no time: write 2026-"),
        ("until=2027-01-15T08:00:00", "query parameter until: '2027-01-15T08:00:00' is no time"),
        (
            "initator=agent",
            "query parameter initator: is not known here: did you mean 'initiator'?",
        ),
        ("limit=0", "query parameter limit: "),
        ("limit=many", "query parameter limit: "),
    ],
)
async def test_a_word_that_means_nothing_is_refused(
    api: Api, path: str, query: str, message: str
) -> None:
    code, said = _error(await api.admin.get(f"/api/v1/{path}?{query}"), 422)
    assert (code, said[: len(message)]) == ("invalid_request", message)


@pytest.mark.parametrize("path", LISTS)
async def test_a_workspace_or_user_that_is_not_on_file_is_a_mistake(api: Api, path: str) -> None:
    for name in ("dev", "staging"):
        await api.admin.post("/api/v1/workspaces", json={"name": name})
    for query, said in (
        ("workspace=stagign", "there is no workspace 'stagign' on file: did you mean 'staging'?"),
        ("workspace=dev&workspace=xyz", "there is no workspace 'xyz' on file"),
        ("workspace=!dve", "there is no workspace 'dve' on file: did you mean 'dev'?"),
        ("user=amdin", "there is no user 'amdin' on file: did you mean 'admin'?"),
    ):
        assert _error(await api.admin.get(f"/api/v1/{path}?{query}"), 404)[1] == said
    found = await api.admin.get(f"/api/v1/{path}?workspace=none&workspace=dev&user=admin")
    assert found.status_code == 200


async def test_what_a_member_may_not_see_is_not_suggested(api: Api) -> None:
    await api.admin.post("/api/v1/workspaces", json={"name": "staging"})
    async with api.user("alice") as alice:
        missing = await alice.get("/api/v1/connections?workspace=staging")
        near = await alice.get("/api/v1/connections?user=amdin")
    assert _error(missing, 404)[1] == "there is no workspace 'staging' on file"
    assert _error(near, 404)[1] == "there is no user 'amdin' on file"


@pytest.mark.parametrize("path", ["workspaces", "incidents", "relays", "whoami", "fleet"])
async def test_no_endpoint_ignores_a_parameter_that_it_does_not_know(api: Api, path: str) -> None:
    code, said = _error(await api.admin.get(f"/api/v1/{path}?huors=3"), 422)
    begin = "query parameter huors: is not known here"
    assert (code, said[: len(begin)]) == ("invalid_request", begin)


def kept_connection(workspace_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A row of `connections`, with a value in every column that the API shows."""
    return {
        "connection_id": CONNECTION,
        "status": "closed",
        "connect_type": "agent_to_client",
        "type": "ssh",
        "app": "cursor",
        "workspace_id": workspace_id,
        "workspace": "dev",
        "agent": "host-1",
        "user": "alice",
        "client_ip": "10.0.0.9",
        "connection_method": "derp",
        "agent_instance": "run-1",
        "created_at": EPOCH - 2,
        "connected_at": EPOCH - 1.5,
        "disconnected_at": EPOCH,
        "rx_bytes": 10,
        "tx_bytes": 20,
        **CRASHED,
        "coarse_reason": "network_error",
        "rule": "agent-came-back",
        "confidence": "high",
        "proximate_cause": "client.unreachable",
        "incident_id": "17" * 16,
        "root_event_id": CONNECTION,
        "revision": 1,
        "path_events_total": 7,
        **more,
    }


CRASHED = {
    "disconnect_reason": "process_crashed",
    "disconnect_expected": False,
    "disconnect_initiator": "agent",
    "disconnect_cause": "agent.crashed",
    "disconnect_basis": "inferred",
    "disconnect_actor": "",
    "disconnect_detail": "",
}
SHOWN = {
    "id": CONNECTION,
    "connection_id": CONNECTION,
    "status": "closed",
    "parent_id": None,
    "app": "cursor",
    "connect_type": "agent_to_client",
    "type": "ssh",
    "workspace": "dev",
    "agent": "main",
    "user": "alice",
    "client_ip": "10.0.0.9",
    "connection_method": "derp",
    "client_session_id": None,
    "created_at": "2027-01-15T07:59:58.000Z",
    "connected_at": "2027-01-15T07:59:58.500Z",
    "disconnected_at": NOW,
    "detached_since": None,
    "duration_s": 1.5,
    "rx_bytes": 10,
    "tx_bytes": 20,
    **CRASHED,
    "coarse_reason": "network_error",
    "exit_code": None,
    "exit_signal": None,
    "rule": "agent-came-back",
    "confidence": "high",
    "proximate_cause": "client.unreachable",
    "incident_id": "17" * 16,
    "root_event_id": CONNECTION,
    "revision": 1,
}


async def keep(api: Api, *rows: tuple[Table, dict[str, Any]]) -> None:
    """Put rows into the database."""

    async def work(tx: AsyncConnection) -> None:
        for table, row in rows:
            await tx.execute(insert(table).values(row))

    await api.server.store.write(work)


async def workspace_of(api: Api) -> str:
    made = await api.admin.post("/api/v1/workspaces", json={"name": "dev"})
    return str(made.json()["workspace_id"])


async def test_a_connection_is_listed_with_every_field(api: Api) -> None:
    workspace_id = await workspace_of(api)
    await keep(api, (connections, kept_connection(workspace_id)))
    listed = (await api.admin.get("/api/v1/connections")).json()
    assert listed == [{**SHOWN, "workspace_id": workspace_id}]


async def test_a_connection_is_explained_by_a_prefix_of_its_id(api: Api) -> None:
    workspace_id = await workspace_of(api)
    fact = {"kind": "previous_run_died", "vantage": "agent", "at": EPOCH}
    await keep(
        api,
        (connections, kept_connection(workspace_id)),
        (
            connections,
            kept_connection(connection_id="88" * 16, user="bob", disconnected_at=EPOCH + 1),
        ),
        (
            connections,
            kept_connection(connection_id="77" * 16, parent_id=CONNECTION, incident_id=None),
        ),
        (
            evidence,
            {
                "connection_id": CONNECTION,
                "reporter": "agent",
                "received_at": EPOCH + 2,
                "facts": [{**fact, "values": {"party": "agent", "host_rebooted": False}}],
                "symptoms": [],
            },
        ),
        (
            agent_states,
            {
                "workspace_id": workspace_id,
                "instance_id": "run-1",
                "state": "ready",
                "at": EPOCH,
                "received_at": EPOCH,
            },
        ),
        (
            sessions,
            {
                "connection_id": CONNECTION,
                "session_id": "s1",
                "session_type": "ssh",
                "app": "zed",
                "pty": True,
                "started_at": EPOCH,
            },
        ),
        (
            revisions,
            {
                "connection_id": CONNECTION,
                "revision": 1,
                "as_of": EPOCH,
                "rule": "agent-came-back",
                "because": "The agent came back.",
                "fields": {"connect_type": "agent_to_client", **CRASHED},
            },
        ),
        (forwards, kept_forward(1)),
        (file_operations, AUDIT_ROW),
        (
            path_events,
            {
                "connection_id": CONNECTION,
                "received_at": EPOCH,
                **{name: value for name, value in PATH.items() if name != "where"},
                "at": EPOCH,
                "region": "fra",
            },
        ),
    )
    answer = (await api.admin.get("/api/v1/connections/3f2")).json()
    explanation = {name: answer.pop(name) for name in ("title", "sentence", "advice")}
    assert explanation["title"] == CATALOGUE["agent.crashed"].title
    assert all(explanation.values())
    on_file = {
        "vantage": "agent",
        "reporter": "agent",
        "at": NOW,
        "time": NOW,
        "received_at": "2027-01-15T08:00:02.000Z",
        "kind": "previous_run_died",
        "values": answer["evidence"][0]["values"],
        "outlived": False,
        "hearsay": False,
    }
    later = "2027-01-15T08:00:01.000Z"
    assert answer == {
        **SHOWN,
        "workspace_id": workspace_id,
        "because": "The agent came back.",
        "evidence": [on_file],
        "symptoms": [
            {
                **on_file,
                "vantage": "server",
                "reporter": "server",
                "at": later,
                "time": later,
                "received_at": later,
                "kind": "connection_ended",
                "values": {"connection_id": "88" * 16, "disconnect_cause": "agent.crashed"},
            }
        ],
        "agent_states": [{"state": "ready", "at": NOW}],
        "alone": [{**answer["alone"][0], "vantage": "agent", "facts": 1}],
        "sessions": [
            {
                "session_id": "s1",
                "session_type": "ssh",
                "app": "zed",
                "pty": True,
                "subsystem": "",
                "started_at": NOW,
                "ended_at": None,
                "process_ended_at": None,
                "exit_code": None,
                "exit_signal": None,
            }
        ],
        "revisions": [
            {
                "revision": 1,
                "at": NOW,
                "rule": "agent-came-back",
                "because": "The agent came back.",
                **CRASHED,
                "exit_code": None,
                "exit_signal": None,
            }
        ],
        "children": [
            {
                "connection_id": "77" * 16,
                "type": "ssh",
                "status": "closed",
                "connected_at": "2027-01-15T07:59:58.500Z",
                "disconnected_at": NOW,
                "disconnect_cause": "agent.crashed",
            }
        ],
        "ide": None,
        "forwards": [FORWARD],
        "forwards_total": 1,
        "file_operations": [AUDIT],
        "path_events": [PATH],
        "path_events_total": 7,
        "explains": [
            {
                "connection_id": "88" * 16,
                "connect_type": "agent_to_client",
                "workspace": "dev",
                "user": "bob",
                "disconnected_at": later,
                "disconnect_cause": "agent.crashed",
            }
        ],
    }


PATH = {
    "at": NOW,
    "event": "resumed",
    "carrier": 2,
    "method": "derp",
    "where": "fra",
    "peer": "",
    "how": "",
    "errno": "",
    "gap_s": 1.25,
    "resent_bytes": 4096,
}
FORWARD = {
    "forward_id": 1,
    "kind": "direct_tcpip",
    "destination": "127.0.0.1:8080",
    "origin": "10.0.0.7:50000",
    "started_at": NOW,
    "ended_at": NOW,
    "duration_s": 1.5,
    "count": 1,
    "end": "client_closed",
    "ends": {"client_closed": 1},
    "cause": "",
    "detail": "",
    "rx_bytes": 1,
    "tx_bytes": 2,
}
AUDIT = {
    "session_id": "s1",
    "program": "sftp",
    "operations": [{"act": "create", "path": "/tmp/a", "target": "", "first_at": NOW, "count": 2}],
    "more": False,
    "left_out": 0,
    "complete": True,
}
AUDIT_ROW = {
    "connection_id": CONNECTION,
    "session_id": "s1",
    "program": "sftp",
    "operations": [
        {"act": "create", "path": "/tmp/a", "target": "", "first_at": EPOCH, "count": 2}
    ],
    "left_out": 0,
    "complete": True,
    "received_at": EPOCH,
}


def kept_forward(forward_id: int) -> dict[str, Any]:
    shown = {
        name: FORWARD[name] for name in ("kind", "destination", "origin", "ends", "duration_s")
    }
    return {
        "connection_id": CONNECTION,
        "forward_id": forward_id,
        **shown,
        "started_at": EPOCH,
        "ended_at": EPOCH,
        "ended": 1,
        "rx_bytes": 1,
        "tx_bytes": 2,
    }


async def test_forwards_and_files_are_listed_up_to_a_limit(api: Api) -> None:
    await keep(
        api,
        (connections, kept_connection()),
        (forwards, kept_forward(1)),
        (forwards, kept_forward(2)),
        (file_operations, AUDIT_ROW),
    )
    listed = await api.admin.get("/api/v1/connections/3f2/forwards")
    assert listed.json() == [FORWARD, {**FORWARD, "forward_id": 2}]
    one = await api.admin.get("/api/v1/connections/3f2/forwards?limit=1")
    assert one.json() == [FORWARD]
    assert (await api.admin.get("/api/v1/connections/3f2/files")).json() == [AUDIT]
    for path in ("forwards", "files"):
        unknown = await api.admin.get(f"/api/v1/connections/9/{path}")
        assert _error(unknown, 404)[0] == "connection_not_found"


async def test_an_unknown_and_an_ambiguous_id_are_told_apart(api: Api) -> None:
    another = kept_connection(connection_id="3f2b")
    await keep(api, (connections, kept_connection()), (connections, another))
    unknown = await api.admin.get("/api/v1/connections/9")
    several = await api.admin.get("/api/v1/connections/3f2")
    assert [_error(unknown, 404)[0], _error(several, 409)[0]] == [
        "connection_not_found",
        "connection_ambiguous",
    ]


# -- the shape of errors ----------------------------------------------------------------------


async def test_nothing_there_and_not_possible_have_the_shape(api: Api) -> None:
    nothing = await api.admin.get("/api/v1/nothing")
    assert _error(nothing, 404) == ("not_found", "there is nothing at /api/v1/nothing")
    wrong = await api.admin.put("/api/v1/whoami")
    assert _error(wrong, 405) == ("method_not_allowed", "PUT is not possible at /api/v1/whoami")
    assert wrong.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"{", 400, "bad_json", "the request's body is not JSON"),
        (b"\xff", 400, "bad_json", "the request's body is not JSON"),
        (b"{}", 422, "invalid_request", "body name: is missing"),
        (b"", 422, "invalid_request", "body: is missing"),
        (b'{"name": 7}', 422, "invalid_request", "body name: input should be a valid string"),
        (
            b'{"name": "a", "\\ud800": 1}',
            422,
            "invalid_request",
            "body: input should be a valid string, unable to parse raw data as a unicode string",
        ),
        (b"[" * 60_000, 400, "bad_json", "the request's body is not JSON"),
        (b'{"name": "a", "x": 1}', 422, "invalid_request", "body x: is not known here"),
    ],
)
async def test_a_body_that_makes_no_sense_has_the_shape(
    api: Api, body: bytes, status: int, code: str, message: str
) -> None:
    answer = await api.admin.post(
        "/api/v1/workspaces", content=body, headers={"Content-Type": "application/json"}
    )
    assert _error(answer, status) == (code, message)


async def test_a_body_that_is_too_large_is_refused_before_anything_else(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * (16 << 10)

    whole = b'{"name": "' + b"a" * (64 << 10) + b'"}'
    message = ("body_too_large", "the request's body is larger than 64 KiB")
    assert _error(await api.admin.post("/api/v1/workspaces", content=whole), 413) == message
    assert _error(await api.admin.post("/api/v1/workspaces", content=chunks()), 413) == message
    async with api.caller() as nobody:
        assert _error(await nobody.post("/healthz", content=chunks()), 413) == message


async def test_a_bug_of_ours_is_a_500_that_tells_nothing(api: Api) -> None:
    renamed = "ALTER TABLE connections RENAME COLUMN seq TO secret"
    await api.server.store.write(lambda tx: tx.exec_driver_sql(renamed))
    answer = await api.admin.get("/api/v1/connections")
    assert _error(answer, 500) == ("internal_error", "the server failed: its log says more")
    assert "seq" not in answer.text


async def test_a_database_that_does_not_work_is_a_503_with_a_sentence(api: Api) -> None:
    await api.server.store.close()
    answer = await api.admin.get("/api/v1/workspaces")
    assert _error(answer, 503) == (
        "store_unavailable",
        "the server is shutting down; try again in a moment",
    )
    assert answer.headers["Retry-After"] == "5"


# -- operation --------------------------------------------------------------------------------


async def test_health_and_metrics_need_no_token(api: Api) -> None:
    async with api.caller() as nobody:
        alive = await nobody.get("/healthz")
        ready = await nobody.get("/readyz")
        numbers = await nobody.get("/metrics")
    assert alive.json() == {"status": "ok"}
    assert ready.json() == {"status": "ok", "warnings": []}
    assert numbers.status_code == 200
    assert numbers.headers["content-type"].startswith("text/plain; version=")


async def test_ready_means_that_a_write_works_asked_at_most_once_a_second(api: Api) -> None:
    async with api.caller() as nobody:
        assert (await nobody.get("/readyz")).status_code == 200
        await api.server.store.write(lambda tx: tx.execute(text("PRAGMA query_only = 1")))
        api.server.clock.mono = 0.9
        assert (await nobody.get("/readyz")).status_code == 200
        api.server.clock.mono = 1.0
        answer = await nobody.get("/readyz")
        assert (await nobody.get("/healthz")).status_code == 200
    assert _error(answer, 503) == (
        "store_unavailable",
        "the server may not write its database; check the file's permissions",
    )


async def test_disconnects_are_counted_from_zero_by_what_happened(api: Api) -> None:
    crashed = Disconnect(
        connect_type=ConnectType.AGENT_TO_CLIENT, cause="agent.crashed", basis=Basis.INFERRED
    )
    series = (
        'tether_disconnects_total{{connect_type="{}",expected="{}",initiator="{}",reason="{}"}} {}'
    )
    before = api.server.metrics.render().decode()
    assert series.format("agent_to_client", "false", "agent", "process_crashed", "0.0") in before
    assert series.format("server_to_agent", "false", "", "unknown", "0.0") in before
    api.server.metrics.disconnected(crashed)
    after = api.server.metrics.render().decode()
    assert series.format("agent_to_client", "false", "agent", "process_crashed", "1.0") in after


async def test_the_openapi_document_describes_every_endpoint(api: Api) -> None:
    async with api.caller() as nobody:
        document: dict[str, Any] = (await nobody.get("/api/v1/openapi.json")).json()
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert sorted(operations) == [
        ("DELETE", "/api/v1/derp-map"),
        ("DELETE", "/api/v1/password"),
        ("DELETE", "/api/v1/session"),
        ("DELETE", "/api/v1/sessions/{session_id}"),
        ("DELETE", "/api/v1/tokens/{token_id}"),
        ("DELETE", "/api/v1/users/{name}"),
        ("DELETE", "/api/v1/views/{view_id}"),
        ("DELETE", "/api/v1/workspaces/{name}"),
        ("GET", "/api/v1/connections"),
        ("GET", "/api/v1/connections/{connection_id}"),
        ("GET", "/api/v1/connections/{connection_id}/files"),
        ("GET", "/api/v1/connections/{connection_id}/forwards"),
        ("GET", "/api/v1/derp-map"),
        ("GET", "/api/v1/fleet"),
        ("GET", "/api/v1/incidents"),
        ("GET", "/api/v1/incidents/{incident_id}"),
        ("GET", "/api/v1/live"),
        ("GET", "/api/v1/log"),
        ("GET", "/api/v1/log/causes"),
        ("GET", "/api/v1/log/export"),
        ("GET", "/api/v1/log/summary"),
        ("GET", "/api/v1/overview"),
        ("GET", "/api/v1/people/{name}"),
        ("GET", "/api/v1/relays"),
        ("GET", "/api/v1/report"),
        ("GET", "/api/v1/restarts"),
        ("GET", "/api/v1/restarts/{run_id}"),
        ("GET", "/api/v1/server"),
        ("GET", "/api/v1/session"),
        ("GET", "/api/v1/sessions"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/tokens"),
        ("GET", "/api/v1/users"),
        ("GET", "/api/v1/views"),
        ("GET", "/api/v1/whoami"),
        ("GET", "/api/v1/workspaces"),
        ("GET", "/api/v1/workspaces/{name}"),
        ("GET", "/api/v1/workspaces/{name}/life"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("POST", "/api/v1/connections/{connection_id}/end"),
        ("POST", "/api/v1/incidents/{incident_id}/acknowledge"),
        ("POST", "/api/v1/report/rejudge"),
        ("POST", "/api/v1/session"),
        ("POST", "/api/v1/sign-in-links"),
        ("POST", "/api/v1/tokens"),
        ("POST", "/api/v1/users"),
        ("POST", "/api/v1/views"),
        ("POST", "/api/v1/workspaces"),
        ("POST", "/api/v1/workspaces/{name}/agent-token"),
        ("POST", "/api/v1/workspaces/{name}/start"),
        ("POST", "/api/v1/workspaces/{name}/stop"),
        ("PUT", "/api/v1/derp-map"),
        ("PUT", "/api/v1/password"),
    ]
    for (method, path), operation in operations.items():
        assert operation["summary"]
        assert operation["description"]
        open_to_all = not path.startswith("/api/")
        signs_in = (method, path) == ("POST", "/api/v1/session")
        assert ("security" not in operation) is (open_to_all or signs_in)
        assert ("401" not in operation["responses"]) is open_to_all
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert "HTTPValidationError" not in json.dumps(document)


# -- relays ---------------------------------------------------------------------------------------


async def test_an_administrator_makes_the_tokens_of_relays(api: Api) -> None:
    made = await api.admin.post("/api/v1/tokens", json={"name": "derp-fra", "kind": "relay"})
    assert made.json()["token"].startswith("tether_relay_")
    (listed,) = (await api.admin.get("/api/v1/tokens?kind=relay")).json()
    assert (listed["token_id"], listed["name"]) == (made.json()["token_id"], "derp-fra")
    own = (await api.admin.get("/api/v1/tokens")).json()
    assert listed["token_id"] not in {one["token_id"] for one in own}
    assert (await api.admin.delete(f"/api/v1/tokens/{listed['token_id']}")).status_code == 200
    assert (await api.admin.get("/api/v1/tokens?kind=relay")).json() == []
    assert ("revoke_tokens", listed["token_id"], "admin:admin") in api.server.hub.told


async def test_a_member_makes_no_tokens_of_relays_and_ends_none(api: Api) -> None:
    made = await api.admin.post("/api/v1/tokens", json={"name": "derp-fra", "kind": "relay"})
    async with api.user("alice") as alice:
        asked = await alice.post("/api/v1/tokens", json={"name": "mine", "kind": "relay"})
        assert _error(asked, 403)[0] == "admin_only"
        assert _error(await alice.get("/api/v1/tokens?kind=relay"), 403)[0] == "admin_only"
        ended = await alice.delete(f"/api/v1/tokens/{made.json()['token_id']}")
        assert _error(ended, 404)[0] == "token_not_found"


async def test_a_relays_token_is_good_for_nothing_else(api: Api) -> None:
    made = await api.admin.post("/api/v1/tokens", json={"name": "derp-fra", "kind": "relay"})
    async with api.caller(made.json()["token"]) as relay:
        assert _error(await relay.get("/api/v1/whoami"), 403) == (
            "user_only",
            "this is the token of a relay: the API is for users' tokens",
        )


async def test_a_derp_map_is_set_shown_and_left_to_the_relays_again(api: Api) -> None:
    nodes = [{"url": "wss://derp.example.com/derp", "status": "ok"}]
    regions = [{"name": "fra", "nodes": nodes}]
    put = await api.admin.put("/api/v1/derp-map", json={"regions": regions})
    assert put.json() == {"source": "api", "regions": regions}
    assert (await api.admin.get("/api/v1/derp-map")).json() == put.json()
    again = DerpMaps(api.server.store, api.server.clock, Regions(None), from_file=False)
    await again.load()
    assert again.in_use() == put.json()
    cleared = await api.admin.delete("/api/v1/derp-map")
    assert cleared.json() == {"source": "automatic", "regions": []}


async def test_a_derp_map_without_sense_or_by_a_member_is_refused(api: Api) -> None:
    wrong = await api.admin.put("/api/v1/derp-map", json={"regions": [{"name": "embedded"}]})
    assert _error(wrong, 422)[0] == "bad_derp_map"
    async with api.user("alice") as alice:
        for call in (
            alice.put("/api/v1/derp-map", json={"regions": []}),
            alice.delete("/api/v1/derp-map"),
        ):
            assert _error(await call, 403)[0] == "admin_only"
        assert (await alice.get("/api/v1/derp-map")).json()["source"] == "automatic"


async def test_a_map_in_a_file_is_not_changed_through_the_api(api: Api) -> None:
    maps = DerpMaps(api.server.store, api.server.clock, Regions(None), from_file=True)
    with pytest.raises(Conflict, match="takes its DERP map from a file"):
        await maps.put({"regions": []}, Identity(kind="user", user="admin", role="admin"))
    assert maps.in_use()["source"] == "file"
