"""The client's configuration: which server, which token, and where a user's files are.

Law: a leaf that every program may read. Values are parsed once and frozen; an error is one sentence
that names the key or the file and says what to do. A token never reaches an error or a `repr`, and a
saved token is never sent to another server than the one it was saved for.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit


class ConfigError(Exception):
    """The configuration cannot be used; the text says what to do about it."""


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Where the client keeps its files, below one directory."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "config.json"

    @property
    def ssh(self) -> Path:
        return self.directory / "ssh"

    @property
    def device_key(self) -> Path:
        return self.device_key_of("ed25519")

    def device_key_of(self, kind: str) -> Path:
        """The device's key of another type, a `KeyType`; its public half is beside it."""
        return self.ssh / f"id_{kind}"

    @property
    def certificate(self) -> Path:
        return self.ssh / "id_ed25519-cert.pub"

    @property
    def known_hosts(self) -> Path:
        return self.ssh / "known_hosts"

    @property
    def pins(self) -> Path:
        return self.ssh / "known_hosts.json"

    @property
    def ssh_config(self) -> Path:
        return self.ssh / "config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Who to talk to, and as whom."""

    url: str
    token: str = field(repr=False)
    insecure_http: bool = False
    """Whether its user has said that a server on another machine may be reached without TLS."""
    ca_file: str = ""
    """Certificate authorities that are trusted besides the system's; "" for none."""

    @property
    def control_url(self) -> str:
        """Where control links are dialled."""
        return control_url(self.url)


def control_url(server_url: str) -> str:
    """Where control links of the server at `server_url` are dialled."""
    return f"ws{server_url.removeprefix('http')}/api/v1/control"


def is_token(text: str) -> bool:
    """Whether `text` is made of what tokens are made of, and may stand in a header."""
    return bool(text) and all(" " < character < "\x7f" for character in text)


def client_files(env: Mapping[str, str]) -> ClientFiles:
    """The user's directory for this client; `TETHER_CONFIG_DIR` moves it."""
    if given := env.get("TETHER_CONFIG_DIR"):
        return ClientFiles(Path(given).expanduser().absolute())
    import platformdirs  # not needed, and not paid for, where the directory is given

    return ClientFiles(Path(platformdirs.user_config_dir("tether", appauthor=False)))


def load(env: Mapping[str, str]) -> ClientConfig:
    """The configuration in force: `TETHER_URL` and `TETHER_TOKEN` over the saved file.

    Raises:
        ConfigError: no server or no token is known, or a value makes no sense.
    """
    saved = load_saved(client_files(env))
    url = _base_url(env["TETHER_URL"], "TETHER_URL") if env.get("TETHER_URL") else ""
    token = env.get("TETHER_TOKEN", "").strip()
    if url and not token and saved is not None and saved.url != url:
        raise ConfigError(
            f"TETHER_URL is {url}, but the saved token belongs to {saved.url}: "
            f"set TETHER_TOKEN too, or run `tether login {url}`"
        )
    url = url or (saved.url if saved else "")
    token = token or (saved.token if saved else "")
    if not url:
        raise ConfigError("no server is configured: run `tether login URL`, or `tether up` for one")
    if not token:
        raise ConfigError(f"no token for {url}: run `tether login {url}`")
    if not is_token(token):
        raise ConfigError("the token holds characters that no token has: run `tether login` again")
    same = saved is not None and saved.url == url
    allowed = insecure_http_allowed(env) or (same and saved is not None and saved.insecure_http)
    server_url(url, insecure_http=allowed)
    if is_clear_text(url):
        warn_of_clear_text(url)
    return ClientConfig(url=url, token=token, insecure_http=allowed, ca_file=ca_file(env, saved))


def insecure_http_allowed(env: Mapping[str, str]) -> bool:
    """Whether `TETHER_INSECURE_HTTP` allows what `--insecure-http` does."""
    return env.get("TETHER_INSECURE_HTTP", "").lower() in ("1", "true", "yes", "on")


def ca_file(env: Mapping[str, str], saved: ClientConfig | None = None) -> str:
    """Certificate authorities that are trusted besides the system's: `TETHER_CA_FILE`, or what was
    saved; "" for none."""
    return env.get("TETHER_CA_FILE", "") or (saved.ca_file if saved is not None else "")


