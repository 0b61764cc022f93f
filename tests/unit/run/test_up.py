"""`tether up`: its choices. The whole of it runs in tests/e2e/test_up.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tether.client.errors import Failure
from tether.config import ClientConfig, ClientFiles, load_saved, save
from tether.run.starting import CannotStart
from tether.run.up import choose_listen, configure_client, url_of

MINE = ClientConfig(url="http://127.0.0.1:7080", token="admin")


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that somebody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientFiles:
    monkeypatch.setenv("TETHER_CONFIG_DIR", str(tmp_path))
    monkeypatch.delenv("TETHER_URL", raising=False)
    return ClientFiles(tmp_path)


def free() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_what_is_told_is_used_or_refused(taken: str) -> None:
    given = free()
    assert choose_listen(given, "") == given
    with pytest.raises(Failure, match="cannot be listened at"):
        choose_listen(taken, "")


def test_the_port_of_last_time_is_used_again_unless_it_is_taken(taken: str) -> None:
    remembered = free()
    assert choose_listen("", remembered) == remembered
    assert choose_listen("", taken) != taken


@pytest.mark.parametrize(
    ("given", "sentence"), [("7080", "write HOST:PORT"), ("127.0.0.1:0", "names a port")]
)
def test_what_is_no_address_is_refused(given: str, sentence: str) -> None:
    with pytest.raises(CannotStart, match=sentence):
        choose_listen(given, "")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("box:80", "http://box:80"),
    ],
)
def test_this_machine_reaches_a_server_that_listens_everywhere(listen: str, url: str) -> None:
    assert url_of(listen) == url


def test_a_client_that_points_nowhere_is_pointed_here(files: ClientFiles) -> None:
    assert configure_client(MINE, "") == ""
    assert load_saved(files) == MINE


def test_a_client_that_pointed_here_follows(files: ClientFiles) -> None:
    save(files, ClientConfig(url="http://127.0.0.1:5", token="old"))
    assert configure_client(MINE, "http://127.0.0.1:5") == ""
    assert load_saved(files) == MINE


def test_a_client_that_points_elsewhere_is_left_alone_and_told_how_to_switch(
    files: ClientFiles,
) -> None:
    other = ClientConfig(url="https://work.example", token="t")
    save(files, other)
    note = configure_client(MINE, "")
    assert "Your client uses https://work.example" in note
    assert f"tether login {MINE.url}" in note
    assert load_saved(files) == other


def test_a_damaged_client_configuration_does_not_stop_us(files: ClientFiles) -> None:
    files.config.write_text("{")
    assert "is damaged" in configure_client(MINE, "")
