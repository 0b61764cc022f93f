"""Forwarded X11 displays: one for each session, evicted by use where the range is exhausted."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.agent.agent_rig import AgentRig, agent_rig
from tests.support.deadline import DEADLINE_S
from tether.agent.ssh.xauthority import Cookie, entries

Client = asyncssh.SSHClientConnection


def free_numbers(count: int) -> range:
    """Display numbers in a row whose ports are free on both loopback addresses.

    They begin anywhere below the ports that the system gives away, so that tests which run at the
    same time do not look for the same ones.
    """
    for first in random.sample(range(1000, 26_000, count), 100):
        held = []
        try:
            for number in range(first, first + count):
                for host in ("127.0.0.1", "::1"):
                    held.append(socket.create_server((host, 6000 + number), family=_family(host)))
            return range(first, first + count)
        except OSError:
            continue
        finally:
            for sock in held:
                sock.close()
    raise AssertionError("no free ports")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@asynccontextmanager
async def screen() -> AsyncIterator[str]:
    """An X server of the client's that says hello to whoever says something; its address."""

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(12)
        writer.write(b"welcome")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1] - 6000}"


class Session:
    """A session with a display of its own."""

    def __init__(self, process: asyncssh.SSHClientProcess[str], number: int) -> None:
        self.process, self.number = process, number

    async def leave(self) -> None:
        self.process.stdin.write_eof()
        await self.process.wait()


async def show(client: Client, display: str, **more: Any) -> Session:
    process = await client.create_process(
        "echo $DISPLAY; cat", x11_forwarding=True, x11_display=display, **more
    )
    name = str(await process.stdout.readline()).strip()
    assert name.startswith("localhost:"), name
    assert name.endswith(".0"), name
    return Session(process, int(name.removeprefix("localhost:").removesuffix(".0")))


async def draw(agent: AgentRig, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What a program does: it takes the cookie, connects, and is welcomed."""
    cookie = cookies(agent)[number]
    reader, writer = await asyncio.open_connection("127.0.0.1", 6000 + number)
    protocol, data = cookie.protocol + bytes(-len(cookie.protocol) % 4), cookie.cookie
    writer.write(
        b"l\0\x0b\0\0\0"
        + len(cookie.protocol).to_bytes(2, "little")
        + len(data).to_bytes(2, "little")
        + b"\0\0"
        + protocol
        + data
    )
    assert await reader.readexactly(7) == b"welcome"
    return reader, writer


async def draw_and_leave(agent: AgentRig, number: int) -> None:
    reader, writer = await draw(agent, number)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


def cookies(agent: AgentRig) -> dict[int, Cookie]:
    found = entries(str(agent.directory / "home" / ".Xauthority"))
    return {int(entry.number): entry for entry in found}


async def forgotten(agent: AgentRig, number: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while number in cookies(agent):
            await asyncio.sleep(0.01)  # a thread writes the file


async def test_each_session_has_a_display_and_its_cookie_goes_with_it(tmp_path: Path) -> None:
    numbers = free_numbers(3)
    async with (
        agent_rig(tmp_path, displays=numbers) as agent,
        screen() as display,
        await agent.connect() as client,
    ):
        first, second = await show(client, display), await show(client, display)
        assert [first.number, second.number] == [*numbers][:2]
        assert set(cookies(agent)) == {first.number, second.number}
        assert cookies(agent)[first.number].cookie != cookies(agent)[second.number].cookie
        await draw_and_leave(agent, second.number)
        await first.leave()
        await forgotten(agent, first.number)
        assert set(cookies(agent)) == {second.number}
        assert (await show(client, display)).number == first.number


async def test_where_all_are_taken_the_one_that_was_used_least_recently_makes_room(
    tmp_path: Path,
) -> None:
    numbers = free_numbers(3)
    async with (
        agent_rig(tmp_path, displays=numbers) as agent,
        screen() as display,
        await agent.connect() as client,
        await agent.connect() as another,
    ):
        first, second, third = [await show(client, display) for _ in numbers]
        await draw_and_leave(agent, first.number)
        old = cookies(agent)[second.number].cookie
        fourth = await show(another, display)
        assert fourth.number == second.number
        assert cookies(agent)[fourth.number].cookie != old
        for session in (first, third, fourth):
            await draw_and_leave(agent, session.number)
        await second.leave()  # what was taken from it is not closed with it
        await draw_and_leave(agent, fourth.number)


async def test_what_is_drawn_on_is_evicted_last_and_goes_on(tmp_path: Path) -> None:
    numbers = free_numbers(2)
    async with (
        agent_rig(tmp_path, displays=numbers) as agent,
        screen() as display,
        await agent.connect() as client,
    ):
        first, second = await show(client, display), await show(client, display)
        _, drawing = await draw(agent, first.number)
        await draw_and_leave(agent, second.number)
        third = await show(client, display)
        assert third.number == second.number
        drawing.write(b"still here")
        await drawing.drain()
        drawing.close()


async def test_a_display_for_one_connection_takes_no_second(tmp_path: Path) -> None:
    async with (
        agent_rig(tmp_path, displays=free_numbers(1)) as agent,
        screen() as display,
        await agent.connect() as client,
    ):
        session = await show(client, display, x11_single_connection=True)
        _, first = await draw(agent, session.number)
        try:
            await asyncio.open_connection("127.0.0.1", 6000 + session.number)
        except OSError:
            refused = True
        else:
            refused = False
        assert refused
        first.close()


async def test_ports_that_others_hold_are_passed_over_and_none_is_a_refusal(
    tmp_path: Path,
) -> None:
    numbers = free_numbers(2)
    with socket.create_server(("127.0.0.1", 6000 + numbers[0])):
        async with (
            agent_rig(tmp_path, displays=numbers) as agent,
            screen() as display,
            await agent.connect() as client,
        ):
            assert (await show(client, display)).number == numbers[1]
        with socket.create_server(("127.0.0.1", 6000 + numbers[1])):
            (tmp_path / "b").mkdir()
            async with (
                agent_rig(tmp_path / "b", displays=numbers) as agent,
                await agent.connect() as client,
            ):
                done = await client.run(
                    "echo $DISPLAY.", x11_forwarding="ignore_failure", x11_display="127.0.0.1:1"
                )
                assert done.stdout == ".\n"


async def test_the_end_of_a_connection_takes_its_displays_and_cookies_along(
    tmp_path: Path,
) -> None:
    async with agent_rig(tmp_path, displays=free_numbers(2)) as agent, screen() as display:
        async with await agent.connect() as client:
            session = await show(client, display)
        await agent.end()
        await forgotten(agent, session.number)
