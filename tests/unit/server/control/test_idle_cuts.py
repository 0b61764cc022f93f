"""One cut tells nothing of an idle time; the second of a run that did not outlive the same does."""

from __future__ import annotations

from typing import Any

from tests.support.clock import EPOCH
from tether.attribution import evidence as ev
from tether.attribution.vocabulary import Party, StreamEnd, Vantage
from tether.server.control.idle_cuts import MOST, IdleCuts

RUN = ("token-1", "run-1")


def cut(idle_s: float | None, how: StreamEnd = StreamEnd.RESET, **more: Any) -> ev.StreamEnded:
    seen: dict[str, Any] = {"vantage": Vantage.SERVER, "peer": Party.AGENT, **more}
    return ev.StreamEnded(at=EPOCH, how=how, idle_s=idle_s, **seen)


def told(cuts: int, idle_s: float) -> ev.CutWhenIdle:
    return ev.CutWhenIdle(
        vantage=Vantage.SERVER, at=EPOCH, party=Party.AGENT, cuts=cuts, idle_s=idle_s
    )


class Links:
    """The links of one run, one after the other."""

    def __init__(self) -> None:
        self.cuts, self.made = IdleCuts(), 0

    def ended(
        self, *facts: ev.StreamEnded, outlived_s: float = 0.1, run: tuple[str, str] = RUN
    ) -> tuple[ev.CutWhenIdle | None, tuple[str, ...]]:
        self.made += 1
        return self.cuts.ended(
            run, f"link-{self.made}", Party.AGENT, facts, outlived_s=outlived_s, at=EPOCH
        )


def test_the_first_cut_tells_nothing_and_is_told_with_the_second() -> None:
    links = Links()
    assert links.ended(cut(12.2), outlived_s=15.0) == (None, ())
    assert links.ended(cut(12.3)) == (told(2, 12.3), ("link-1",))
    assert links.ended(cut(12.1, StreamEnd.EOF)) == (told(3, 12.1), ())


def test_a_link_that_had_outlived_such_a_silence_was_cut_for_something_else() -> None:
    links = Links()
    links.ended(cut(12.2))
    assert links.ended(cut(12.2), outlived_s=12.0) == (None, ())


def test_cuts_after_different_times_are_no_idle_time() -> None:
    links = Links()
    links.ended(cut(12.2))
    assert links.ended(cut(7.0)) == (None, ())


def test_another_end_another_run_and_a_stream_that_was_hardly_idle_begin_anew() -> None:
    links = Links()
    links.ended(cut(12.2))
    for other in (
        cut(12.2, StreamEnd.CLOSED),
        cut(12.2, StreamEnd.SILENT),
        cut(None),
        cut(3.0),
        cut(12.2, vantage=Vantage.AGENT, peer=Party.SERVER),
    ):
        assert links.ended(other) == (None, ())
        assert links.ended(cut(12.2)) == (None, ())
    assert links.ended(cut(12.2), run=("token-1", "run-2")) == (None, ())


def test_a_run_whose_links_are_cut_is_pinged_before_they_are_idle_for_so_long() -> None:
    links = Links()
    links.ended(cut(12.0))
    assert links.cuts.ping_every_s(RUN, 15.0) == 15.0
    links.ended(cut(12.0))
    assert links.cuts.ping_every_s(RUN, 15.0) == 6.0
    assert links.cuts.ping_every_s(RUN, 2.5) == 2.5
    assert links.ended(cut(6.0)) == (told(3, 6.0), ())
    assert links.cuts.ping_every_s(RUN, 15.0) == 3.0
    links.ended(cut(4.0), outlived_s=2.0)
    assert links.cuts.ping_every_s(RUN, 15.0) == 2.0
    links.ended(cut(None))
    assert links.cuts.ping_every_s(RUN, 15.0) == 15.0


def test_only_the_last_runs_are_remembered() -> None:
    links = Links()
    links.ended(cut(12.0))
    for number in range(MOST):
        links.ended(cut(12.0), run=("token-2", f"run-{number}"))
    assert links.ended(cut(12.0)) == (None, ())
