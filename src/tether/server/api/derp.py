"""`/api/v1/derp-map`: which DERP regions are in use.

Law: translation only; `derp_maps.py` decides who may set what.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from tether.protocol.messages.derp import NodeStatus
from tether.server.api.models import ApiModel, Model
from tether.server.api.parts import Parts, PartsOf, User, may_fail


class NewNode(Model):
    url: Annotated[str, Field(examples=["wss://derp-fra.example.com/derp"])]
    status: NodeStatus = NodeStatus.OK
    """`draining`: no new carriers; those that are there move away."""


class NewRegion(Model):
    name: Annotated[str, Field(examples=["fra"])]
    """1 to 32 of a-z, 0-9 and '-'."""
    nodes: Annotated[list[NewNode], Field(default_factory=list)]
    """Relays that register in this region need not be listed."""


class NewDerpMap(Model):
    regions: list[NewRegion]


class NodeView(ApiModel):
    url: str
    status: NodeStatus


class RegionView(ApiModel):
    name: str
    nodes: list[NodeView]


class DerpMapInUse(ApiModel):
    source: Literal["automatic", "api", "file"]
    """Who chose the regions: whatever registers, an administrator here, or the server's file."""
    regions: list[RegionView]


router = APIRouter(prefix="/derp-map", tags=["derp"])


@router.get("", response_model=DerpMapInUse, summary="Show the DERP map")
async def show(parts: PartsOf, user: User) -> DerpMapInUse:
    """The relays of each region now, and where the choice of regions comes from."""
    return _in_use(parts)


@router.put(
    "",
    response_model=DerpMapInUse,
    responses=may_fail(403, 409),
    summary="Choose the DERP regions (administrators)",
)
async def put(body: NewDerpMap, parts: PartsOf, user: User) -> DerpMapInUse:
    """Only these regions are in use from now on. Relays of other regions are drained: the tunnels that
    they carry move away. Relays that register in one of these regions need not be listed."""
    plain: dict[str, Any] = body.model_dump(mode="json")
    await parts.derp_maps.put(plain, user)
    return _in_use(parts)


@router.delete(
    "",
    response_model=DerpMapInUse,
    responses=may_fail(403, 409),
    summary="Leave the DERP regions to the relays (administrators)",
)
async def clear(parts: PartsOf, user: User) -> DerpMapInUse:
    """Every relay that registers is in use from now on."""
    await parts.derp_maps.put(None, user)
    return _in_use(parts)


def _in_use(parts: Parts) -> DerpMapInUse:
    return DerpMapInUse.model_validate(parts.derp_maps.in_use())
