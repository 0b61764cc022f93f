"""The opening of a control link: why a server's answer to our hello is no welcome.

Law: until the welcome there is no link, so whatever goes wrong before it is a failed dial: one
sentence, and never a disconnect.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.disconnect import CloseCell, Disconnect
from tether.attribution.vocabulary import Basis, ConnectType, Party
from tether.net.transport.streams import DialFailed
from tether.protocol.messages.codec import PROTOCOL
from tether.protocol.messages.control import Goodbye, Welcome
from tether.version import VERSION


class WelcomeRefused(DialFailed):
    """The server answered our hello with a goodbye. `sentence` is the reason alone."""

    def __init__(self, goodbye: Goodbye, who: Party) -> None:
        self.goodbye = goodbye
        self.sentence = sentence_of(goodbye)
        super().__init__(f"the server turned this {who} away: {self.sentence}", cause=goodbye.cause)


def sentence_of(goodbye: Goodbye) -> str:
    """A server's goodbye as one sentence: its own words, or those of the cause."""
    if goodbye.detail:
        return goodbye.detail
    from tether.attribution.explain import explain  # not paid for by a client that is welcome

    judged = Disconnect(
        connect_type=ConnectType.SERVER_TO_AGENT,
        cause=goodbye.cause,
        basis=Basis.DECLARED,
        actor=goodbye.actor,
    )
    return explain(judged).sentence


def another_version(welcome: Welcome, who: Party) -> DialFailed | None:
    """The failed dial of a server that speaks another major version; None where it speaks ours."""
    theirs, ours = welcome.protocol[0], PROTOCOL[0]
    if theirs == ours:
        return None
    return DialFailed(
        f"the server (version {welcome.version}) speaks protocol {theirs} and this {who} (version"
        f" {VERSION}) {ours}: upgrade the older of the two"
    )


def silent() -> DialFailed:
    """The failed dial of a server that answers nothing."""
    return DialFailed("the server took the connection and then said nothing")


def not_welcomed(cell: CloseCell, goodbye: Goodbye | None, who: Party) -> DialFailed:
    """The failed dial of a stream that ended before the welcome.

    Args:
        cell: what ended it.
        goodbye: the server's, where it said one.
        who: what we are, for people.
    """
    if goodbye is not None:
        return WelcomeRefused(goodbye, who)
    for fact in cell.facts:
        match fact:
            case ev.ProtocolViolated(what=what):
                return DialFailed(f"the server does not speak Tether's protocol: {what}")
            case ev.StreamEnded(how=how, errno=errno):
                why = f"{how} ({errno})" if errno else str(how)
                return DialFailed(f"the server hung up before it welcomed this {who}: {why}")
            case _:
                pass
    return DialFailed(f"this {who} left before the server welcomed it")
