"""The REST API in process, over a server with one of everything, and a token of each sort of caller.

Law: what there is is the administrator's; nothing listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.support.server.log_reader import ADMIN
from tests.support.server.parts import Parts, parts
from tether.attribution.vocabulary import ConnectionType, ConnectType
from tether.server.api.app import create_api
from tether.server.auth.throttle import FailureThrottle
from tether.server.connlog.records import NewConnection
from tether.server.db.tables.accounts import Role

CONNECTION = "c1" * 16


@dataclass
class Installation:
    """The server, and who calls it."""

    server: Parts
    app: FastAPI
    tokens: dict[str, str]
    subjects: dict[str, str]
    """Part of a path -> what it stands for; the first ones first."""
    calls: int = 0

    def caller(self, name: str) -> httpx.AsyncClient:
        """Somebody's HTTP client."""
        token = self.tokens[name]
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://tether.test",
            headers={"Authorization": f"Bearer {token}"} if token else {},
        )

    async def open_link(self, connection_id: str) -> None:
        """One more control link of the administrator's workspace."""
        (workspace, *_) = await self.server.workspaces.list(ADMIN)
        await open_link(self.server, connection_id, workspace.workspace_id)

    async def call(self, operation: str, caller: str, body: Any = None) -> int:
        """The status that `caller` gets."""
        method, path = operation.split(" ")
        self.calls += 1
        for part, subject in self.subjects.items():
            path = path.replace(part, subject)
        if body == {"name": "{fresh}"}:
            body = {"name": f"fresh-{self.calls}"}
        async with self.caller(caller) as client:
            answer = asyncio.ensure_future(client.request(method, path, json=body))
            while not answer.done():  # a stream ends when the feed does
                self.server.connections.live.close()
                await asyncio.wait({answer}, timeout=0.01)
            return answer.result().status_code


async def open_link(server: Parts, connection_id: str, workspace_id: str) -> None:
    """An agent's control link, as its handshake opens it."""
    await server.connections.open(
        NewConnection(
            connection_id=connection_id,
            connect_type=ConnectType.SERVER_TO_AGENT,
            type=ConnectionType.CONTROL,
            workspace_id=workspace_id,
            workspace="dev",
        )
    )


@asynccontextmanager
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    """A server over a database in `tmp_path`."""
    async with parts(tmp_path) as server:
        admin = await server.accounts.bootstrap(tmp_path)
        member = await server.accounts.create_user("alice", Role.MEMBER, ADMIN)
        await server.accounts.create_user("zoe", Role.MEMBER, ADMIN)
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
            throttle=FailureThrottle(server.clock, burst=1_000),
        )
        agent = await server.workspaces.create("dev", ADMIN)
        await open_link(server, CONNECTION, agent.workspace_id)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://tether.test/api/v1",
            headers={"Authorization": f"Bearer {admin}"},
        ) as its:
            relay = (await its.post("/tokens", json={"name": "relays", "kind": "relay"})).json()
            spare = (await its.post("/tokens", json={"name": "spare"})).json()
            view = (await its.post("/views", json={"name": "all", "query": ""})).json()
            site = {"token": admin}
            await its.post("/session", json=site, headers={"sec-fetch-site": "same-origin"})
            (session,) = (await its.get("/sessions")).json()
        yield Installation(
            server,
            app,
            tokens={
                "nobody": "",
                "agent": agent.agent_token,
                "relay": relay["token"],
                "member": member.token,
                "admin": admin or "",
            },
            subjects={
                "/people/{name}": "/people/zoe",
                "/users/{name}": "/users/zoe",
                "{name}": "dev",
                "{connection_id}": CONNECTION,
                "{incident_id}": "none",
                "{run_id}": "none",
                "{view_id}": view["view_id"],
                "{session_id}": session["session_id"],
                "{token_id}": spare["token_id"],
            },
        )
