"""`/api/v1/overview`, `/incidents`, `/people`, `/restarts`, `/relays`, `/fleet` and `/server`.

Law: translation only; `connlog/pages.py` answers. What is about the installation as a whole is for
administrators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tether.attribution.sides import Side
from tether.server.api.connections import connection_view
from tether.server.api.models import ApiModel, ConnectionView, Time
from tether.server.api.parts import PartsOf, User, may_fail
from tether.server.connlog.queries.fleet import RelayLoss
from tether.server.db.store import StoreUnavailable
from tether.server.errors import Forbidden
from tether.server.identity import Identity
from tether.server.times import iso, iso_or_none

router = APIRouter(tags=["insight"])

HOUR_S = 3_600.0
Hours = Annotated[float, Query(ge=1, le=24 * 366, description="How far back, in hours.")]


class Sufferer(ApiModel):
    """Somebody who was cut off."""

    user: str
    ends: int
    last_at: Time
    cause: str
    connection_id: str


class SideView(ApiModel):
    """Who was cut off by one side."""

    side: Side
    people: int
    people_before: int
    """In the period before."""
    ends: int
    who: list[Sufferer]
    """Those who were cut off most often first."""


class Timeline(ApiModel):
    since: Time
    step_s: float
    unexpected: dict[str, list[int]]
    expected: list[int]


class Marker(ApiModel):
    """Something that happened to a program."""

    at: Time
    kind: Literal["server", "agent", "relay"]
    title: str
    subject: str
    """The run of a server, or a connection."""


class IncidentView(ApiModel):
    """Ends that share an element."""

    incident_id: str
    element: Annotated[str, Field(examples=["relay"])]
    name: str
    """Of an agent, its workspace's."""
    cause: str
    title: str
    side: Side
    expected: bool
    """Whether it was planned."""
    root_event_id: str
    began_at: Time
    until: Time
    ends: int
    people: int
    workspaces: int
    acknowledged_at: Time | None
    acknowledged_by: str | None


class Hit(ConnectionView):
    back_at: Time | None
    """When whoever was cut off was connected again."""


class IncidentDetail(IncidentView):
    hit: list[Hit]
    """The first hundred ends."""


class ChangeView(ApiModel):
    """A cause that came more or less often than in the period before."""

    cause: str
    title: str
    side: Side
    people: int
    people_before: int
    ends: int
    ends_before: int
    new: bool


class Overview(ApiModel):
    """The last day at one glance; of a member, of what is theirs."""

    since: Time
    until: Time
    people: int
    people_before: int
    ends: int
    ends_before: int
    sides: list[SideView]
    timeline: Timeline
    markers: list[Marker]
    incidents: list[IncidentView]
    changes: list[ChangeView]


class WeekHour(ApiModel):
    hour: int
    """Of the week: 0 is Thursday, midnight UTC."""
    cause: str
    side: Side
    ends: int


class PersonCause(ApiModel):
    cause: str
    title: str
    advice: str
    side: Side
    ends: int
    last_at: Time


class Share(ApiModel):
    value: str
    connections: int
    cuts: int
    hours: float
    cuts_per_100_h: float | None


class Gaps(ApiModel):
    survived: int
    seconds: float
    longest_s: float


class Person(ApiModel):
    """When and why one person is cut off. A cut is an unexpected end."""

    user: str
    since: Time
    connections: int
    cuts: int
    hours: float
    cuts_per_100_h: float | None
    """In a hundred connected hours."""
    others_per_100_h: float | None
    """Of everybody else, over the last week."""
    week: list[WeekHour]
    causes: list[PersonCause]
    networks: list[Share]
    relays: list[Share]
    workspaces: list[Share]
    programs: list[Share]
    gaps: Gaps


class Restart(ApiModel):
    """A run of the server, and how the one before it ended."""

    run_id: str
    started_at: Time
    stopped_at: Time | None
    down_s: float | None
    died: bool
    version: str
    version_before: str
    deploy: bool
    """Whether the version changed."""


class Met(ApiModel):
    """A tunnel that was open when the server went."""

    connection_id: str
    user: str | None
    workspace: str | None
    gap_s: float | None
    cause: str | None
    ended_at: Time | None


class RestartDetail(Restart):
    open: int
    dropped: list[Met]
    resumed: list[Met]
    unnoticed: list[Met]


class LinkSpan(ApiModel):
    connection_id: str
    from_at: Time
    until_at: Time | None
    cause: str | None
    expected: bool | None
    side: str | None


class IntentView(ApiModel):
    kind: str
    cause: str
    actor: str
    requested_by: str
    at: Time


