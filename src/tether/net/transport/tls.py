"""A server's certificate and its key, in files that are read anew when they change.

Law: connections that are open keep what they began with; new ones get what was read last. Files that
cannot be used are refused with one line, and what was read last stays in use: an operator who is half
way through replacing a pair takes nobody's service away.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from tether.log import get_logger
from tether.net.clock import Clock

LOOK_EVERY_S = 2.0
"""How often the files' times of change are looked at: not every file system notifies of changes."""

WARN_S = 14 * 86_400.0
"""How long before its end a certificate is warned of: half of what renewal by ACME leaves (30 days)."""

_log = get_logger("tls")


class BadCertificate(ValueError):
    """A certificate or its key cannot be used; the text says which, and why."""


class CertificateFiles:
    """A certificate with its chain, and its key: two PEM files."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        clock: Clock,
        on_load: Callable[[float], None] = lambda expires_at: None,
    ) -> None:
        """Read them; `on_load` is told when the certificate runs out (unix seconds), each time.

        Raises:
            BadCertificate: they cannot be used.
        """
        self._certificate, self._key = certificate, key
        self._clock = clock
        self._on_load = on_load
        self._problem = ""
        self._seen: object = None
        self._again = asyncio.Event()
        self.context = _empty_context()
        """For the listener; new connections get what was read last."""
        self.expires_at = 0.0
        self.load()

    def load(self) -> None:
        """Read the files and put them into use.

        Raises:
            BadCertificate: they cannot be used.
        """
        self._seen = self._stamp()
        try:
            expires_at = _expiry(self._certificate)
            _load(
                _empty_context(), self._certificate, self._key
            )  # or the live one is left half done
            _load(self.context, self._certificate, self._key)
        except BadCertificate as wrong:
            self._problem = str(wrong)
            raise
        self._problem, self.expires_at = "", expires_at
        self._on_load(expires_at)
        _log.info(
            "certificate loaded",
            path=str(self._certificate),
            expires_in_days=round((expires_at - self._clock.now().wall) / 86_400.0, 1),
        )

    def warnings(self) -> list[str]:
        """What an operator should see to: sentences without paths and names."""
        told = []
        left_s = self.expires_at - self._clock.now().wall
        if left_s <= 0:
            told.append("the TLS certificate has expired")
        elif left_s < WARN_S:
            told.append(f"the TLS certificate expires in {left_s / 86_400.0:.1f} days")
        if self._problem:
            told.append("the TLS certificate's files were changed and cannot be used: see the log")
        return told

    def reload(self) -> None:
        """Have the files read anew."""
        self._again.set()

    async def follow(self) -> None:
        """Read the files anew whenever one has changed or somebody asks, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._again.wait()
            except TimeoutError:
                if self._stamp() == self._seen:
                    continue
            self._again.clear()
            try:
                self.load()
            except BadCertificate as wrong:
                _log.error("certificate not loaded", error=str(wrong))

    def _stamp(self) -> object:
        stamps: list[tuple[int, int, int] | None] = []
        for path in (self._certificate, self._key):
            try:
                now = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((now.st_mtime_ns, now.st_size, now.st_ino))
        return stamps


def _empty_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(
            certificate, key, password=lambda: b""
        )  # or OpenSSL asks at a terminal
    except (ssl.SSLError, OSError, ValueError) as wrong:
        raise BadCertificate(
            f"the key {key} does not go with the certificate {certificate}, or cannot be used: "
            f"{getattr(wrong, 'reason', None) or wrong}"
        ) from wrong


def _expiry(certificate: Path) -> float:
    from cryptography import x509

    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
    except OSError as wrong:
        raise BadCertificate(f"{certificate} cannot be read: {wrong.strerror}") from wrong
    except ValueError as wrong:
        raise BadCertificate(f"{certificate} holds no PEM certificate") from wrong
    return read.not_valid_after_utc.timestamp()
