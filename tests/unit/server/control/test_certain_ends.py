"""Which ends of control links are known to be their peers'."""

from __future__ import annotations

import pytest

from tether.attribution import evidence as ev
from tether.attribution.evidence import Evidence
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.server.control.certain_ends import TOGETHER_S, CertainEnds, LinkEnd


def ended(how: StreamEnd = StreamEnd.EOF, peer: Party = Party.AGENT) -> Evidence:
    return ev.StreamEnded(vantage=Vantage.SERVER, at=0.0, peer=peer, how=how)


GOODBYE = ev.GoodbyeSaid(
    vantage=Vantage.SERVER, at=0.0, by=Party.SERVER, cause="server.database_unavailable"
)


def note(
    ends: CertainEnds, *facts: Evidence, at: float = 0.0, whose: str = "dev", proxied: bool = False
) -> LinkEnd:
    return ends.note(facts, Party.AGENT, at=at, whose=whose, proxied=proxied)


@pytest.mark.parametrize("how", StreamEnd)
def test_a_reset_is_no_proof_of_an_end(how: StreamEnd) -> None:
    assert note(CertainEnds(), ended(how)).is_certain() is (how is StreamEnd.EOF)


def test_a_fin_behind_a_named_proxy_may_be_the_proxys() -> None:
    assert not note(CertainEnds(), ended(), proxied=True).is_certain()


def test_a_fin_after_a_goodbye_shows_nothing() -> None:
    assert not note(CertainEnds(), GOODBYE, ended()).is_certain()


@pytest.mark.parametrize("how", [StreamEnd.EOF, StreamEnd.RESET])
@pytest.mark.parametrize("after_s", [0.0, TOGETHER_S, -TOGETHER_S])
def test_links_of_several_peers_that_end_together_were_ended_in_between(
    how: StreamEnd, after_s: float
) -> None:
    ends = CertainEnds()
    first = note(ends, ended(), at=10.0)
    assert first.is_certain()
    note(ends, ended(how), at=10.0 + after_s, whose="another")
    assert not first.is_certain()


def test_links_of_one_peer_end_with_its_machine() -> None:
    ends = CertainEnds()
    first = note(ends, ended(), at=10.0)
    second = note(ends, ended(), at=10.1)
    assert first.is_certain() and second.is_certain()


def test_an_end_that_is_further_away_has_nothing_to_do_with_it() -> None:
    ends = CertainEnds()
    first = note(ends, ended(), at=10.0)
    note(ends, ended(), at=10.1 + TOGETHER_S, whose="another")
    note(ends, ended(StreamEnd.SILENT), at=10.0, whose="a silent one")
    assert first.is_certain()
