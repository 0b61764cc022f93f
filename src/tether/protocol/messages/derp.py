"""DERP: the map of relays, a standalone relay's control link, and what a relay says to one leg.

Law: types, and the codec of a relay's words.

- The map is sent whole, after the welcome and on each change, so that the newest one tells all.
- A relay needs no answer from its server to carry tunnels: it verifies tickets by itself. What it saw
  of each carrier waits, bounded, until the server has it on file.
- A relay's words are WebSocket text frames, in JSON, beside the binary frames that it copies. It never
  reads or writes a binary frame of its own, and a leg never takes a text frame for tunnel data.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TypeAlias

import msgspec

from tether.protocol.messages.base import FactRecord, Garbage, Message

# -- the map --------------------------------------------------------------------------------

REGION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")

MAX_REGIONS = 256
"""Regions of a map, and regions whose latency anybody may tell."""

EMBEDDED_REGION = "embedded"
"""The DERP region of the relay inside the server; no other relay may be in it."""


class NodeStatus(StrEnum):
    """Whether a relay takes new carriers."""

    OK = "ok"
    DRAINING = "draining"  # it will restart or be removed: move away, and come with nothing new


class DerpNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One relay."""

    url: str
    """Where its legs are dialled, `ws://…/derp`."""
    status: str = NodeStatus.OK
    """A `NodeStatus` word."""


class DerpRegion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Relays near one another."""

    name: str
    nodes: list[DerpNode] = []


class DerpMap(Message, frozen=True, kw_only=True):
    """Server to agent and client: these are the regions now, the embedded relay's included. The
    tickets for their relays come with grants and offers."""

    regions: list[DerpRegion] = []


# -- the control link of a standalone relay ------------------------------------------------


class RelayRegister(Message, frozen=True, kw_only=True):
    """Relay, first after the welcome: this is my region, and my legs are dialled here."""

    region: str
    url: str
    joined: list[str] = []
    """The connections of the carriers that are joined now."""
    draining: bool = False


class RelayRegistered(Message, frozen=True, kw_only=True):
    """Server to relay: you are on the map (unless `draining`)."""

    ticket_keys: list[str]
    """Ed25519 public keys that sign tickets, base64; the newest first."""
    draining: bool = False
    """The region is not in use: take what comes, and ask nobody to come."""


class CarrierReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one carrier ended at the relay."""

    connection_id: str
    carrier: int
    at: float
    facts: list[FactRecord]
    symptoms: list[FactRecord] = []
    rx_bytes: int = 0
    tx_bytes: int = 0


class RelayReport(Message, frozen=True, kw_only=True):
    """Relay: these carriers were joined, and these ended, which are numbered from `first_seq` on."""

    joined: list[str] = []
    first_seq: int = 0
    ended: list[CarrierReport] = []


class RelayReportAck(Message, frozen=True, kw_only=True):
    """Server to relay: everything up to and including `seq` is on file; forget it."""

    seq: int


class RelayDraining(Message, frozen=True, kw_only=True):
    """Relay: I will restart. Send nobody any more; my legs are told to move."""

    reconnect_in_s: float = 0.0


class RelayDrain(Message, frozen=True, kw_only=True):
    """Server to relay: your region was taken off the map (or is back). Tell your legs to move."""

    draining: bool = True


class RelayEnd(Message, frozen=True, kw_only=True):
    """Server to relay: this carrier (0: each one of this tunnel) shall end, or not come to be."""

    connection_id: str
    carrier: int = 0
    cause: str = ""
    actor: str = ""
    detail: str = ""


# -- what a relay says to one leg ----------------------------------------------------------


class Paired(msgspec.Struct, frozen=True, kw_only=True, tag="paired"):
    """Both legs are here; frames flow from now on."""


class PeerGone(msgspec.Struct, frozen=True, kw_only=True, tag="peer_gone", omit_defaults=True):
    """The other leg's stream ended. `how` is a `StreamEnd` word."""

    how: str
    errno: str = ""
    close_code: int | None = None
    silence_s: float | None = None


class RelayGoodbye(msgspec.Struct, frozen=True, kw_only=True, tag="goodbye", omit_defaults=True):
    """The relay itself leaves, or refuses this leg, and says why."""

    cause: str
    actor: str = ""
    detail: str = ""


class Restarting(msgspec.Struct, frozen=True, kw_only=True, tag="restarting", omit_defaults=True):
    """The relay will leave soon, and is back after `reconnect_in_s` (0: not to be counted on). Move
    the tunnel to another carrier first; this one goes on until then."""

    reconnect_in_s: float = 0.0


class OtherWord(msgspec.Struct, frozen=True, kw_only=True):
    """Something a newer relay says. Never sent."""


RelayWord: TypeAlias = Paired | PeerGone | RelayGoodbye | Restarting

_DECODER: msgspec.json.Decoder[RelayWord] = msgspec.json.Decoder(RelayWord)
_OBJECT = msgspec.json.Decoder(dict[str, object])


def encode_word(word: RelayWord) -> str:
    """The text frame for `word`."""
    return msgspec.json.encode(word).decode()


def decode_word(text: str) -> RelayWord | OtherWord:
    """What the relay said.

    Raises:
        Garbage: `text` is no JSON object.
    """
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        try:
            _OBJECT.decode(text)
        except (msgspec.DecodeError, RecursionError) as wrong:
            raise Garbage(f"not a relay's word: {str(wrong)[:200]}") from wrong
        return OtherWord()
