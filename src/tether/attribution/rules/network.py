"""What the network did, as netlink, both ends of a stream, or the next dial tell.

Law: rows only; see `table`. What a party's own kernel tells of its own network comes first, then what
two ends say together, then what a return or a failed redial tells.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.causes.catalogue import codes_where
from tether.attribution.picks import by_neighbour
from tether.attribution.predicates.predicate import (
    CONTROL,
    SESSION,
    Predicate,
    both,
    either,
    has,
    never,
    saw,
)
from tether.attribution.predicates.sessions import UNANSWERED
from tether.attribution.predicates.streams import (
    GIVEN_UP,
    LOST,
    SILENT,
    aborted_at,
    both_closed,
    both_reset,
    both_silent,
    large_frames_lost,
    no_egress,
    one_reset_one_silent,
    one_way,
    reset_while_well,
    unheard_relay,
    well_known_idle,
)
from tether.attribution.predicates.testimony import missed
from tether.attribution.rules.rule import Rule, Sight
from tether.attribution.vocabulary import (
    ABRUPT_ENDS,
    SILENT_ENDS,
    Basis,
    Confidence,
    DialStage,
    Element,
    Party,
    StreamEnd,
    Vantage,
)

CUT = (StreamEnd.EOF, StreamEnd.RESET)


def unplugged(party: Party) -> Predicate:
    """The party's device or route went away."""
    return either(
        saw(ev.LinkChanged, party=party, up=False),
        saw(ev.RouteChanged, party=party, interface=""),
        no_egress(party),
    )


def returned(party: Party, **how: object) -> Predicate:
    """The same run of the party dialled again."""
    return saw(ev.PeerReturned, party=party, same_run=True, **how)


def refused(stage: DialStage) -> Predicate:
    """The next dial failed at this stage."""
    return saw(ev.RedialFailed, stage=stage)


another_page = has(
    ev.RedialFailed,
    "stage=http, a page or another address instead (2xx, 3xx, 511)",
    lambda fact: fact.stage is DialStage.HTTP and (200 <= fact.status < 400 or fact.status == 511),
)
"""What a captive portal answers. A 5xx is what a gateway says whose server is away."""

