"""What Prometheus reads at `/metrics`.

Law: counts only; decides nothing. One registry per server, never the global one, so that two servers
in one test process do not share numbers. Every label takes its values from a closed set, and series
that may occur start at 0, so that the first disconnect of a kind is seen as an increase.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.causes.cause import Cause
from tether.attribution.disconnect import Disconnect
from tether.attribution.vocabulary import (
    ConnectionMethod,
    ConnectionType,
    ConnectType,
    Element,
    Party,
    Reason,
)
from tether.net.derp.metrics import RelayCounts
from tether.net.unexpected_metric import UnexpectedExceptions
from tether.protocol.apps import FAMILIES
from tether.protocol.messages.reports import ForwardEnd, ForwardKind, PathWord
from tether.server.identity import RefusalCode

CONTENT_TYPE = CONTENT_TYPE_LATEST

OTHER = "other"

DURATIONS_S = (1, 10, 60, 300, 1800, 3600, 4 * 3600, 8 * 3600, 24 * 3600, 7 * 24 * 3600)
"""A command, a look, a sitting, a day, a week."""


class ReportOutcome(StrEnum):
    """What became of a reported item."""

    APPLIED = "applied"
    REPEATED = "repeated"
    REFUSED = "refused"
    DELAYED = "delayed"
    """Its reporter was beyond its rate; it is counted once more by what became of it then."""


LINK_ROLES = (Party.AGENT, Party.CLIENT, Party.RELAY)

CARRIER_ANSWERS = (
    "granted",
    "agent_not_connected",
    "relay_unavailable",
    "too_many_requests",
    "tunnel_over",
    "tunnel_unknown",
    "server_stopping",
)

_ALL = tuple(ConnectType)
_TUNNEL = (ConnectType.AGENT_TO_CLIENT,)
_WITH_AGENT = (ConnectType.SERVER_TO_AGENT, ConnectType.AGENT_TO_CLIENT)
_WITH_CLIENT = (ConnectType.AGENT_TO_CLIENT, ConnectType.CLIENT_TO_SERVER)
_WHERE: Mapping[str, tuple[ConnectType, ...]] = {
    "session": _TUNNEL,
    "client": _WITH_CLIENT,
    "agent": _WITH_AGENT,
    "server": _ALL,
    "relay": _TUNNEL,
    "network": _ALL,
    "workspace": _WITH_AGENT,
    "auth": _WITH_CLIENT,
    "policy": _TUNNEL,
    "ide": _TUNNEL,
}
"""First part of a cause's code -> the connections that it can end. What is missing: any."""


