"""What a party tells of itself stands above what others conclude of it, as measured behind real proxies.

A proxy's kernel acknowledges for the party behind it, and closes what is idle: neither says anything of
that party. Nobody has to know that there is a proxy for this to hold.
"""

from __future__ import annotations

import pytest

from tests.unit.attribution.test_stories import died, returned, stream, tcp
from tether.attribution import evidence as ev
from tether.attribution.classify import classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    Confidence,
    ConnectType,
    DialStage,
    Party,
    StreamEnd,
    Vantage,
)

A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)
AGENT, CLIENT, SERVER, RELAY = Party.AGENT, Party.CLIENT, Party.SERVER, Party.RELAY

GIVEN_UP = stream(SERVER, CLIENT, StreamEnd.SILENT, silence_s=6.0)
ACKNOWLEDGED = tcp(SERVER, CLIENT, 8, last_data_recv_ms=6_000)
"""The kernel of a proxy acknowledged eight milliseconds ago."""


def cause(kind: ConnectType, *seen: Evidence) -> str:
    return classify(kind, seen).disconnect.cause


def test_a_silent_party_whose_kernel_answers_is_unresponsive_while_it_tells_nothing_itself() -> (
    None
):
    assert cause(C2S, GIVEN_UP, ACKNOWLEDGED) == "client.unresponsive"


def test_two_ends_that_gave_each_other_up_in_time_were_both_running() -> None:
    """A proxy between them stood still."""
    theirs = stream(CLIENT, SERVER, StreamEnd.SILENT, silence_s=6.01)
    acked = tcp(CLIENT, SERVER, 12, last_data_recv_ms=6_016)
    assert cause(C2S, GIVEN_UP, ACKNOWLEDGED, theirs, acked) == "network.path_lost"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (ev.LinkChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, interface="e0", up=False),
         "client.link_down"),
        (ev.LinkChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, interface="e0", up=True),
         "client.unresponsive"),
        (ev.RouteChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT), "client.link_down"),
        (ev.RouteChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, interface="e1"),
         "client.unreachable"),
        (ev.AddressChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, ours=True), "client.roamed"),
        (ev.AddressChanged(vantage=Vantage.CLIENT, at=5.0, party=CLIENT, added="fe80::1"),
         "client.unresponsive"),
    ],
)  # fmt: skip
def test_a_party_whose_own_network_changed_did_not_stand_still(
    told: Evidence, expected: str
) -> None:
    assert cause(C2S, GIVEN_UP, ACKNOWLEDGED, told) == expected


def test_a_party_that_was_cut_before_the_silence_did_not_cause_it() -> None:
    """A router resets the client's half only; the proxy keeps the other one, and hears nothing on it."""
    cut = stream(CLIENT, SERVER, StreamEnd.RESET, idle_s=0.954)
    told = classify(C2S, (GIVEN_UP, ACKNOWLEDGED, cut))
    assert (told.disconnect.cause, told.confidence) == (
        "network.middlebox_reset",
        Confidence.MEDIUM,
    )
    late = stream(CLIENT, SERVER, StreamEnd.RESET, idle_s=5.0)
    assert cause(C2S, GIVEN_UP, ACKNOWLEDGED, late) == "client.unresponsive"
    told_nothing = stream(CLIENT, SERVER, StreamEnd.RESET)
    assert cause(C2S, GIVEN_UP, ACKNOWLEDGED, told_nothing) == "client.unresponsive"


def test_an_agent_that_waited_for_its_client_had_not_vanished() -> None:
    """A proxy's read time-out cut the agent's silent leg while the client's network was gone."""
    leg = stream(RELAY, AGENT, StreamEnd.EOF)
    acked = tcp(RELAY, AGENT, 4, last_data_recv_ms=7_876)
    waited = ev.NeverReturned(vantage=Vantage.AGENT, at=30.0, party=CLIENT, waited_s=15.0)
    assert cause(A2C, leg, acked) == "agent.vanished"
    assert cause(A2C, leg, acked, waited) == "client.unreachable"
    silent = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=16.2)
    in_vain = tcp(CLIENT, RELAY, 16_100, retransmits=6, unacked=1)
    assert cause(A2C, leg, acked, waited, silent, in_vain) == "network.path_lost"


def test_a_leg_whose_agent_waited_is_silent_because_of_what_the_agent_waited_for() -> None:
    waited = ev.NeverReturned(vantage=Vantage.AGENT, at=30.0, party=CLIENT, waited_s=15.0)
    silent = stream(RELAY, AGENT, StreamEnd.TIMED_OUT)
    assert cause(A2C, silent) == "agent.unreachable"
    assert cause(A2C, silent, waited) == "client.unreachable"


