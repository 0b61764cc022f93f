"""Whether the server lives, whether it can serve, and its numbers.

Law: no authentication, so nothing here names a user, a workspace or an address. `/readyz` writes to the
database, at most once a second however often it is asked.
"""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from tether.server.api.models import Health, Readiness
from tether.server.api.parts import PartsOf, may_fail
from tether.server.metrics import CONTENT_TYPE

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=Health, summary="Does the process answer?")
async def healthz() -> Health:
    """Always ok when it answers at all. No token needed."""
    return Health()


@router.get(
    "/readyz",
    response_model=Readiness,
    responses=may_fail(503),
    summary="Can it serve?",
)
async def readyz(parts: PartsOf) -> Readiness:
    """Ok if a write to the database works now. Warns of a certificate that runs out. No token needed."""
    await parts.health.check()
    return Readiness(warnings=parts.warnings())


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Numbers for Prometheus",
)
async def metrics(parts: PartsOf) -> Response:
    """Counts by cause, never by user or workspace. No token needed: keep it from the public."""
    return Response(parts.metrics.render(), media_type=CONTENT_TYPE)
