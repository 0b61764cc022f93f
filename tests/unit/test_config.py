"""The client's configuration: precedence, errors, and how files are written."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tether.config import (
    ClientConfig,
    ClientFiles,
    ConfigError,
    client_files,
    forget,
    load,
    load_saved,
    save,
    server_url,
    write_atomically,
)

SAVED = ClientConfig(url="https://one.example", token="tether_user_one")


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"TETHER_CONFIG_DIR": str(tmp_path / "c"), **more}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(client_files(env(tmp_path)), SAVED)
    assert load(env(tmp_path)) == SAVED


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    files = client_files(env(tmp_path))
    save(files, SAVED)
    assert stat.S_IMODE(files.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    save(client_files(env(tmp_path)), SAVED)
    both = env(tmp_path, TETHER_URL="https://two.example:8080/", TETHER_TOKEN="t2")
    assert load(both) == ClientConfig(url="https://two.example:8080", token="t2")
    assert load(env(tmp_path, TETHER_TOKEN="t2")) == ClientConfig(url=SAVED.url, token="t2")


def test_a_saved_token_is_never_sent_to_another_server(tmp_path: Path) -> None:
    save(client_files(env(tmp_path)), SAVED)
    with pytest.raises(ConfigError, match=r"the saved token belongs to https://one\.example"):
        load(env(tmp_path, TETHER_URL="https://two.example"))


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no server is configured: run `tether login URL`"):
        load(env(tmp_path))
    with pytest.raises(ConfigError, match="no token for http://a: run `tether login http://a`"):
        load(env(tmp_path, TETHER_URL="http://a"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "ftp://x", "token": "t"}', '{"url": 1}'])
def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, text: str) -> None:
    files = client_files(env(tmp_path))
    write_atomically(files.config, text)
    with pytest.raises(ConfigError, match="is damaged"):
        load_saved(files)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tether.example.com",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://u:p@x",
        "https://x?q",
    ],
)
def test_what_is_no_server_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be an http:// or https:// URL"):
        server_url(text)


def test_the_control_link_has_the_scheme_of_the_server() -> None:
    urls = [ClientConfig(url=url, token="t").control_url for url in ("http://a:1", "https://b/x")]
    assert urls == ["ws://a:1/api/v1/control", "wss://b/x/api/v1/control"]


def test_a_token_does_not_show_in_a_repr() -> None:
    assert "tether_user_one" not in repr(SAVED)


def test_a_token_with_a_line_break_is_refused(tmp_path: Path) -> None:
    given = env(tmp_path, TETHER_URL="http://a", TETHER_TOKEN="a\nX-Evil: 1")
    with pytest.raises(ConfigError, match="characters that no token has"):
        load(given)


def test_logging_out_twice_is_no_error(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    save(files, SAVED)
    assert (forget(files), forget(files)) == (True, False)


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\udcff")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    files = ClientFiles(tmp_path)
    save(files, SAVED)
    assert json.loads(files.config.read_text()) == {"url": SAVED.url, "token": SAVED.token}


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:7080",
        "http://dev.localhost",
        "http://127.0.0.1:7080",
        "http://127.8.0.1",
        "http://[::1]:7080",
        "https://tether.example.com",
    ],
)
def test_what_nobody_can_read_needs_no_leave(url: str) -> None:
    assert server_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://tether.example.com",
        "http://10.0.0.1:7080",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0:7080",
        "http://[::]:7080",
    ],
)
def test_a_token_in_clear_text_needs_leave(url: str) -> None:
    with pytest.raises(ConfigError, match="in clear text over the network"):
        server_url(url)
    assert server_url(url, insecure_http=True) == url


def test_the_leave_is_saved_for_one_server_and_warned_of_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"TETHER_CONFIG_DIR": str(tmp_path)}
    here = ClientConfig(url="http://10.0.0.1:7080", token="t", insecure_http=True)
    save(client_files(env), here)
    assert load(env) == here
    assert "WARNING: http://10.0.0.1:7080 is not encrypted" in capsys.readouterr().err
    elsewhere = {**env, "TETHER_URL": "http://10.0.0.2:7080", "TETHER_TOKEN": "t"}
    with pytest.raises(ConfigError, match="in clear text"):
        load(elsewhere)
    allowed = {**elsewhere, "TETHER_INSECURE_HTTP": "1"}
    assert load(allowed).url == "http://10.0.0.2:7080"


def test_a_client_of_before_that_sent_its_token_in_clear_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"url": "http://10.0.0.1:7080", "token": "t"}')
    with pytest.raises(ConfigError, match="--insecure-http"):
        load({"TETHER_CONFIG_DIR": str(tmp_path)})
