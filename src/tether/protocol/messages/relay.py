"""The control link of a standalone relay: how it registers, what it reports, what it is told.

Law: types only. A relay needs no answer to carry tunnels: it verifies tickets by itself, and what it
saw of each carrier waits, bounded, until the server has taken it.
"""

from __future__ import annotations

import msgspec

from tether.protocol.messages.base import Message
from tether.protocol.messages.fact_record import FactRecord


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


class CarrierEnded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one carrier ended at the relay."""

    connection_id: str
    carrier: int
    at: float
    facts: list[FactRecord]
    symptoms: list[FactRecord] = []
    rx_bytes: int = 0
    tx_bytes: int = 0


class RelayReport(Message, frozen=True, kw_only=True):
    """Relay: these carriers were joined; these ended, numbered from `first_seq` on."""

    joined: list[str] = []
    first_seq: int = 0
    ended: list[CarrierEnded] = []


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
