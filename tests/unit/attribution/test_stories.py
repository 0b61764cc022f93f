"""Known faults with the counters that were measured for them, and what the table makes of each.

Every story stands next to its neighbour, the fault that looks alike: what tells them apart must.
"""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.classify import Verdict, classify
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    Confidence,
    ConnectType,
    DialStage,
    Element,
    OomVictim,
    Party,
    Resource,
    StreamEnd,
    Vantage,
)

A2C, S2A, C2S = (
    ConnectType.AGENT_TO_CLIENT,
    ConnectType.SERVER_TO_AGENT,
    ConnectType.CLIENT_TO_SERVER,
)
AGENT, CLIENT, SERVER, RELAY = Party.AGENT, Party.CLIENT, Party.SERVER, Party.RELAY


def stream(seen_by: Party, peer: Party, how: StreamEnd, **more: float | None) -> ev.StreamEnded:
    return ev.StreamEnded(vantage=Vantage(str(seen_by)), at=9.0, peer=peer, how=how, **more)  # type: ignore[arg-type]


def tcp(seen_by: Party, peer: Party, acked_ms: int, **more: int) -> ev.TcpCounters:
    zero = {
        "retransmits": 0,
        "probes": 0,
        "unacked": 0,
        "total_retrans": 0,
        "last_data_recv_ms": acked_ms,
        "pmtu": 1500,
        "rtt_us": 400,
    }
    return ev.TcpCounters(
        vantage=Vantage(str(seen_by)),
        at=9.0,
        peer=peer,
        last_ack_recv_ms=acked_ms,
        **{**zero, **more},  # type: ignore[arg-type]
    )


def stall(party: Party, gap_s: float, **used: float) -> ev.LoopStalled:
    return ev.LoopStalled(vantage=Vantage(str(party)), at=8.0, party=party, gap_s=gap_s, **used)


def died(party: Party, **found: object) -> ev.PreviousRunDied:
    return ev.PreviousRunDied(
        vantage=Vantage(str(party)),
        at=20.0,
        party=party,
        **{"host_rebooted": False, **found},  # type: ignore[arg-type]
    )


def returned(party: Party, **how: object) -> ev.PeerReturned:
    usual: dict[str, object] = {"after_s": 1.0, "same_run": True, "same_address": True}
    return ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=10.0,
        party=party,
        **{**usual, **how},  # type: ignore[arg-type]
    )


def verdict(kind: ConnectType, *seen: Evidence) -> Verdict:
    return classify(kind, seen)


def cause(kind: ConnectType, *seen: Evidence) -> str:
    return classify(kind, seen).disconnect.cause


AGENT_SILENT = stream(SERVER, AGENT, StreamEnd.SILENT, silence_s=45.0)
AGENT_TIMED_OUT = stream(SERVER, AGENT, StreamEnd.TIMED_OUT)
SERVER_TIMED_OUT = stream(AGENT, SERVER, StreamEnd.TIMED_OUT)
SERVER_RESET = stream(AGENT, SERVER, StreamEnd.RESET)
AGENT_EOF = stream(SERVER, AGENT, StreamEnd.EOF)


# -- which direction --------------------------------------------------------------------


def test_packets_from_the_agent_were_lost_as_measured() -> None:
    agent = tcp(AGENT, SERVER, 2_000, retransmits=4, unacked=1)
    server = tcp(SERVER, AGENT, 5_900, retransmits=4, unacked=1)
    seen = (AGENT_TIMED_OUT, SERVER_TIMED_OUT, agent, server)
    assert cause(S2A, *seen) == "network.agent_upload_lost"


def test_a_path_that_is_cut_both_ways_has_no_direction() -> None:
    agent = tcp(AGENT, SERVER, 5_900, retransmits=4, unacked=1)
    server = tcp(SERVER, AGENT, 5_900, retransmits=4, unacked=1)
    seen = (AGENT_TIMED_OUT, SERVER_TIMED_OUT, agent, server)
    assert cause(S2A, *seen) == "network.path_lost"


@pytest.mark.parametrize(
    ("fresh_ms", "stale_ms"), [(27_500, 30_000), (30_000, 45_000), (600, 2_500)]
)
def test_two_patiences_are_no_direction(fresh_ms: int, stale_ms: int) -> None:
    """One end gave up earlier than the other, or both are only a moment old."""
    agent = tcp(AGENT, SERVER, fresh_ms, retransmits=4, unacked=1)
    server = tcp(SERVER, AGENT, stale_ms, retransmits=4, unacked=1)
    seen = (AGENT_TIMED_OUT, SERVER_TIMED_OUT, agent, server)
    assert cause(S2A, *seen) == "network.path_lost"


