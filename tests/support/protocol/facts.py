"""Builders of facts: one of every kind, and Hypothesis strategies for all of them."""

from __future__ import annotations

import dataclasses
from typing import Any, cast, get_type_hints

from hypothesis import strategies as st

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import (
    AccessRefusal,
    ConnectionMethod,
    DialStage,
    Element,
    HandshakeStage,
    OomVictim,
    Party,
    Policy,
    Resource,
    StreamEnd,
    Vantage,
)

ONE_OF_EVERY_KIND: tuple[Evidence, ...] = (
    ev.GoodbyeSaid(
        vantage=Vantage.AGENT,
        at=1.0,
        by=Party.SERVER,
        cause="workspace.stopped",
        actor="user:alice",
        detail="by hand",
    ),
    ev.LocalSideClosed(vantage=Vantage.CLIENT, at=2.0, signal=15, unanswered_s=0.5),
    ev.Authenticated(
        vantage=Vantage.AGENT, at=3.0, user="alice", method="publickey", client="OpenSSH_9.2p1"
    ),
    ev.SshDisconnected(
        vantage=Vantage.AGENT, at=4.0, by=Party.CLIENT, code=11, text="bye", open_sessions=2
    ),
    ev.SessionEnded(
        vantage=Vantage.AGENT, at=5.0, exit_code=None, exit_signal="KILL", open_sessions=0
    ),
    ev.StreamEnded(
        vantage=Vantage.RELAY,
        at=6.0,
        peer=Party.CLIENT,
        how=StreamEnd.RESET,
        errno="ECONNRESET",
        close_code=1006,
        silence_s=0.5,
    ),
    ev.TcpCounters(
        vantage=Vantage.SERVER,
        at=7.0,
        peer=Party.AGENT,
        retransmits=1,
        probes=2,
        unacked=3,
        total_retrans=4,
        last_data_recv_ms=5,
        last_ack_recv_ms=6,
        pmtu=1500,
        rtt_us=7,
    ),
    ev.SignalReceived(
        vantage=Vantage.AGENT, at=8.0, party=Party.AGENT, signal=15, sender="pid 1 uid 0"
    ),
    ev.ProtocolViolated(vantage=Vantage.AGENT, at=9.0, by=Party.CLIENT, what="bad packet"),
    ev.AccessRefused(
        vantage=Vantage.AGENT, at=10.0, why=AccessRefusal.WRONG_USER, detail="mallory's key"
    ),
    ev.HandshakeTimedOut(vantage=Vantage.AGENT, at=11.0, by=Party.CLIENT, after_s=30.0),
    ev.PreviousRunDied(
        vantage=Vantage.AGENT, at=12.0, party=Party.AGENT, host_rebooted=True, last_alive_at=11.5
    ),
    ev.NeverReturned(vantage=Vantage.SERVER, at=13.0, party=Party.AGENT, waited_s=15.0),
    ev.Superseded(vantage=Vantage.SERVER, at=14.0, by_instance="i-2"),
    ev.InternalFailure(vantage=Vantage.AGENT, at=15.0, party=Party.AGENT, what="KeyError: 'x'"),
    ev.ReportMissing(vantage=Vantage.SERVER, at=16.0, party=Party.AGENT),
    ev.TerminalDetached(vantage=Vantage.AGENT, at=16.5, by=Party.CLIENT, open_sessions=0),
    ev.PolicyRefused(vantage=Vantage.AGENT, at=16.6, policy=Policy.BLOCK_FILE_TRANSFER, what="scp"),
    ev.ForwardServed(vantage=Vantage.AGENT, at=16.7, what="direct_tcpip"),
    ev.StdioForwardEnded(vantage=Vantage.AGENT, at=20.5),
    ev.IdeChannelsClosed(vantage=Vantage.AGENT, at=16.8, by=Party.CLIENT, backend_running=True),
    ev.IdeBackendGone(
        vantage=Vantage.AGENT, at=16.9, pid=42, exit_code=None, exit_signal="KILL", oom_kills=1
    ),
    ev.Suspended(vantage=Vantage.CLIENT, at=21.0, party=Party.CLIENT, gap_s=90.0),
    ev.LoopStalled(
        vantage=Vantage.AGENT,
        at=21.1,
        party=Party.AGENT,
        gap_s=40.0,
        cpu_s=0.1,
        waited_s=39.0,
        throttled_s=38.0,
    ),
    ev.ClockStepped(vantage=Vantage.AGENT, at=21.2, party=Party.AGENT, delta_s=-3600.0),
    ev.Pressure(
        vantage=Vantage.AGENT,
        at=21.3,
        party=Party.AGENT,
        resource=Resource.MEMORY,
        full_avg10=88.0,
    ),
    ev.OomKills(
        vantage=Vantage.AGENT,
        at=21.4,
        party=Party.AGENT,
        count=1,
        victim=OomVictim.CHILD,
        scope="memory.events",
    ),
    ev.Exhausted(
        vantage=Vantage.AGENT, at=21.5, party=Party.AGENT, resource=Resource.DISK, where="/home"
    ),
    ev.AddressChanged(
        vantage=Vantage.CLIENT,
        at=21.6,
        party=Party.CLIENT,
        removed="10.0.0.2",
        added="10.1.0.2",
        ours=True,
    ),
    ev.RouteChanged(
        vantage=Vantage.CLIENT, at=21.7, party=Party.CLIENT, interface="tun0", tunnel=True
    ),
    ev.LinkChanged(
        vantage=Vantage.CLIENT, at=21.8, party=Party.CLIENT, interface="wlan0", up=False
    ),
    ev.RedialFailed(
        vantage=Vantage.CLIENT,
        at=21.9,
        party=Party.CLIENT,
        peer=Party.SERVER,
        stage=DialStage.PROXY,
        error="Proxy Authentication Required",
        status=407,
    ),
    ev.OthersAnswered(vantage=Vantage.AGENT, at=21.95, party=Party.AGENT, asked=3, answered=2),
    ev.PeerReturned(
        vantage=Vantage.SERVER,
        at=22.1,
        party=Party.CLIENT,
        after_s=3.0,
        same_run=True,
        same_address=False,
        same_boot=True,
    ),
    ev.IntentRecorded(
        vantage=Vantage.SERVER,
        at=22.2,
        intent="stop",
        cause="workspace.stopped",
        before_s=0.5,
        actor="user:alice",
    ),
    ev.EndedTogether(vantage=Vantage.SERVER, at=22.3, element=Element.NODE, ended=4, alive=0),
    ev.NeighbourEnded(
        vantage=Vantage.SERVER,
        at=21.5,
        party=Party.CLIENT,
        cause="network.client_upload_lost",
        before_s=19.0,
    ),
    ev.QueueOverflowed(
        vantage=Vantage.SERVER, at=22.4, party=Party.CLIENT, queue="control", limit=1024
    ),
    ev.LogicalStreamEnded(
        vantage=Vantage.SERVER,
        at=2.5,
        stream="coordination",
        cause="coordination.refused",
        actor="user:alice",
        detail="not yours",
    ),
    ev.CarrierEnded(
        vantage=Vantage.RELAY,
        at=22.5,
        carrier=2,
        method=ConnectionMethod.DERP,
        where="eu",
        peer=Party.CLIENT,
        how=StreamEnd.SILENT,
        errno="ETIMEDOUT",
        silence_s=30.5,
        said="relay.restart",
    ),
    ev.CutWhenIdle(vantage=Vantage.SERVER, at=22.55, party=Party.CLIENT, cuts=2, idle_s=12.2),
    ev.TunnelResumed(
        vantage=Vantage.AGENT,
        at=22.6,
        carrier=3,
        method=ConnectionMethod.DIRECT,
        where="192.0.2.7:40000",
        gap_s=3.5,
        resent_bytes=1024,
    ),
    ev.HandshakeUnfinished(
        vantage=Vantage.AGENT,
        at=3.1,
        stage=HandshakeStage.LOGIN,
        client="OpenSSH_9.2p1",
        methods="none,password",
    ),
    ev.NoCommonAlgorithm(
        vantage=Vantage.AGENT, at=3.2, purpose="cipher", theirs="3des-cbc", ours="aes256-ctr"
    ),
    ev.UnknownFact(
        vantage=Vantage.CLIENT, at=17.0, original_kind="quantum_flip", values=(("qubits", 3),)
    ),
)