class Metrics:
    """The server's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._disconnects = Counter(
            "tether_disconnects_total",
            "Connections that ended, by what happened, who began it, and whether it was expected.",
            ["connect_type", "reason", "initiator", "expected"],
            registry=self.registry,
        )
        self._count_ends()
        self._revisions = Counter(
            "tether_attribution_revisions_total",
            "Closed connections that later evidence made us judge otherwise.",
            registry=self.registry,
        )
        self.connections_open = Gauge(
            "tether_connections_open",
            "Connections that are granted or ongoing now, control links included.",
            registry=self.registry,
        )
        self.control_links = Gauge(
            "tether_control_links", "Control links now.", ["role"], registry=self.registry
        )
        self._count_ways()
        self._reports = Counter(
            "tether_reports_total",
            "Items of agents' and clients' journals, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        self._refused = Counter(
            "tether_handshakes_refused_total",
            "Requests and control links that were turned away, by the code they were told.",
            ["code"],
            registry=self.registry,
        )
        self._sessions = Counter(
            "tether_sessions_total",
            "Sessions that ended, by the program behind them and the type that users filter by.",
            ["app", "family"],
            registry=self.registry,
        )
        self._forwards = Counter(
            "tether_forwards_total",
            "Forwarded connections that ended or never began, by kind and by how.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(UnexpectedExceptions())
        self._start_at_zero()

    def _count_ways(self) -> None:
        self.relay = RelayCounts(self.registry)
        self._path_events = Counter(
            "tether_path_events_total",
            "Tunnels' path events as their agents reported them: none of these is an end.",
            ["event", "method"],
            registry=self.registry,
        )
        self._carrier_requests = Counter(
            "tether_carrier_requests_total",
            "Requests of clients for further carriers of their tunnels, by the answer.",
            ["answer"],
            registry=self.registry,
        )

    def _count_ends(self) -> None:
        self._unknown = Counter(
            "tether_attribution_unknown_total",
            "Connections whose end nobody could explain when it was judged: each counts as a bug.",
            ["connect_type"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "tether_connection_duration_seconds",
            "How long connections had lived when they ended, by what happened.",
            ["connect_type", "reason"],
            buckets=DURATIONS_S,
            registry=self.registry,
        )
        self._incidents = Counter(
            "tether_incidents_total",
            "Incidents: several ends that share an element, by what they share.",
            ["element"],
            registry=self.registry,
        )

    def disconnected(self, disconnect: Disconnect, duration_s: float = 0.0) -> None:
        """Count the end of one connection. Call once for each row that closes."""
        self._disconnects.labels(*_labels(disconnect.connect_type, disconnect.row)).inc()
        kind = str(disconnect.connect_type)
        self._durations.labels(kind, str(disconnect.reason)).observe(duration_s)
        if disconnect.reason is Reason.UNKNOWN:
            self._unknown.labels(kind).inc()

    def incident(self, element: Element) -> None:
        """Count one new incident."""
        self._incidents.labels(str(element)).inc()

    def revised(self) -> None:
        """Count one closed row that was judged anew; `disconnected` is not called again for it."""
        self._revisions.inc()

    def reported(self, outcome: ReportOutcome, items: int = 1) -> None:
        """Count items of a journal."""
        self._reports.labels(str(outcome)).inc(items)

    def sessions_ended(self, app: str, family: str, count: int) -> None:
        """Count sessions; an app that is not in the table counts as `other`."""
        self._sessions.labels(app if app in FAMILIES else OTHER, family).inc(count)

    def forwards_ended(self, kind: str, end: str, count: int) -> None:
        """Count forwarded connections; kinds and ends that only a newer agent knows count as `other`."""
        self._forwards.labels(
            kind if kind in ForwardKind._value2member_map_ else OTHER,
            end if end in ForwardEnd._value2member_map_ else OTHER,
        ).inc(count)

    def refused(self, code: str) -> None:
        """Count one refused handshake; a code that is not known here counts as `other`."""
        self._refused.labels(code if code in REFUSED_CODES else OTHER).inc()

    def path_event(self, event: str, method: str) -> None:
        """Count one path event; what only a newer agent knows counts as `other`."""
        self._path_events.labels(
            event if event in PathWord._value2member_map_ else OTHER,
            method if method in ConnectionMethod._value2member_map_ else OTHER,
        ).inc()

    def carrier_answered(self, answer: str) -> None:
        """Count one request for a carrier."""
        self._carrier_requests.labels(answer).inc()

    def render(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _start_at_zero(self) -> None:
        for cause in CATALOGUE.values():
            for connect_type in _WHERE.get(cause.code.partition(".")[0], _ALL):
                self._disconnects.labels(*_labels(connect_type, cause))
                self._durations.labels(str(connect_type), str(cause.reason))
        for connect_type in ConnectType:
            self._unknown.labels(str(connect_type))
        for element in Element:
            self._incidents.labels(str(element))
        for role in LINK_ROLES:
            self.control_links.labels(str(role))
        for outcome in ReportOutcome:
            self._reports.labels(str(outcome))
        for app, family in (("ssh", ConnectionType.SSH), ("ssh", ConnectionType.SFTP)):
            self._sessions.labels(app, str(family))
        for kind in ForwardKind:
            for end in ForwardEnd:
                self._forwards.labels(str(kind), str(end))
        for event in PathWord:
            for method in (ConnectionMethod.DIRECT, ConnectionMethod.DERP):
                self._path_events.labels(str(event), str(method))
        for answer in CARRIER_ANSWERS:
            self._carrier_requests.labels(answer)
        for code in (*sorted(REFUSED_CODES), OTHER):
            self._refused.labels(code)


REFUSED_CODES = frozenset(get_args(RefusalCode)) | {
    "too_many_failures",
    "hello_timeout",
    "hello_missing",
    "ticket_invalid",
    "ticket_expired",
    "ticket_spent",
    "relay_busy",
    "server_busy",
    "server_stopping",
    "silent_connection",
    "too_many_handshakes",
    "too_many_links",
    "too_many_requests",
    "too_many_tunnels",
    "unavailable",
}
"""What a refusal may be counted as; the set is closed, so that no peer can make series."""


def _labels(connect_type: ConnectType, cause: Cause) -> tuple[str, str, str, str]:
    return (
        str(connect_type),
        str(cause.reason),
        str(cause.initiator),
        "true" if cause.expected else "false",
    )