class WorkspaceLife(ApiModel):
    """When a workspace's agent was connected, and what ended."""

    since: Time
    until: Time
    links: list[LinkSpan]
    open: list[ConnectionView]
    ends: list[ConnectionView]
    intents: list[IntentView]


class RelayNodeView(ApiModel):
    url: str
    status: str


class RelayLossView(ApiModel):
    """Carriers of several tunnels that ended at one relay together."""

    began_at: str
    tunnels: int
    resumed: int
    """Tunnels that went on over another carrier."""
    longest_gap_s: float


class RelayView(ApiModel):
    """A region, its relays, and what they carried."""

    region: str
    nodes: list[RelayNodeView]
    tunnels: int
    ended: int
    cut: int
    cut_by_relay: int
    lost_per_1000_h: float | None
    """Carriers that were lost in a thousand hours of tunnels."""
    losses: list[RelayLossView]
    """When several tunnels lost their carrier here together, newest first."""


class FleetAgent(ApiModel):
    workspace: str
    owner: str
    status: str
    version: str | None
    hostname: str | None
    last_seen_at: Time | None
    outdated: bool
    duplicated: int
    """How often a second agent took its place in the last week."""
    home_region: str
    rtt_ms: float | None


class Fleet(ApiModel):
    server_version: str
    agents: list[FleetAgent]


class ServerView(ApiModel):
    """The server's own state."""

    version: str
    up_s: float
    ready: bool
    database_problem: str
    database_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    connections: int
    """On file."""
    journals: int
    """Of agents and clients, that reports have come from."""
    watchers: int
    """Pages that watch what happens."""
    longest_queue: int
    """Changes that wait for the slowest of them."""


@router.get("/overview", response_model=Overview, summary="The last day at one glance")
async def overview(parts: PartsOf, user: User, hours: Hours = 24.0) -> Overview:
    """People who were cut off by whose side, a timeline, incidents, and what changed."""
    return Overview.model_validate(await parts.pages.overview(user, hours * HOUR_S))


@router.get("/incidents", response_model=list[IncidentView], summary="List incidents")
async def incidents(parts: PartsOf, user: User, hours: Hours = 24.0 * 7) -> list[IncidentView]:
    """Newest first, at most a hundred; those that hit what the caller may see."""
    now = parts.clock.now().wall
    found = await parts.pages.incidents(user, now - hours * HOUR_S, now)
    return [IncidentView.model_validate(one) for one in found]


@router.get(
    "/incidents/{incident_id}",
    response_model=IncidentDetail,
    responses=may_fail(404),
    summary="Show an incident",
)
async def incident(incident_id: str, parts: PartsOf, user: User) -> IncidentDetail:
    """Who was hit, and who has come back."""
    found = await parts.pages.incident(incident_id, user)
    now = parts.clock.now().wall
    hit = [
        {**connection_view(end, now).model_dump(), "back_at": back_at}
        for end, back_at in found["hit"]
    ]
    return IncidentDetail.model_validate({**found, "hit": hit})


@router.post(
    "/incidents/{incident_id}/acknowledge",
    response_model=IncidentDetail,
    responses=may_fail(403, 404),
    summary="Acknowledge an incident (administrators)",
)
async def acknowledge(incident_id: str, parts: PartsOf, user: User) -> IncidentDetail:
    """The first one who does so stays."""
    _only_admins(user)
    await parts.pages.acknowledge(incident_id, user)
    return await incident(incident_id, parts, user)


@router.get(
    "/people/{name}",
    response_model=Person,
    responses=may_fail(403),
    summary="When and why one person is cut off",
)
async def person(name: str, parts: PartsOf, user: User, hours: Hours = 24.0 * 28) -> Person:
    """Oneself; administrators anybody."""
    if name != user.user:
        _only_admins(user)
    return Person.model_validate(await parts.pages.person(name[:64], user, hours * HOUR_S))