RULES: tuple[Rule, ...] = (
    Rule(
        "node-lost",
        both(
            has(
                ev.EndedTogether,
                "element=node, ended>1, alive=0",
                lambda fact: fact.element is Element.NODE and fact.ended > 1 and not fact.alive,
            ),
            either(
                saw(ev.StreamEnded, peer=Party.AGENT, how=SILENT_ENDS),
                saw(ev.NeverReturned, party=Party.AGENT),
            ),
        ),
        "agent.node_lost",
        Basis.INFERRED,
        "All agents on the workspace's machine fell silent together.",
    ),
    Rule(
        "client-vpn-changed",
        both(LOST, saw(ev.RouteChanged, party=Party.CLIENT, tunnel=True)),
        "client.vpn_changed",
        Basis.OBSERVED,
        "The client's way to us changed to or from a VPN's device.",
    ),
    Rule(
        "client-roamed",
        both(LOST, saw(ev.AddressChanged, party=Party.CLIENT, ours=True)),
        "client.roamed",
        Basis.OBSERVED,
        "The address that the client's stream ran from is no longer on its machine.",
    ),
    Rule(
        "client-link-down",
        both(SILENT, unplugged(Party.CLIENT)),
        "client.link_down",
        Basis.OBSERVED,
        "The client's own kernel lost the device or the route that the stream ran over.",
    ),
    Rule(
        "agent-address-changed",
        both(LOST, saw(ev.AddressChanged, party=Party.AGENT, ours=True)),
        "agent.address_changed",
        Basis.OBSERVED,
        "The address that the agent's stream ran from is no longer on its machine.",
    ),
    Rule(
        "agent-link-down",
        both(SILENT, unplugged(Party.AGENT)),
        "agent.link_down",
        Basis.OBSERVED,
        "The agent's own kernel lost the device or the route that the stream ran over.",
    ),
    Rule(
        "client-socket-destroyed",
        aborted_at(Party.CLIENT),
        "client.socket_destroyed",
        Basis.OBSERVED,
        "The client's kernel dropped the socket from below (ECONNABORTED).",
    ),
    Rule(
        "agent-socket-destroyed",
        aborted_at(Party.AGENT),
        "agent.socket_destroyed",
        Basis.OBSERVED,
        "The agent's kernel dropped the socket from below (ECONNABORTED).",
    ),
    Rule(
        "neighbour-lost-one-way",
        both(
            SESSION,
            either(SILENT, UNANSWERED),
            saw(ev.NeighbourEnded, cause=codes_where(lambda row: row.holds_for_tunnels)),
        ),
        by_neighbour,
        Basis.INFERRED,
        "A control link of the same party was lost with it; its two ends tell which way failed.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-sends-into-the-void",
        one_way(Party.CLIENT, sending=True),
        "network.client_upload_lost",
        Basis.INFERRED,
        "Packets from the client were lost, while those to it still arrived.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "client-hears-nothing",
        one_way(Party.CLIENT, sending=False),
        "network.client_download_lost",
        Basis.INFERRED,
        "Packets to the client were lost, while those from it still arrived.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "agent-sends-into-the-void",
        one_way(Party.AGENT, sending=True),
        "network.agent_upload_lost",
        Basis.INFERRED,
        "Packets from the agent were lost, while those to it still arrived.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "agent-hears-nothing",
        one_way(Party.AGENT, sending=False),
        "network.agent_download_lost",
        Basis.INFERRED,
        "Packets to the agent were lost, while those from it still arrived.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "large-frames-lost",
        large_frames_lost,
        "network.mtu_black_hole",
        Basis.INFERRED,
        "Large packets were lost again and again, while small ones passed both ways.",
        Confidence.MEDIUM,
        sight=Sight.BLOCKED,
    ),
    Rule(
        "idle-timeout",
        both(
            well_known_idle,
            either(both_closed, returned(Party.CLIENT), returned(Party.AGENT)),
        ),
        "network.idle_timeout",
        Basis.INFERRED,
        "Both ends live, and the stream was cut after an idle time that middleboxes are known for.",
        Confidence.MEDIUM,
    ),
    Rule(
        "cut-whenever-idle",
        has(ev.CutWhenIdle, "cuts>1", lambda fact: fact.cuts > 1),
        "network.idle_timeout",
        Basis.INFERRED,
        "One stream after the other was cut after the same idle time, and none outlived it.",
        Confidence.MEDIUM,
    ),
    Rule(
        "answered-in-between",
        both(both_closed, either(refused(DialStage.PROXY), another_page)),
        "network.proxy_refused",
        Basis.INFERRED,
        "Each end says that the other closed it, and something in between answered the next dial.",
        Confidence.MEDIUM,
    ),
    Rule(
        "nat-rebinding",
        both_reset,
        "network.nat_rebinding",
        Basis.INFERRED,
        "Both ends of the stream were reset, and neither sent that.",
        Confidence.MEDIUM,
    ),
    Rule(
        "cut-in-between",
        both_closed,
        "network.middlebox_reset",
        Basis.INFERRED,
        "Each end says that the other closed the stream.",
    ),
    Rule(
        "reset-in-between",
        one_reset_one_silent,
        "network.middlebox_reset",
        Basis.INFERRED,
        "One end was reset, and the other, which never sent that, heard nothing more.",
    ),
    Rule(
        "reset-before-the-silence",
        both(CONTROL, reset_while_well),
        "network.middlebox_reset",
        Basis.INFERRED,
        "One end was reset in the middle of a healthy stream, before the other fell to hear nothing.",
        Confidence.MEDIUM,
    ),
    Rule(
        "relay-lives",
        both(
            saw(ev.StreamEnded, peer=Party.RELAY, how=ABRUPT_ENDS),
            has(
                ev.EndedTogether,
                "element=relay, alive>0",
                lambda fact: fact.element is Element.RELAY and fact.alive > 0,
            ),
        ),
        "network.middlebox_reset",
        Basis.INFERRED,
        "The stream to the relay was cut, while the relay went on to carry others.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-came-from-elsewhere",
        both(SILENT, returned(Party.CLIENT, same_address=False)),
        "client.roamed",
        Basis.INFERRED,
        "The same run of the client dialled again from another address.",
    ),
    Rule(
        "agent-came-from-elsewhere",
        both(SILENT, returned(Party.AGENT, same_address=False)),
        "agent.address_changed",
        Basis.INFERRED,
        "The same run of the agent dialled again from another address.",
    ),
    Rule(
        "server-cut-off",
        both(
            CONTROL,
            saw(
                ev.StreamEnded,
                vantage=(Vantage.AGENT, Vantage.CLIENT),
                peer=Party.SERVER,
                how=SILENT_ENDS,
            ),
            has(ev.OthersAnswered, "answered>0", lambda fact: fact.answered > 0),
        ),
        "server.unreachable",
        Basis.INFERRED,
        "Nothing more was heard from the server, while tunnels that do not pass it went on.",
        Confidence.MEDIUM,
    ),
    Rule(
        "relay-cut-off",
        both(
            SESSION,
            saw(ev.StreamEnded, vantage=Vantage.AGENT, peer=Party.RELAY, how=SILENT_ENDS),
            unheard_relay,
        ),
        "relay.unreachable",
        Basis.INFERRED,
        "Neither the agent nor the client, each on its own way, heard anything from the relay.",
        Confidence.MEDIUM,
    ),
    Rule(
        "path-lost",
        both_silent,
        "network.path_lost",
        Basis.INFERRED,
        "Both ends heard nothing more from each other.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-heard-nothing",
        both(
            SESSION,
            saw(ev.StreamEnded, vantage=Vantage.CLIENT, peer=Party.AGENT, how=SILENT_ENDS),
            either(
                saw(
                    ev.StreamEnded,
                    vantage=(Vantage.AGENT, Vantage.RELAY),
                    peer=Party.CLIENT,
                    how=ABRUPT_ENDS,
                ),
                both(
                    missed(Party.AGENT, Party.CLIENT), never(saw(ev.StreamEnded, peer=Party.RELAY))
                ),
            ),
        ),
        "network.path_lost",
        Basis.INFERRED,
        "The client heard nothing on any way for as long as its tunnel may wait, and the agent lived.",
        Confidence.MEDIUM,
    ),
    Rule(
        "proxy-in-the-way",
        both(LOST, either(refused(DialStage.PROXY), another_page)),
        "network.proxy_refused",
        Basis.INFERRED,
        "The next dial was answered by something in between.",
        Confidence.MEDIUM,
    ),
    Rule(
        "certificate-not-ours",
        both(LOST, refused(DialStage.TLS)),
        "network.tls_intercepted",
        Basis.INFERRED,
        "The next dial met a TLS certificate that is not the server's.",
        Confidence.MEDIUM,
    ),
    Rule(
        "names-unresolved",
        both(SILENT, refused(DialStage.DNS)),
        "network.dns_failed",
        Basis.INFERRED,
        "Nothing more was heard, and the server's name could not be resolved after it.",
        Confidence.MEDIUM,
    ),
    Rule(
        "dialler-gave-up",
        both(
            CONTROL,
            either(
                both(
                    saw(
                        ev.StreamEnded,
                        vantage=(Vantage.AGENT, Vantage.CLIENT),
                        peer=Party.SERVER,
                        how=SILENT_ENDS,
                    ),
                    saw(ev.StreamEnded, vantage=Vantage.SERVER, how=ABRUPT_ENDS),
                ),
                GIVEN_UP,
            ),
        ),
        "server.unreachable",
        Basis.INFERRED,
        "The party that dialled heard nothing more from the server, and closed the link itself.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-lives",
        both(saw(ev.StreamEnded, peer=Party.CLIENT, how=CUT), returned(Party.CLIENT)),
        "network.middlebox_reset",
        Basis.INFERRED,
        "The client's stream was cut without a goodbye, and the same run of the client came back.",
        Confidence.LOW,
    ),
    Rule(
        "agent-lives",
        both(saw(ev.StreamEnded, peer=Party.AGENT, how=CUT), returned(Party.AGENT)),
        "network.middlebox_reset",
        Basis.INFERRED,
        "The agent's stream was cut without a goodbye, and the same run of the agent came back.",
        Confidence.LOW,
    ),
    Rule(
        "client-gave-up-on-a-still-agent",
        both(UNANSWERED, saw(ev.TcpCounters, vantage=Vantage.CLIENT, peer=Party.AGENT, unacked=0)),
        "agent.unresponsive",
        Basis.INFERRED,
        "The agent's machine had taken all that was sent, and the agent answered nothing of it.",
        Confidence.MEDIUM,
    ),
    Rule(
        "client-gave-up-unanswered",
        UNANSWERED,
        "network.path_lost",
        Basis.INFERRED,
        "The agent had answered nothing for some time when the client's program gave up.",
        Confidence.MEDIUM,
    ),
)