# -- what answers the very next dial ----------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "status", "expected"),
    [
        (DialStage.HTTP, 200, "network.proxy_refused"),
        (DialStage.HTTP, 302, "network.proxy_refused"),
        (DialStage.PROXY, 403, "network.proxy_refused"),
        (DialStage.HTTP, 502, "network.nat_rebinding"),
        (DialStage.TCP, 0, "network.nat_rebinding"),
    ],
)
def test_a_page_that_answers_the_next_dial_is_no_nat_that_forgot(
    stage: DialStage, status: int, expected: str
) -> None:
    """A captive portal resets both ends, and shows itself at once."""
    resets = (stream(SERVER, CLIENT, StreamEnd.RESET), stream(CLIENT, SERVER, StreamEnd.RESET))
    next_dial = ev.RedialFailed(
        vantage=Vantage.CLIENT, at=9.6, party=CLIENT, peer=SERVER, stage=stage, status=status
    )
    assert cause(C2S, *resets, returned(CLIENT), next_dial) == expected


# -- a kernel that could not send -------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ({"probes": 3, "notsent_bytes": 213}, "client.link_down"),
        ({"probes": 1, "notsent_bytes": 213}, "network.path_lost"),
        ({"probes": 3}, "network.path_lost"),
        ({"probes": 3, "notsent_bytes": 213, "unacked": 1}, "network.path_lost"),
        ({"probes": 3, "notsent_bytes": 213, "retransmits": 1}, "network.path_lost"),
        ({"pmtu": 68}, "client.link_down"),
    ],
)
def test_a_lost_ipv6_route_leaves_what_was_to_be_sent_in_the_queue(
    counted: dict[str, int], expected: str
) -> None:
    """The path's MTU, which tells it over IPv4, stays as it was."""
    silent = stream(CLIENT, SERVER, StreamEnd.SILENT, silence_s=6.0)
    assert cause(C2S, GIVEN_UP, silent, tcp(CLIENT, SERVER, 2_664, **counted)) == expected


# -- who decided ------------------------------------------------------------------------


def said(by: Party, code: str, actor: str = "") -> ev.GoodbyeSaid:
    return ev.GoodbyeSaid(vantage=Vantage(str(by)), at=9.0, by=by, cause=code, actor=actor)


def asked(code: str, before_s: float = 5.0) -> ev.IntentRecorded:
    return ev.IntentRecorded(
        vantage=Vantage.SERVER,
        at=9.0,
        intent="stop",
        cause=code,
        before_s=before_s,
        actor="policy:autostop",
    )


def test_a_late_goodbye_does_not_replace_the_decision_that_it_followed() -> None:
    stop = said(SERVER, "workspace.autostop", "policy:autostop")
    late = said(AGENT, "agent.shutdown", "signal:15 from pid 1 uid 0")
    told = classify(A2C, (stop, late))
    assert (told.disconnect.cause, told.disconnect.actor, told.proximate) == (
        "workspace.autostop",
        "policy:autostop",
        "agent.shutdown",
    )
    deploy = said(SERVER, "server.shutdown")
    assert cause(A2C, deploy, late) == "agent.shutdown"


@pytest.mark.parametrize(
    ("found", "proximate"),
    [
        ({"signal": 9, "oom_kills": 0}, "agent.killed"),
        ({"container_changed": True}, "agent.container_replaced"),
        ({"host_rebooted": True}, "agent.host_rebooted"),
    ],
)
def test_a_death_that_somebody_asked_for_is_what_they_asked_for(
    found: dict[str, object], proximate: str
) -> None:
    facts = (stream(SERVER, AGENT, StreamEnd.EOF), died(AGENT, **found))
    told = classify(S2A, (*facts, asked("workspace.evicted")))
    assert (told.disconnect.cause, told.disconnect.actor, told.proximate) == (
        "workspace.evicted",
        "policy:autostop",
        proximate,
    )
    assert cause(S2A, *facts, asked("workspace.evicted", before_s=31.0)) == proximate
    assert cause(S2A, *facts, asked("auth.user_revoked")) == proximate


TOLD_TO_STOP = ev.SignalReceived(
    vantage=Vantage.AGENT, at=5.0, party=AGENT, signal=15, sender="pid 1 uid 0"
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"signal": 9}, "agent.shutdown"),
        ({"signal": 9, "oom_kills": 0}, "agent.shutdown"),
        ({"container_changed": True}, "agent.shutdown"),
        ({"signal": 9, "oom_kills": 1}, "agent.oom_killed"),
        ({"signal": 11}, "agent.crashed"),
        ({"exit_status": 3}, "agent.crashed"),
        ({"host_rebooted": True}, "agent.host_rebooted"),
    ],
)
def test_an_agent_that_is_killed_while_it_stops_had_been_told_to_stop(
    found: dict[str, object], expected: str
) -> None:
    told = classify(S2A, (stream(SERVER, AGENT, StreamEnd.EOF), TOLD_TO_STOP, died(AGENT, **found)))
    assert told.disconnect.cause == expected
    if expected == "agent.shutdown":
        assert told.disconnect.actor == "signal:15 from pid 1 uid 0"