def warn_of_clear_text(url: str) -> None:
    """One loud line on stderr, for each command that does it."""
    print(
        f"tether: WARNING: {url} is not encrypted: whoever is on the way can read your token and act"
        " as you (use https://)",
        file=sys.stderr,
    )


def load_saved(files: ClientFiles) -> ClientConfig | None:
    """What `tether login` saved; None if nothing.

    Raises:
        ConfigError: the file cannot be read or is not what we wrote.
    """
    path = files.config
    try:
        saved = json.loads(path.read_bytes())
        return ClientConfig(
            url=_base_url(str(saved["url"]), "url"),
            token=str(saved["token"]),
            insecure_http=saved.get("insecure_http") is True,
            ca_file=str(saved.get("ca_file", "")),
        )
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise ConfigError(f"{path} cannot be read: {wrong.strerror}") from wrong
    except (ValueError, KeyError, TypeError, ConfigError) as wrong:
        raise ConfigError(
            f"{path} is damaged ({wrong}): run `tether login URL` to write it anew"
        ) from wrong


def save(files: ClientFiles, config: ClientConfig) -> None:
    """Keep `config` for later commands, readable by the user alone."""
    kept: dict[str, object] = {"url": config.url, "token": config.token}
    if config.insecure_http:
        kept["insecure_http"] = True
    if config.ca_file:
        kept["ca_file"] = config.ca_file
    write_atomically(files.config, json.dumps(kept, indent=2) + "\n")


def forget(files: ClientFiles) -> bool:
    """Delete what `tether login` saved; False if there was nothing."""
    try:
        files.config.unlink()
    except FileNotFoundError:
        return False
    return True


def server_url(text: str, key: str = "the server's URL", *, insecure_http: bool = False) -> str:
    """`text` as the base URL of a server, without a slash at its end.

    Raises:
        ConfigError: it is no http or https URL, or one that sends the token in clear text to another
            machine, which only `insecure_http` allows.
    """
    url = _base_url(text, key)
    if is_clear_text(url) and not insecure_http:
        raise ConfigError(
            f"{url} would send your token in clear text over the network: use https://, or say"
            " --insecure-http (or set TETHER_INSECURE_HTTP=1) where the network is yours alone"
        )
    return url


_LOOPBACK = re.compile(r"localhost|.+\.localhost|::1|127(\.\d{1,3}){3}")
"""Names and addresses that never leave this machine (RFC 6761 section 6.3, RFC 1122 3.2.1.3)."""


def is_clear_text(url: str) -> bool:
    """Whether what is sent to `url` can be read by whoever is on the way."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "ws") and not _LOOPBACK.fullmatch(parts.hostname or "")


def _base_url(text: str, key: str) -> str:
    """Raises `ConfigError` where `text` is no http or https URL."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{key} must be an http:// or https:// URL, such as https://tether.example.com, "
            f"not {text[:80]!r}"
        )
    return url


def make_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in `path`; where there is no such file, it is made with what `make` returns.

    Of several that do so at once one makes the file, and all of them get what it holds. It is written
    whole or not at all, is on the disk before it can be seen, and is its owner's alone (mode 0600).

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        pass
    candidate = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    write_atomically(candidate, make(), durable=True)
    try:
        os.link(candidate, path)  # fails if the file is there, as a rename does not
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(candidate, path)
    candidate.unlink(missing_ok=True)
    return path.read_bytes()


@contextlib.contextmanager
def unless_read_only() -> Iterator[None]:
    """For what need not be written: a directory that cannot be written to (a container's read-only home,
    another user's) keeps what it has."""
    try:
        yield
    except OSError as wrong:
        if wrong.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def write_atomically(
    path: Path, text: str | bytes, mode: int = 0o600, *, durable: bool = False
) -> None:
    """Replace `path` by `text`: readers see the old file or the new one, never a part.

    Directories that are missing are made for the user alone. `durable` waits until the disk has the
    text, so that a power failure leaves no empty file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # By hand, not with tempfile: its imports would cost every `ssh` some milliseconds.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text.encode() if isinstance(text, str) else text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