@router.get(
    "/restarts",
    response_model=list[Restart],
    responses=may_fail(403),
    summary="List the runs of the server (administrators)",
)
async def restarts(
    parts: PartsOf, user: User, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> list[Restart]:
    """Newest first."""
    _only_admins(user)
    return [Restart.model_validate(one) for one in await parts.pages.restarts(limit)]


@router.get(
    "/restarts/{run_id}",
    response_model=RestartDetail,
    responses=may_fail(403, 404),
    summary="What a restart did to people (administrators)",
)
async def restart(run_id: str, parts: PartsOf, user: User) -> RestartDetail:
    """Who was dropped, who detached and resumed, who noticed nothing."""
    _only_admins(user)
    return RestartDetail.model_validate(await parts.pages.restart(run_id, user))


@router.get(
    "/workspaces/{name}/life",
    response_model=WorkspaceLife,
    responses=may_fail(404),
    summary="A workspace's last days",
)
async def workspace_life(
    name: str, parts: PartsOf, user: User, hours: Hours = 24.0 * 7
) -> WorkspaceLife:
    """When its agent was connected, what is open, what ended, and who asked for what."""
    info = await parts.workspaces.get(name, user)
    found = await parts.pages.workspace_life(info.workspace_id, user, hours * HOUR_S)
    now = parts.clock.now().wall
    rows = {name: [connection_view(row, now) for row in found[name]] for name in ("open", "ends")}
    return WorkspaceLife.model_validate({**found, **rows})


@router.get(
    "/relays",
    response_model=list[RelayView],
    responses=may_fail(403),
    summary="List relays by region (administrators)",
)
async def relays(parts: PartsOf, user: User, hours: Hours = 24.0) -> list[RelayView]:
    """What each carries, and how often it lost a carrier."""
    _only_admins(user)
    counted = await parts.pages.relays(hours * HOUR_S)
    losses = await parts.pages.relay_losses(hours * HOUR_S)
    regions = {
        region.name: [{"url": node.url, "status": str(node.status)} for node in region.nodes]
        for region in parts.browsers.regions.map_for().regions
    }
    names = [*regions, *(name for name in counted if name and name not in regions)]
    return [
        _relay(
            name,
            regions.get(name, []),
            counted.get(name, {}),
            [one for one in losses if one.region == name],
        )
        for name in names
    ]


@router.get(
    "/fleet",
    response_model=Fleet,
    responses=may_fail(403),
    summary="List agents by version and health (administrators)",
)
async def fleet(parts: PartsOf, user: User) -> Fleet:
    """Outdated, silent and duplicated ones stand out."""
    _only_admins(user)
    duplicated = await parts.pages.duplicated(7 * 24 * HOUR_S)
    return Fleet(
        server_version=parts.version,
        agents=[
            _agent(info, parts.version, duplicated.get(info.workspace_id, 0))
            for info in await parts.workspaces.list(user)
        ],
    )


@router.get(
    "/server",
    response_model=ServerView,
    responses=may_fail(403),
    summary="The server's own state (administrators)",
)
async def server(parts: PartsOf, user: User) -> ServerView:
    """Version, database, disk, memory and queues."""
    _only_admins(user)
    try:
        await parts.health.check()
        problem = ""
    except StoreUnavailable as wrong:
        problem = str(wrong)
    own = await parts.status.own_state()
    return ServerView(
        version=parts.version,
        ready=not problem,
        database_problem=problem,
        watchers=parts.connections.live.watchers,
        longest_queue=parts.connections.live.longest_queue,
        **own,
    )


def _relay(
    name: str, nodes: list[Any], counted: Mapping[str, Any], losses: list[RelayLoss]
) -> RelayView:
    hours = counted.get("hours", 0.0)
    lost = counted.get("lost", 0) + counted.get("cut_by_relay", 0)
    return RelayView(
        region=name,
        nodes=[RelayNodeView(**node) for node in nodes],
        tunnels=counted.get("open", 0),
        ended=counted.get("ended", 0),
        cut=counted.get("cut", 0),
        cut_by_relay=counted.get("cut_by_relay", 0),
        lost_per_1000_h=round(1000 * lost / hours, 1) if hours >= 1 else None,
        losses=[
            RelayLossView(
                began_at=iso(one.began_at),
                tunnels=one.tunnels,
                resumed=one.resumed,
                longest_gap_s=round(one.longest_gap_s, 2),
            )
            for one in losses
        ],
    )


def _agent(info: Any, version: str, duplicated: int) -> FleetAgent:
    distances = info.agent_latency.latency_s
    home = info.agent_latency.home
    far = distances.get(home)
    return FleetAgent(
        workspace=info.name,
        owner=info.owner,
        status=str(info.agent_status),
        version=info.agent_version,
        hostname=info.agent_hostname,
        last_seen_at=iso_or_none(info.agent_last_seen_at),
        outdated=info.agent_version not in (None, version),
        duplicated=duplicated,
        home_region=home,
        rtt_ms=None if far is None else round(1000 * far, 2),
    )


def _only_admins(user: Identity) -> None:
    if not user.is_admin:
        raise Forbidden("admin_only", "only an administrator may see this")