def test_whoever_sent_nothing_proves_no_lost_direction() -> None:
    agent, server = tcp(AGENT, SERVER, 2_000), tcp(SERVER, AGENT, 30_000)
    assert cause(S2A, AGENT_TIMED_OUT, SERVER_TIMED_OUT, agent, server) == "network.path_lost"


def test_counters_of_another_stream_tell_nothing_of_this_one() -> None:
    agent = tcp(AGENT, RELAY, 2_000, retransmits=4, unacked=1)
    server = tcp(SERVER, AGENT, 30_000)
    assert cause(S2A, AGENT_TIMED_OUT, agent, server) == "agent.unreachable"
    elsewhere = stream(RELAY, CLIENT, StreamEnd.RESET)
    assert cause(A2C, stream(RELAY, AGENT, StreamEnd.RESET), elsewhere) == "client.vanished"


def test_a_tunnel_is_lost_the_way_its_clients_control_link_was() -> None:
    silent = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=10.0)
    left = stream(AGENT, CLIENT, StreamEnd.CLOSED)
    stuck = tcp(CLIENT, AGENT, 9_900, retransmits=5, unacked=1, lost=1)
    link = ev.NeighbourEnded(
        vantage=Vantage.SERVER,
        at=12.0,
        party=CLIENT,
        cause="network.client_download_lost",
        before_s=19.0,
    )
    assert cause(A2C, silent, left, stuck) == "network.path_lost"
    told = verdict(A2C, silent, left, stuck, link)
    assert (told.disconnect.cause, told.proximate) == (
        "network.client_download_lost",
        "network.path_lost",
    )
    assert told.disconnect.detail.endswith(
        "(another connection of the client: network.client_download_lost; agent saw client: closed)"
    )
    assert cause(A2C, left, link) == "client.vanished"


def test_what_the_other_end_counts_when_it_is_reset_says_nothing_of_the_silence_before() -> None:
    silent = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=10.0)
    stuck = tcp(CLIENT, AGENT, 3_200, retransmits=5, unacked=1, lost=1, snd_mss=1448)
    reset = (stream(AGENT, CLIENT, StreamEnd.RESET), tcp(AGENT, CLIENT, 0))
    assert cause(A2C, silent, stuck, reset[1]) == "network.mtu_black_hole"
    assert cause(A2C, silent, stuck, *reset) == "network.path_lost"


def test_a_server_whose_segments_are_lost_is_not_silent_itself() -> None:
    """As counted at 30 % loss."""
    gave_up = stream(CLIENT, SERVER, StreamEnd.SILENT, silence_s=6.0)
    told = stream(SERVER, CLIENT, StreamEnd.CLOSED, close_code=4408)
    seen = (gave_up, told, tcp(CLIENT, SERVER, 1_988, total_retrans=18))
    sends = tcp(SERVER, CLIENT, 0, unacked=2, retransmits=2, total_retrans=26)
    assert cause(C2S, *seen) == "server.unresponsive"
    assert cause(C2S, *seen, sends) == "server.unreachable"


def test_large_packets_lost_is_not_a_dead_direction() -> None:
    stuck = tcp(SERVER, AGENT, 1_000, retransmits=6, unacked=4, lost=2, snd_mss=1448)
    seen = (AGENT_TIMED_OUT, stuck, tcp(AGENT, SERVER, 1_500))
    assert cause(S2A, *seen) == "network.mtu_black_hole"
    assert cause(S2A, AGENT_TIMED_OUT, stuck) == "agent.unreachable"
    deaf = (SERVER_TIMED_OUT, tcp(AGENT, SERVER, 30_000))
    assert cause(S2A, *seen[:2], *deaf) == "network.agent_download_lost"


# -- who reset whom ---------------------------------------------------------------------


def test_a_reset_on_one_side_only_came_from_in_between() -> None:
    retransmitting = tcp(SERVER, AGENT, 5_700, retransmits=4, unacked=1)
    told = verdict(S2A, SERVER_RESET, AGENT_TIMED_OUT, retransmitting)
    assert told.disconnect.cause == "network.middlebox_reset"
    assert told.disconnect.actor == "middlebox"


