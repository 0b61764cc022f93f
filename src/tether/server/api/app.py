"""The REST API: one FastAPI application from the parts that `run/` made.

Law: assembly only. Endpoints are in the other modules of `api`, by subject. The control link and the
relay are not here: they are WebSockets, served beside this application.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from tether.net.clock import Clock
from tether.server.api import (
    accounts as api_accounts,
    connections as api_connections,
    derp as api_derp,
    errors as api_errors,
    health as api_health,
    insight as api_insight,
    live as api_live,
    log as api_log,
    report as api_report,
    sessions as api_sessions,
    views as api_views,
    workspaces as api_workspaces,
)
from tether.server.api.parts import Browsers, ClientIp, LiveLinks, Parts, may_fail, peer_ip
from tether.server.api.query import only_known
from tether.server.auth.accounts import Accounts
from tether.server.auth.passwords import Passwords
from tether.server.auth.throttle import FailureThrottle
from tether.server.connlog.log import ConnectionLog
from tether.server.connlog.pages import LogPages
from tether.server.db.store import Store
from tether.server.derp.map_store import DerpMaps
from tether.server.health import DatabaseHealth
from tether.server.metrics import Metrics
from tether.server.status import ServerStatus
from tether.server.workspaces import Workspaces

PREFIX = "/api/v1"

_DESCRIPTION = """\
Remote workspaces whose every disconnect is attributed.

Send a user's token as `Authorization: Bearer TOKEN`; a signed-in browser sends its cookie.
Errors always look like `{"error": {"code": "…", "message": "…"}}`: the code is for programs, the
message is one sentence for people. `/healthz`, `/readyz` and `/metrics` need no token.
"""

_TAGS = [
    {"name": "connections", "description": "Every connection, and why it ended."},
    {"name": "insight", "description": "What the log says of a day, a person, a relay, a restart."},
    {"name": "log", "description": "The connection log by every filter, counted, and exported."},
    {"name": "live", "description": "What happens now."},
    {"name": "workspaces", "description": "Remote machines and their agents."},
    {"name": "derp", "description": "The relays that carry what cannot go directly."},
    {"name": "accounts", "description": "Users and their tokens."},
    {"name": "sign-in", "description": "Browsers that are signed in."},
    {"name": "operation", "description": "For whoever runs the server. No token needed."},
]


MODULES = (
    api_connections,
    api_report,
    api_insight,
    api_log,
    api_views,
    api_live,
    api_workspaces,
    api_accounts,
    api_sessions,
    api_derp,
)
"""Where the endpoints below `PREFIX` are."""

_REFUSALS = may_fail(400, 401, 413, 422, 429, 503)
_BEFORE_ALL = [Depends(only_known)]


def create_api(
    *,
    store: Store,
    accounts: Accounts,
    workspaces: Workspaces,
    connections: ConnectionLog,
    hub: LiveLinks,
    derp_maps: DerpMaps,
    metrics: Metrics,
    clock: Clock,
    version: str,
    throttle: FailureThrottle | None = None,
    client_ip: ClientIp = peer_ip,
    browsers: Browsers | None = None,
    warnings: Callable[[], list[str]] = list,
) -> FastAPI:
    """The application, ready to be served.

    Args:
        throttle: shared with the control links' handshakes, so that one address has one budget.
        client_ip: who is at the other end of an ASGI scope, through the proxies that are trusted.
        browsers: what is there for them; None: as little as can be.
        warnings: what an operator should see to, for `/readyz`.
    """
    app = FastAPI(
        title="Tether",
        version=version,
        description=_DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        openapi_tags=_TAGS,
        docs_url=None,  # the pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    browsers = browsers or Browsers()
    app.state.parts = Parts(
        store=store,
        accounts=accounts,
        workspaces=workspaces,
        connections=connections,
        hub=hub,
        derp_maps=derp_maps,
        metrics=metrics,
        clock=clock,
        health=DatabaseHealth(store, clock),
        throttle=FailureThrottle(clock) if throttle is None else throttle,
        client_ip=client_ip,
        version=version,
        passwords=Passwords(store, clock),
        browsers=browsers,
        warnings=warnings,
        pages=LogPages(store, clock),
        status=ServerStatus(store, workspaces, browsers.regions, clock),
    )
    _install(app)
    return app


def _install(app: FastAPI) -> None:
    """The endpoints, and how they say that something went wrong."""
    for module in MODULES:
        app.include_router(
            module.router, prefix=PREFIX, responses=_REFUSALS, dependencies=_BEFORE_ALL
        )
    app.include_router(api_health.router)
    api_errors.install(app)


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name.rstrip('_')}"
