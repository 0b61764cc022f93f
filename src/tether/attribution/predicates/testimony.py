"""What a party tells of itself: that it ran, that its own network failed, that it missed the others.

Law: as `predicate`. A party knows itself. What it tells stands above what others conclude of it from
acknowledgements, an EOF or a silence, since those may be of something in between.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.predicates.predicate import Predicate, either, saw
from tether.attribution.predicates.streams import STALE_MS
from tether.attribution.staleness import heard_ago_s
from tether.attribution.vocabulary import SILENT_ENDS, Party, StreamEnd, Vantage

_CUT = (StreamEnd.EOF, StreamEnd.RESET)


def missed(by: Party, whom: Party) -> Predicate:
    """A party waited in vain for another one: it lived, and was not what was missing."""
    return saw(ev.NeverReturned, vantage=Vantage(str(by)), party=whom)


def cut_before_the_silence(party: Party) -> Predicate:
    """The party's stream was cut while it still heard something, and the other end's silence is longer:
    that began with the cut."""

    def check(case: Case) -> bool:
        silences = [
            silent.silence_s or 0.0
            for silent in case.all(ev.StreamEnded)
            if silent.peer is party and silent.how in SILENT_ENDS
        ]
        return any(
            heard_s + STALE_MS / 1000 <= max(silences, default=0.0)
            for cut in case.all(ev.StreamEnded)
            if str(cut.vantage) == party and cut.how in _CUT
            if (heard_s := heard_ago_s(cut, case.facts)) is not None
        )

    words = f"the {party}'s stream was cut while it heard the other end, which fell silent then"
    return Predicate(check, words, [ev.StreamEnded])


def tells_of_itself(party: Party) -> Predicate:
    """The party accounts for a silence that others ascribe to it: it was running.

    It gave the stream up itself, in its own time (one that stood still has told of that, and of a rule
    before); it was cut; its own address, route or link is what failed; or it waited for the others.
    """
    own = Vantage(str(party))
    return either(
        saw(ev.StreamEnded, vantage=own, how=SILENT_ENDS),
        cut_before_the_silence(party),
        saw(ev.AddressChanged, party=party, ours=True),
        saw(ev.RouteChanged, party=party),
        saw(ev.LinkChanged, party=party, up=False),
        saw(ev.NeverReturned, vantage=own),
    )