def test_a_reset_that_the_silent_end_may_have_sent_proves_nothing() -> None:
    """A kernel that gives up on keepalive probes resets the peer; so do we when we cut it."""
    probing = tcp(SERVER, AGENT, 30_000, probes=3)
    assert cause(S2A, SERVER_RESET, AGENT_TIMED_OUT, probing) == "agent.unreachable"
    assert cause(S2A, SERVER_RESET, AGENT_SILENT) == "agent.unreachable"


def test_an_agent_that_was_back_before_we_missed_it_was_reset_in_between() -> None:
    replaced = stream(SERVER, AGENT, StreamEnd.SILENT)
    assert cause(S2A, SERVER_RESET, replaced) == "network.middlebox_reset"


def test_a_reset_on_both_sides_is_a_nat_that_forgot() -> None:
    reset = stream(SERVER, AGENT, StreamEnd.RESET)
    assert cause(S2A, reset, SERVER_RESET) == "network.nat_rebinding"
    assert cause(S2A, reset) == "agent.vanished"


def test_two_ends_that_both_were_closed_were_closed_in_between() -> None:
    assert cause(S2A, AGENT_EOF, stream(AGENT, SERVER, StreamEnd.EOF)) == "network.middlebox_reset"


def test_an_agent_that_gave_up_itself_did_not_vanish() -> None:
    assert cause(S2A, AGENT_EOF, stream(AGENT, SERVER, StreamEnd.SILENT)) == "server.unreachable"
    assert cause(S2A, AGENT_EOF) == "agent.vanished"


def test_a_run_that_comes_back_had_not_died() -> None:
    told = verdict(S2A, AGENT_EOF, returned(AGENT))
    assert (told.disconnect.cause, told.confidence) == ("network.middlebox_reset", Confidence.LOW)
    assert cause(S2A, AGENT_EOF, returned(AGENT, same_run=False)) == "agent.vanished"


@pytest.mark.parametrize(
    ("idle_s", "expected"),
    [
        (60.4, "network.idle_timeout"),
        (350.9, "network.idle_timeout"),
        (42.0, "network.middlebox_reset"),
        (None, "network.middlebox_reset"),
    ],
)
def test_a_cut_after_a_well_known_idle_time(idle_s: float | None, expected: str) -> None:
    cut = stream(SERVER, AGENT, StreamEnd.EOF, idle_s=idle_s)
    assert cause(S2A, cut, returned(AGENT)) == expected


def test_links_that_are_cut_whenever_they_are_idle_were_no_nat_that_forgot_once() -> None:
    both = (stream(SERVER, AGENT, StreamEnd.RESET), stream(AGENT, SERVER, StreamEnd.RESET))
    again = ev.CutWhenIdle(vantage=Vantage.SERVER, at=9.0, party=AGENT, cuts=2, idle_s=12.2)
    assert cause(S2A, *both) == "network.nat_rebinding"
    told = verdict(S2A, *both, again)
    assert (told.disconnect.cause, told.proximate) == (
        "network.idle_timeout",
        "network.nat_rebinding",
    )
    assert told.disconnect.detail == (
        "One stream after the other was cut after the same idle time, and none outlived it. "
        "(2 streams of the agent were cut after 12 s idle; agent saw server: reset)"
    )


def test_a_socket_that_its_own_kernel_dropped() -> None:
    aborted = stream(CLIENT, SERVER, StreamEnd.ABORTED)
    reset = stream(SERVER, CLIENT, StreamEnd.RESET)
    assert cause(C2S, aborted, reset) == "client.socket_destroyed"


# -- whose network ----------------------------------------------------------------------


def test_a_client_whose_kernel_could_not_send_has_lost_its_link() -> None:
    relay = stream(RELAY, CLIENT, StreamEnd.TIMED_OUT)
    assert cause(A2C, relay, tcp(CLIENT, RELAY, 5_600, probes=4, pmtu=68)) == "client.link_down"
    assert cause(A2C, relay, tcp(CLIENT, RELAY, 5_600, probes=4)) == "client.unreachable"


def test_a_vpn_is_told_from_a_new_network() -> None:
    lost = stream(RELAY, CLIENT, StreamEnd.SILENT)
    moved = ev.AddressChanged(vantage=Vantage.CLIENT, at=8.0, party=CLIENT, ours=True)
    tunnelled = ev.RouteChanged(
        vantage=Vantage.CLIENT, at=8.0, party=CLIENT, interface="tun0", tunnel=True
    )
    assert cause(A2C, lost, moved) == "client.roamed"
    assert cause(A2C, lost, moved, tunnelled) == "client.vpn_changed"
    assert cause(A2C, lost, returned(CLIENT, same_address=False)) == "client.roamed"
    elsewhere = ev.AddressChanged(vantage=Vantage.CLIENT, at=8.0, party=CLIENT, added="fe80::1")
    assert cause(A2C, lost, elsewhere) == "client.unreachable"


