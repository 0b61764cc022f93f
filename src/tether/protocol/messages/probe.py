"""What is said on a tunnel whose purpose is `probe`: how much it carries, each way.

Law: types only. The data of a probe means nothing and is counted where it arrives. A round trip needs no
message of these, because carriers have pings of their own.
"""

from __future__ import annotations

from enum import StrEnum

from tether.protocol.messages.base import Message

MAX_PROBE_S = 60.0
"""No source sends for longer."""


class ProbeMode(StrEnum):
    """What the agent does with a probe's data."""

    ECHO = "echo"  # sends it back
    SINK = "sink"  # counts it
    SOURCE = "source"  # sends some, until `seconds` are over or it is told to stop


class ProbeStart(Message, frozen=True, kw_only=True):
    """Client: begin, and end any probe that runs."""

    mode: str
    """A `ProbeMode` word."""
    seconds: float = 0.0


class ProbeStop(Message, frozen=True, kw_only=True):
    """Client: enough; after all the data that I have sent."""


class ProbeResult(Message, frozen=True, kw_only=True):
    """Agent: the probe is over; so much a sink has received, or a source has sent, and in this time."""

    mode: str
    bytes: int
    seconds: float
