"""Terminals as a page in a browser shows them: sealed end to end, recorded like any other."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.deadline import DEADLINE_S
from tests.support.e2e.page import page
from tests.support.e2e.stack import Stack
from tether.attribution.evidence import GoodbyeSaid
from tether.attribution.vocabulary import Party
from tether.protocol.terminal.messages import Attached, AttachEnded, Detach, Init

pytestmark = [pytest.mark.real, pytest.mark.long]

SCREEN = Init(rows=24, cols=80)


async def test_a_page_types_sees_and_hears_why_its_terminal_ended(stack: Stack) -> None:
    with stack.one_new_row() as row:
        async with page(stack, SCREEN) as shown:
            attached = await shown.until(lambda: shown.heard(Attached))
            assert attached.created
            shown.say(b"echo he''llo; exit 7\n")
            await shown.until(lambda: b"hello" in shown.shown)
            ended = await shown.until(lambda: shown.heard(AttachEnded))
            assert (ended.cause, ended.exit_code) == ("session.exit", 7)
    told = (row["type"], row["disconnect_cause"], row["exit_code"], row["connection_method"])
    assert told == ("reconnecting_pty", "session.exit", 7, "derp")


async def test_a_page_that_detaches_finds_its_terminal_again(stack: Stack) -> None:
    with stack.one_new_row() as row:
        async with page(stack, SCREEN) as shown:
            terminal = (await shown.until(lambda: shown.heard(Attached))).id
            shown.say(b"marker=st''ill-here\n")
            shown.say(Detach())
            ended = await shown.until(lambda: shown.heard(AttachEnded))
            assert (ended.cause, ended.terminal_lives) == ("session.detached", True)
    assert row["disconnect_cause"] == "session.detached"
    with stack.one_new_row() as row:
        async with page(stack, Init(rows=24, cols=80, id=terminal)) as shown:
            assert not (await shown.until(lambda: shown.heard(Attached))).created
            shown.say(b"echo $marker; exit\n")
            await shown.until(lambda: b"still-here" in shown.shown)
            await shown.until(lambda: shown.heard(AttachEnded))
    assert row["disconnect_cause"] == "session.exit"


async def test_a_page_with_another_key_than_was_announced_is_refused_and_attributed(
    stack: Stack,
) -> None:
    other = "x25519 " + "A" * 43 + "="
    with stack.one_new_row() as row:
        async with page(stack, SCREEN, announce=other) as shown:
            assert shown.running is not None
            cell = await asyncio.wait_for(asyncio.shield(shown.running), DEADLINE_S)
            said = [fact for fact in cell.facts if isinstance(fact, GoodbyeSaid)]
            assert [(fact.by, fact.cause) for fact in said] == [
                (Party.AGENT, "client.protocol_error")
            ]
    assert row["disconnect_cause"] == "client.protocol_error"


async def test_a_key_that_is_none_is_denied_in_words(stack: Stack) -> None:
    with pytest.raises(PermissionError, match="not a channel's key"):
        async with page(stack, SCREEN, announce="ssh-ed25519 AAAA"):
            pass