def test_a_failed_redial_refines_a_loss_and_never_replaces_a_cause() -> None:
    dns = ev.RedialFailed(
        vantage=Vantage.CLIENT, at=9.0, party=CLIENT, peer=SERVER, stage=DialStage.DNS
    )
    assert cause(C2S, stream(CLIENT, SERVER, StreamEnd.SILENT), dns) == "network.dns_failed"
    assert cause(C2S, stream(CLIENT, SERVER, StreamEnd.EOF), dns) == "server.vanished"
    slept = ev.Suspended(vantage=Vantage.CLIENT, at=9.0, party=CLIENT, gap_s=90.0)
    assert cause(C2S, stream(CLIENT, SERVER, StreamEnd.SILENT), dns, slept) == "client.suspended"


@pytest.mark.parametrize(
    ("stage", "status", "expected"),
    [
        (DialStage.PROXY, 407, "network.proxy_refused"),
        (DialStage.HTTP, 200, "network.proxy_refused"),
        (DialStage.HTTP, 511, "network.proxy_refused"),
        (DialStage.HTTP, 502, "server.unreachable"),
        (DialStage.AUTH, 401, "server.unreachable"),
        (DialStage.TCP, 0, "server.unreachable"),
        (DialStage.TLS, 0, "network.tls_intercepted"),
    ],
)
def test_who_answered_the_next_dial(stage: DialStage, status: int, expected: str) -> None:
    failed = ev.RedialFailed(
        vantage=Vantage.AGENT, at=9.0, party=AGENT, peer=SERVER, stage=stage, status=status
    )
    assert cause(S2A, stream(AGENT, SERVER, StreamEnd.SILENT), failed) == expected


def test_an_end_that_heard_nothing_itself_is_no_one_way_loss_however_much_later_the_other_ends() -> (
    None
):
    later = (stream(CLIENT, SERVER, StreamEnd.SILENT, silence_s=60.3), tcp(CLIENT, SERVER, 60_264))
    lost = {"retransmits": 4, "unacked": 1}
    deaf = stream(SERVER, CLIENT, StreamEnd.SILENT, silence_s=6.0)
    assert cause(C2S, *later, deaf, tcp(SERVER, CLIENT, 5_952, **lost)) == "network.path_lost"
    hears = tcp(SERVER, CLIENT, 2_500, **lost)
    assert cause(C2S, *later, deaf, hears) == "network.client_download_lost"


def test_a_session_that_the_agent_ended_is_its_end_however_the_client_leaves() -> None:
    ended = ev.SessionEnded(
        vantage=Vantage.AGENT,
        at=2.0,
        exit_code=229,
        open_sessions=0,
        cause="agent.processes_exhausted",
    )
    said = ev.SshDisconnected(vantage=Vantage.AGENT, at=3.0, by=CLIENT, code=11, open_sessions=0)
    left = ev.LocalSideClosed(vantage=Vantage.CLIENT, at=3.0)
    assert [cause(A2C, ended, leaving) for leaving in (said, left)] == [
        "agent.processes_exhausted"
    ] * 2


# -- standing still ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stalled", "expected"),
    [
        (stall(AGENT, 45.0, waited_s=44.0), "agent.starved"),
        (stall(AGENT, 45.0, throttled_s=40.0), "agent.starved"),
        (stall(AGENT, 45.0, cpu_s=44.0), "agent.unresponsive"),
        (stall(AGENT, 45.0, cpu_s=44.0, waited_s=0.5), "agent.unresponsive"),
        (stall(AGENT, 45.0, cpu_s=0.1, waited_s=0.2), "agent.frozen"),
        (stall(AGENT, 45.0, cpu_s=0.1), "agent.unresponsive"),
        (stall(AGENT, 45.0), "agent.unresponsive"),
        (stall(AGENT, 4.9, waited_s=4.8), "agent.unreachable"),
    ],
)
def test_an_agent_that_stood_still(stalled: ev.LoopStalled, expected: str) -> None:
    assert cause(S2A, AGENT_SILENT, stalled) == expected


