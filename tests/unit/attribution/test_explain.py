"""What people read: whole sentences, whatever is known or not."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tether.attribution.causes.catalogue import CATALOGUE
from tether.attribution.disconnect import Disconnect
from tether.attribution.explain import Explanation, explain, people
from tether.attribution.vocabulary import Basis, ConnectType


def ended(cause: str, **more: object) -> Disconnect:
    return Disconnect(
        connect_type=ConnectType.AGENT_TO_CLIENT,
        cause=cause,
        basis=Basis.DECLARED,
        **more,  # type: ignore[arg-type]
    )


def test_a_failed_command() -> None:
    assert explain(ended("session.exit", exit_code=3)) == Explanation(
        title="The command or shell ended",
        sentence="The command or shell ended with exit code 3.",
        advice="Nothing needs to be done.",
    )


def test_a_stopped_workspace() -> None:
    assert explain(ended("workspace.stopped", actor="user:alice"), workspace="dev") == Explanation(
        title="The workspace was stopped",
        sentence="The workspace was stopped by alice.",
        advice="Start it again with `tether workspace start dev`.",
    )


def test_an_exit_code_of_zero_is_known() -> None:
    assert explain(ended("session.exit", exit_code=0)).sentence.endswith("exit code 0.")


@pytest.mark.parametrize("code", [*CATALOGUE, "network.gremlins"])
def test_every_cause_reads_as_sentences_with_nothing_known(code: str) -> None:
    words = explain(ended(code))
    for text in (words.sentence, words.advice):
        assert text.endswith(".")
        assert not set("{}") & set(text)
        assert "None" not in text
        assert "()" not in text
        assert "  " not in text


@given(
    st.sampled_from(list(CATALOGUE)),
    st.text(max_size=20),
    st.text(max_size=20),
    st.integers(0, 255),
)
def test_no_actor_signal_or_name_can_break_a_sentence(
    code: str, actor: str, workspace: str, exit_code: int
) -> None:
    words = explain(
        ended(code, actor=actor, exit_signal=actor, exit_code=exit_code), workspace=workspace
    )
    assert words.sentence
    assert words.advice


@pytest.mark.parametrize(
    ("actor", "words"),
    [
        ("", "somebody unknown"),
        ("user:alice", "alice"),
        ("admin:bob", "bob"),
        ("admin:", "admin"),
        ("policy:autostop", "the autostop policy"),
        ("signal:15 from pid 1 uid 0", "signal 15 from pid 1 uid 0"),
        ("middlebox", "middlebox"),
        ("kernel:oom", "kernel:oom"),
    ],
)
def test_an_actor_in_plain_words(actor: str, words: str) -> None:
    assert people(actor) == words
