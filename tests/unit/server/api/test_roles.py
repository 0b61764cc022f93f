"""Who may call what: a row for each operation of the OpenAPI document; all are called by all.

What is called on is the administrator's: a member who is told of it gets a 404, as if it were not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.server.api_rig import installation

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Row:
    """What a member and an administrator get; nobody gets 401, agents and relays 403."""

    member: int
    admin: int
    body: Any = None
    nobody: int = 401
    program: int = 403
    """An agent, and a relay."""


def everybody(status: int, body: Any = None) -> Row:
    """Open to whoever comes."""
    return Row(status, status, body, nobody=status, program=status)


EXPECTED: dict[str, Row] = {
    "GET /healthz": everybody(200),
    "GET /readyz": everybody(200),
    "GET /metrics": everybody(200),
    "POST /api/v1/session": everybody(401, {"token": "tether_user_unknown"}),
    # what everybody has of their own
    "GET /api/v1/whoami": Row(200, 200),
    "GET /api/v1/session": Row(200, 200),
    "GET /api/v1/sessions": Row(200, 200),
    "POST /api/v1/sign-in-links": Row(201, 201),
    "PUT /api/v1/password": Row(200, 200, {"password": "correct horse battery"}),
    "DELETE /api/v1/password": Row(200, 200),
    "GET /api/v1/tokens": Row(200, 200),
    "POST /api/v1/tokens": Row(201, 201, {"name": "laptop"}),
    "GET /api/v1/views": Row(200, 200),
    "POST /api/v1/views": Row(201, 201, {"name": "mine", "query": "side=us"}),
    "GET /api/v1/workspaces": Row(200, 200),
    "POST /api/v1/workspaces": Row(201, 201, {"name": "{fresh}"}),
    "GET /api/v1/derp-map": Row(200, 200),
    # the log, as far as it is theirs
    "GET /api/v1/connections": Row(200, 200),
    "GET /api/v1/report": Row(200, 200),
    "POST /api/v1/report/rejudge": Row(200, 200),
    "GET /api/v1/log": Row(200, 200),
    "GET /api/v1/log/summary": Row(200, 200),
    "GET /api/v1/log/export": Row(200, 200),
    "GET /api/v1/log/causes": Row(200, 200),
    "GET /api/v1/overview": Row(200, 200),
    "GET /api/v1/incidents": Row(200, 200),
    "GET /api/v1/status": Row(200, 200),
    "GET /api/v1/live": Row(200, 200),
    # what is the administrator's is not there for others
    "GET /api/v1/connections/{connection_id}": Row(404, 200),
    "GET /api/v1/connections/{connection_id}/forwards": Row(404, 200),
    "GET /api/v1/connections/{connection_id}/files": Row(404, 200),
    "GET /api/v1/incidents/{incident_id}": Row(404, 404),
    "GET /api/v1/workspaces/{name}": Row(404, 200),
    "GET /api/v1/workspaces/{name}/life": Row(404, 200),
    "POST /api/v1/workspaces/{name}/stop": Row(404, 200),
    "POST /api/v1/workspaces/{name}/start": Row(404, 200),
    "POST /api/v1/workspaces/{name}/agent-token": Row(404, 200),
    "DELETE /api/v1/views/{view_id}": Row(404, 200),
    # for administrators
    "POST /api/v1/incidents/{incident_id}/acknowledge": Row(403, 404),
    "GET /api/v1/people/{name}": Row(403, 200),
    "GET /api/v1/restarts": Row(403, 200),
    "GET /api/v1/restarts/{run_id}": Row(403, 404),
    "GET /api/v1/relays": Row(403, 200),
    "GET /api/v1/fleet": Row(403, 200),
    "GET /api/v1/server": Row(403, 200),
    "GET /api/v1/users": Row(403, 200),
    "POST /api/v1/users": Row(403, 201, {"name": "{fresh}"}),
    "PUT /api/v1/derp-map": Row(403, 200, {"regions": []}),
    "DELETE /api/v1/derp-map": Row(403, 200),
    # last, as it ends what the others are called on
    "POST /api/v1/connections/{connection_id}/end": Row(404, 200),
    "DELETE /api/v1/sessions/{session_id}": Row(404, 200),
    "DELETE /api/v1/tokens/{token_id}": Row(404, 200),
    "DELETE /api/v1/users/{name}": Row(403, 200),
    "DELETE /api/v1/session": Row(204, 204),
    "DELETE /api/v1/workspaces/{name}": Row(404, 200),
}
"""Operation -> what the callers get, in the order in which they are called."""


async def test_every_operation_has_its_row(tmp_path: Path) -> None:
    async with installation(tmp_path) as made:
        document = made.app.openapi()
    described = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    assert described == set(EXPECTED)


async def test_everybody_gets_what_the_matrix_says(tmp_path: Path) -> None:
    wanted, got = {}, {}
    async with installation(tmp_path) as made:
        for operation, row in EXPECTED.items():
            wanted[operation] = {
                "nobody": row.nobody,
                "agent": row.program,
                "relay": row.program,
                "member": row.member,
                "admin": row.admin,
            }
            got[operation] = {
                caller: await made.call(operation, caller, row.body) for caller in made.tokens
            }
    assert got == wanted


async def test_what_a_member_lists_is_theirs_alone(tmp_path: Path) -> None:
    async with installation(tmp_path) as made:
        lists = ("connections", "workspaces", "views", "sessions", "incidents", "log/export")
        async with made.caller("member") as member:
            seen = {name: (await member.get(f"/api/v1/{name}")).text.strip() for name in lists}
            counted = (await member.get("/api/v1/log/summary")).json()["total"]
    assert {name: text for name, text in seen.items() if text not in ("[]", "")} == {
        "log/export": seen["log/export"]
    }
    assert len(seen["log/export"].splitlines()) == 1, "its heading alone"
    assert counted == 0