def test_whoever_starved_for_half_of_a_short_silence_starved_through_it() -> None:
    short = stream(SERVER, AGENT, StreamEnd.SILENT, silence_s=6.8)
    gap, less = stall(SERVER, 4.4, waited_s=4.4), stall(SERVER, 2.0, waited_s=2.0)
    causes = [cause(S2A, short, *gaps) for gaps in ((gap,), (less,), (less, less))]
    assert causes == ["server.overloaded", "agent.unreachable", "server.overloaded"]
    assert cause(S2A, AGENT_SILENT, gap) == "agent.unreachable"


@pytest.mark.parametrize(
    ("kind", "party", "told", "untold"),
    [
        (S2A, AGENT, "agent.frozen", "agent.unresponsive"),
        (A2C, CLIENT, "client.frozen", "client.unresponsive"),
        (C2S, SERVER, "server.unresponsive", "server.unresponsive"),
    ],
)
def test_a_party_is_called_frozen_only_by_its_kernels_account_and_never_surely(
    kind: ConnectType, party: Party, told: str, untold: str
) -> None:
    silent = stream(RELAY, party, StreamEnd.SILENT)
    by_account = verdict(kind, silent, stall(party, 45.0, cpu_s=0.1, waited_s=0.2))
    without = verdict(kind, silent, stall(party, 45.0))
    assert (by_account.disconnect.cause, by_account.confidence) == (told, Confidence.MEDIUM)
    assert (without.disconnect.cause, without.confidence) == (untold, Confidence.MEDIUM)


def test_memory_and_cpu_pressure() -> None:
    def pressed(resource: Resource, full: float) -> ev.Pressure:
        return ev.Pressure(
            vantage=Vantage.AGENT, at=8.0, party=AGENT, resource=resource, full_avg10=full
        )

    assert cause(S2A, AGENT_SILENT, pressed(Resource.MEMORY, 60.0)) == "agent.memory_thrashing"
    assert cause(S2A, AGENT_SILENT, pressed(Resource.CPU, 90.0)) == "agent.starved"
    assert cause(S2A, AGENT_SILENT, pressed(Resource.IO, 99.0)) == "agent.unreachable"
    assert cause(S2A, AGENT_SILENT, pressed(Resource.MEMORY, 5.0)) == "agent.unreachable"


def test_a_peer_whose_kernel_was_as_silent_as_itself_is_not_unresponsive() -> None:
    silent = stream(AGENT, SERVER, StreamEnd.SILENT, silence_s=6.0)
    assert cause(S2A, silent, tcp(AGENT, SERVER, 1_900)) == "server.unresponsive"
    unheard = tcp(AGENT, SERVER, 6_000, probes=4)
    assert cause(S2A, silent, unheard) == "server.unreachable"
    gone = ev.LinkChanged(vantage=Vantage.AGENT, at=3.0, party=AGENT, interface="eth0", up=False)
    assert cause(S2A, silent, unheard, gone) == "agent.link_down"


@pytest.mark.parametrize("how", [{}, {"cpu_s": 38.0}, {"waited_s": 38.0}])
def test_a_relay_that_wakes_says_that_it_had_stood_still(how: dict[str, float]) -> None:
    gave_up = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=8.0)
    left = stream(RELAY, CLIENT, StreamEnd.CLOSED, close_code=1000)
    assert cause(A2C, gave_up, left) == "network.path_lost"
    assert cause(A2C, gave_up, left, stall(RELAY, 40.0, **how)) == "relay.unresponsive"
    assert cause(A2C, gave_up, left, stall(RELAY, 2.0, **how)) == "network.path_lost"


def test_a_server_that_wakes_to_peers_that_gave_it_up_had_stood_still() -> None:
    given_up = stream(SERVER, CLIENT, StreamEnd.CLOSED, close_code=4408)
    assert cause(C2S, given_up) == "server.unreachable"
    assert cause(C2S, given_up, stall(SERVER, 24.8)) == "server.unresponsive"
    left = stream(SERVER, CLIENT, StreamEnd.EOF)
    assert cause(C2S, left, stall(SERVER, 24.8)) == "client.vanished"


@pytest.mark.parametrize(
    ("answered", "expected"), [(2, "server.unreachable"), (0, "network.path_lost")]
)
def test_only_the_server_is_cut_off_where_others_answer(answered: int, expected: str) -> None:
    others = ev.OthersAnswered(
        vantage=Vantage.AGENT, at=11.0, party=AGENT, asked=2, answered=answered
    )
    assert cause(S2A, AGENT_SILENT, SERVER_TIMED_OUT, others) == expected


