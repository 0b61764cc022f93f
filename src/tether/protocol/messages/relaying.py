"""What a relay says to one leg, in WebSocket text frames, beside the binary frames that it copies.

Law: types and bytes only. A relay never reads or writes a binary frame of its own; a leg never takes
a text frame for tunnel data. Unknown words are ignored by the reader.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tether.protocol.messages.control import Garbage


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