_texts = st.text(max_size=20)
_floats = st.floats(min_value=-1e9, max_value=1e12, allow_nan=False)
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _floats | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


def of_kind(cls: type[ev.Fact]) -> st.SearchStrategy[Evidence]:
    """Any fact of one kind. Causes are mostly known ones, now and then of a newer peer."""
    hints = get_type_hints(cls)
    fields = {
        field.name: _values(field.name, hints[field.name]) for field in dataclasses.fields(cls)
    }
    return cast(st.SearchStrategy[Evidence], st.builds(cls, **fields))


def _values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name == "cause":
        return st.sampled_from([*CATALOGUE, "network.gremlins"])
    if name == "code":
        return st.sampled_from([2, 11, 14])
    if name == "open_sessions":
        return st.integers(0, 2)
    if name == "last_ack_recv_ms":
        return st.sampled_from([0, 19_999, 20_000, 60_000])
    if hint is str:
        return _texts
    if hint is float:
        return _floats
    if hint == float | None:
        return st.none() | _floats
    return st.from_type(hint)


unknown_facts = st.builds(
    ev.UnknownFact,
    vantage=st.sampled_from(Vantage),
    at=_floats,
    original_kind=st.text(min_size=1, max_size=20).filter(lambda kind: kind not in ev.KINDS),
    values=st.dictionaries(_texts, _plain, max_size=3).map(lambda v: tuple(sorted(v.items()))),
)

facts: st.SearchStrategy[Evidence] = st.one_of(*map(of_kind, ev.KINDS.values()), unknown_facts)
"""Any fact of any kind."""