def test_which_end_of_a_direct_tunnel_lost_one_way_is_told_by_a_control_link() -> None:
    gave_up = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=9.0)
    deaf = tcp(CLIENT, AGENT, 9_000, unacked=1, retransmits=5)
    hears = tcp(AGENT, CLIENT, 2_300, unacked=1, retransmits=6)
    link = ev.NeighbourEnded(
        vantage=Vantage.SERVER,
        at=12.0,
        party=AGENT,
        cause="network.agent_upload_lost",
        before_s=3.0,
    )
    assert cause(A2C, gave_up, deaf, hears) == "network.client_download_lost"
    assert cause(A2C, gave_up, deaf, hears, link) == "network.agent_upload_lost"


def test_a_relay_that_ended_by_an_error_of_its_own_crashed() -> None:
    failed = ev.InternalFailure(vantage=Vantage.RELAY, at=3.0, party=RELAY, what="KeyError: 'x'")
    assert cause(A2C, failed, died(RELAY, exit_status=1)) == "relay.crashed"
    assert cause(A2C, died(RELAY, signal=9)) == "relay.crashed"


def test_a_relay_that_nobody_hears_is_cut_off() -> None:
    agent_lost_it = stream(AGENT, RELAY, StreamEnd.TIMED_OUT)
    gave_up = stream(CLIENT, AGENT, StreamEnd.SILENT, silence_s=7.9)
    unheard = tcp(CLIENT, RELAY, 7_888, retransmits=5, unacked=1)
    at_the_relay = (
        tcp(RELAY, CLIENT, 28_388, probes=16),
        stream(RELAY, CLIENT, StreamEnd.TIMED_OUT),
    )
    assert cause(A2C, agent_lost_it, gave_up, unheard, *at_the_relay) == "relay.unreachable"
    assert cause(A2C, agent_lost_it, gave_up, unheard) == "relay.unreachable"
    still_heard = tcp(CLIENT, RELAY, 1_900)
    assert cause(A2C, agent_lost_it, gave_up, still_heard) != "relay.unreachable"
    assert cause(A2C, gave_up, unheard) != "relay.unreachable"
    assert cause(A2C, agent_lost_it, unheard) == "relay.unreachable", "by the agent's stream alone"


def test_who_gives_up_first_has_fresher_counters_and_heard_no_more() -> None:
    gave_up = stream(AGENT, SERVER, StreamEnd.SILENT, silence_s=6.0)
    timed_out = stream(SERVER, AGENT, StreamEnd.TIMED_OUT)
    late = tcp(SERVER, AGENT, 28_000, retransmits=9, unacked=1)
    deaf = tcp(AGENT, SERVER, 6_000, retransmits=4, unacked=1)
    hearing = tcp(AGENT, SERVER, 2_500, retransmits=4, unacked=1)
    assert cause(S2A, gave_up, timed_out, late, deaf) == "network.path_lost"
    assert cause(S2A, gave_up, timed_out, late, hearing) == "network.agent_upload_lost"


def test_standing_still_never_explains_an_end_in_order() -> None:
    bye = ev.GoodbyeSaid(vantage=Vantage.AGENT, at=9.0, by=AGENT, cause="agent.shutdown")
    assert cause(S2A, bye, stall(AGENT, 45.0)) == "agent.shutdown"
    assert cause(S2A, AGENT_EOF, stall(AGENT, 45.0)) == "agent.vanished"


def test_a_clock_step_explains_nothing() -> None:
    stepped = ev.ClockStepped(vantage=Vantage.AGENT, at=8.0, party=AGENT, delta_s=-7200.0)
    assert cause(S2A, AGENT_SILENT, stepped) == "agent.unreachable"
    assert cause(S2A, stepped) == "unknown"


