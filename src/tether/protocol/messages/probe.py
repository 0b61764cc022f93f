"""What is said on a tunnel whose purpose is `probe`: how much it carries, each way.

Law: types only. The round trip needs no message of these: carriers are pinged below. A probe's data is
of no meaning and counted where it arrives.
"""

from __future__ import annotations

from enum import StrEnum

from tether.protocol.messages.base import Message

MAX_PROBE_S = 60.0
"""A longer source is cut to this."""


class ProbeMode(StrEnum):
    """What the agent does with a probe's data."""

    ECHO = "echo"  # sends it back
    SINK = "sink"  # counts it
    SOURCE = "source"  # sends some, until `seconds` are over or it is told to stop


class ProbeStart(Message, frozen=True, kw_only=True):
    """Client: begin. A probe that runs is over."""

    mode: str
    """A `ProbeMode` word."""
    seconds: float = 0.0


class ProbeStop(Message, frozen=True, kw_only=True):
    """Client: enough; after all the data that I have sent."""


class ProbeResult(Message, frozen=True, kw_only=True):
    """Agent: the probe is over. What a sink received, or a source has sent, and in which time."""

    mode: str
    bytes: int
    seconds: float