# -- how an agent died ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected", "actor"),
    [
        ({"signal": 9, "oom_kills": 1}, "agent.oom_killed", "kernel:oom"),
        ({"signal": 9, "oom_kills": 0}, "agent.killed", "signal:9"),
        (
            {"signal": 9, "oom_kills": 1, "sender": "pid 7 uid 1000"},
            "agent.shutdown",
            "signal from pid 7 uid 1000",
        ),
        ({"signal": 11, "oom_kills": 1}, "agent.crashed", "signal:11"),
        ({"oom_kills": None}, "agent.crashed", ""),
        ({"oom_named": True, "signal": 9}, "agent.oom_killed", "kernel:oom"),
        ({"disk_full": True, "exit_status": 1}, "agent.crashed", ""),
        ({"disk_full": True, "signal": 9}, "agent.killed", "signal:9"),
        ({"upgraded": True, "signal": 9, "last_alive_at": 1.0}, "agent.upgraded", "signal:9"),
        ({"upgraded": True, "signal": 9, "last_alive_at": -60.0}, "agent.killed", "signal:9"),
        ({"upgraded": True, "signal": 9}, "agent.killed", "signal:9"),
        ({"upgraded": True, "signal": 11, "last_alive_at": 1.0}, "agent.crashed", "signal:11"),
        ({"signal": 9}, "agent.killed", "signal:9"),
        ({"host_rebooted": True, "oom_kills": 3}, "agent.host_rebooted", ""),
        ({"container_changed": True, "upgraded": True}, "agent.container_replaced", ""),
    ],
)
def test_a_post_mortem(found: dict[str, object], expected: str, actor: str) -> None:
    disconnect = verdict(A2C, stream(RELAY, AGENT, StreamEnd.EOF), died(AGENT, **found)).disconnect
    assert (disconnect.cause, disconnect.actor) == (expected, actor)


@pytest.mark.parametrize(
    ("found", "expected", "actor"),
    [
        ({"signal": 9}, "server.shutdown", "signal:15 from pid 1 uid 0"),
        ({}, "server.shutdown", "signal:15 from pid 1 uid 0"),
        ({"signal": 11}, "server.crashed", "signal:15 from pid 1 uid 0"),
        ({"exit_status": 1}, "server.crashed", "signal:15 from pid 1 uid 0"),
        ({"signal": 9, "oom_named": True}, "server.oom_killed", "kernel:oom"),
        ({"host_rebooted": True}, "server.host_rebooted", "signal:15 from pid 1 uid 0"),
    ],
)
def test_a_server_that_was_told_to_stop_and_did_not_live_to_do_so_in_order(
    found: dict[str, object], expected: str, actor: str
) -> None:
    asked = ev.SignalReceived(
        vantage=Vantage.SERVER, at=3.0, party=SERVER, signal=15, sender="pid 1 uid 0"
    )
    told = verdict(S2A, stream(AGENT, SERVER, StreamEnd.EOF), asked, died(SERVER, **found))
    assert (told.disconnect.cause, told.disconnect.actor) == (expected, actor)


@pytest.mark.parametrize(
    ("found", "confidence"),
    [
        ({"signal": 9}, Confidence.MEDIUM),
        ({}, Confidence.MEDIUM),
        ({"exit_status": 1}, Confidence.HIGH),
        ({"signal": 11}, Confidence.HIGH),
    ],
)
def test_a_server_surely_crashed_only_where_it_was_not_killed_from_outside(
    found: dict[str, object], confidence: Confidence
) -> None:
    told = verdict(S2A, stream(AGENT, SERVER, StreamEnd.EOF), died(SERVER, **found))
    assert (told.disconnect.cause, told.confidence) == ("server.crashed", confidence)


@pytest.mark.parametrize(
    ("found", "confidence"),
    [
        ({"signal": 9}, Confidence.MEDIUM),
        ({"signal": 9, "oom_kills": 0}, Confidence.HIGH),
        ({"signal": 15}, Confidence.HIGH),
    ],
)
def test_a_sigkill_is_surely_somebodys_only_where_the_kernels_own_are_counted(
    found: dict[str, object], confidence: Confidence
) -> None:
    told = verdict(A2C, stream(RELAY, AGENT, StreamEnd.EOF), died(AGENT, **found))
    assert (told.disconnect.cause, told.confidence) == ("agent.killed", confidence)


def test_a_users_process_killed_for_memory_is_not_the_agent() -> None:
    login = ev.Authenticated(vantage=Vantage.AGENT, at=1.0, user="alice", method="publickey")
    killed = ev.SessionEnded(vantage=Vantage.AGENT, at=2.0, exit_signal="KILL", open_sessions=0)
    oom = ev.OomKills(vantage=Vantage.AGENT, at=2.0, party=AGENT, count=1, victim=OomVictim.CHILD)
    left = ev.SshDisconnected(vantage=Vantage.AGENT, at=3.0, by=CLIENT, code=11, open_sessions=0)
    assert cause(A2C, login, killed, oom, left) == "session.oom_killed"
    assert cause(A2C, login, killed, left) == "session.signal"
    assert cause(S2A, AGENT_EOF, oom) == "agent.vanished"


def test_what_was_asked_for_just_before_is_what_happened() -> None:
    def asked(before_s: float) -> ev.IntentRecorded:
        return ev.IntentRecorded(
            vantage=Vantage.SERVER,
            at=9.0,
            intent="stop",
            cause="workspace.stopped",
            before_s=before_s,
            actor="user:alice",
        )

    told = verdict(S2A, AGENT_EOF, asked(3.0)).disconnect
    assert (told.cause, told.actor, told.basis) == ("workspace.stopped", "user:alice", "declared")
    assert cause(S2A, AGENT_EOF, asked(31.0)) == "agent.vanished"


# -- in common --------------------------------------------------------------------------


def test_a_machine_is_lost_only_where_nobody_on_it_lives() -> None:
    def together(ended: int, alive: int) -> ev.EndedTogether:
        return ev.EndedTogether(
            vantage=Vantage.SERVER, at=9.0, element=Element.NODE, ended=ended, alive=alive
        )

    gone = ev.NeverReturned(vantage=Vantage.SERVER, at=60.0, party=AGENT, waited_s=15.0)
    assert cause(A2C, gone, together(4, 0)) == "agent.node_lost"
    assert cause(A2C, gone, together(1, 0)) == "agent.vanished"
    assert cause(A2C, gone, together(4, 1)) == "agent.vanished"


def test_a_client_that_lost_the_relay_as_well_had_no_way_to_return_by() -> None:
    lost = stream(AGENT, RELAY, StreamEnd.EOF)
    gone = ev.NeverReturned(vantage=Vantage.AGENT, at=15.0, party=CLIENT, waited_s=6.0)
    assert cause(A2C, lost, gone) == "client.unreachable"
    assert cause(A2C, lost, gone, stream(CLIENT, RELAY, StreamEnd.EOF)) == "relay.crashed"
    assert cause(A2C, gone, died(SERVER)) == "relay.crashed"


def test_a_relay_that_carries_others_has_not_crashed() -> None:
    lost = stream(CLIENT, RELAY, StreamEnd.EOF)
    lives = ev.EndedTogether(
        vantage=Vantage.SERVER, at=9.0, element=Element.RELAY, ended=1, alive=5
    )
    assert cause(A2C, lost) == "relay.crashed"
    assert cause(A2C, lost, lives) == "network.middlebox_reset"


# -- root and proximate -----------------------------------------------------------------


def test_the_root_is_the_cause_and_the_end_itself_is_kept_beside_it() -> None:
    slept = ev.Suspended(vantage=Vantage.CLIENT, at=93.0, party=CLIENT, gap_s=90.0)
    lost = stream(RELAY, CLIENT, StreamEnd.SILENT, silence_s=30.0)
    told = verdict(A2C, lost, slept)
    assert (told.disconnect.cause, told.proximate) == ("client.suspended", "client.unreachable")
    assert told.disconnect.detail == (
        "The client's boot time went on while its monotonic clock stood still. "
        "(the client's machine slept for 90 s)"
    )


def test_where_nothing_lies_behind_an_end_it_is_its_own_root() -> None:
    assert verdict(S2A, AGENT_EOF).proximate == ""
    stepped = ev.ClockStepped(vantage=Vantage.AGENT, at=8.0, party=AGENT, delta_s=3600.0)
    assert verdict(S2A, AGENT_EOF, stepped).proximate == ""
    assert verdict(A2C, died(AGENT)).proximate == ""


def test_a_detail_names_what_the_facts_around_say() -> None:
    lost = stream(SERVER, AGENT, StreamEnd.SILENT)
    seen: list[Evidence] = [
        stall(AGENT, 45.0),
        ev.Pressure(
            vantage=Vantage.AGENT, at=8.0, party=AGENT, resource=Resource.CPU, full_avg10=12.0
        ),
        ev.Exhausted(
            vantage=Vantage.AGENT, at=8.0, party=AGENT, resource=Resource.DISK, where="/home"
        ),
    ]
    assert verdict(S2A, lost, *seen).disconnect.detail.endswith(
        "(the agent did not run for 45 s; cpu pressure at the agent: 12 %; "
        "no disk left at the agent /home; server saw agent: silent)"
    )
