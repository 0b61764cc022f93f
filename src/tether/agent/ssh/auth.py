"""Who is let in: from an offered key or certificate, and what the agent trusts, to a decision.

Law: pure: no asyncssh, no clock, no I/O. The caller parses what was offered and passes `now`. Every
refusal has the word that the record keeps and the sentence that the user reads. A refused certificate
says nothing about the bare key in it: programs offer both, one after the other.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass

from tether.attribution.vocabulary import AccessRefusal

MAX_REFUSALS = 6
"""Refused credentials after which a connection is ended, as many as OpenSSH allows."""

_COME_AGAIN = "connect through `tether ssh` or `tether config-ssh`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What an OpenSSH user certificate says. Times are unix seconds."""

    ca: bytes
    """The public key of the authority that signed it, in wire form."""
    is_user: bool
    key_id: str
    principals: tuple[str, ...]
    valid_after: float
    valid_before: float
    source_addresses: tuple[str, ...] = ()
    """Networks that it is limited to; () for anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a client offered: a bare key (wire form), or a certificate for one."""

    public_key: bytes = b""
    certificate: Certificate | None = None
    unreadable: str = ""
    """Why it could not be read; "" where it could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What one tunnel's offer and the agent's settings vouch for."""

    announced: tuple[bytes, ...]
    """The public keys that the server announced with the tunnel, in wire form."""
    ca: bytes
    """The server's user CA, in wire form; b"" trusts no certificate."""
    user: str
    workspace: str
    workspace_id: str
    client_ip: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Let in; `method` is "publickey" or "certificate"."""

    method: str


@dataclass(frozen=True, slots=True)
class AuthenticationRefused:
    """Not let in. `detail` is for the record, `sentence` for the user."""

    why: AccessRefusal
    detail: str
    sentence: str


Decision = Accepted | AuthenticationRefused


def wire_form(line: str) -> bytes:
    """The key in an OpenSSH public key line; b"" where there is none."""
    words = line.split()
    try:
        return base64.b64decode(words[1], validate=True) if len(words) > 1 else b""
    except (binascii.Error, ValueError):
        return b""


def decide(credential: Credential, trust: Trust, now: float) -> Decision:
    """Whether one offered credential lets the client in.

    Args:
        credential: what was offered. That the client holds the private key is checked by the caller.
        trust: what is vouched for.
        now: wall clock, unix seconds.
    """
    if credential.unreadable:
        return _unknown(credential.unreadable)
    if credential.certificate is not None:
        return _decide_certificate(credential.certificate, trust, now)
    if credential.public_key in trust.announced:
        return Accepted("publickey")
    return _unknown("the key is not one that the server announced")


def _decide_certificate(certificate: Certificate, trust: Trust, now: float) -> Decision:
    if not trust.ca or certificate.ca != trust.ca:
        return _unknown("the certificate is signed by an authority that the agent does not trust")
    if not certificate.is_user:
        return _unknown("the certificate is for a host, not for a user")
    # No principals would mean "any" to OpenSSH; our server names the workspace in every one.
    if trust.workspace_id not in certificate.principals:
        return AuthenticationRefused(
            AccessRefusal.WRONG_WORKSPACE,
            f"issued for {', '.join(certificate.principals) or 'no workspace'}",
            f"this certificate is for another workspace than {trust.workspace}: {_COME_AGAIN}",
        )
    if certificate.key_id != f"user:{trust.user}":
        return AuthenticationRefused(
            AccessRefusal.WRONG_USER,
            f"issued for {certificate.key_id or 'nobody'}, the tunnel is of user:{trust.user}",
            f"this certificate is for another user than {trust.user}: {_COME_AGAIN}",
        )
    if now < certificate.valid_after:
        return AuthenticationRefused(
            AccessRefusal.CERTIFICATE_NOT_YET_VALID,
            f"valid in {certificate.valid_after - now:.0f} s",
            "this certificate is not valid yet: compare the clocks of this machine, the server "
            "and the workspace",
        )
    if now >= certificate.valid_before:
        return AuthenticationRefused(
            AccessRefusal.CERTIFICATE_EXPIRED,
            f"expired {now - certificate.valid_before:.0f} s ago",
            "this certificate has expired: connect again to get a fresh one",
        )
    if certificate.source_addresses and not _within(trust.client_ip, certificate.source_addresses):
        return _unknown(f"the certificate is not for use from {trust.client_ip or 'this address'}")
    return Accepted("certificate")


def _within(address: str, networks: tuple[str, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in ipaddress.ip_network(network) for network in networks)


def _unknown(detail: str) -> AuthenticationRefused:
    return AuthenticationRefused(
        AccessRefusal.UNKNOWN_KEY,
        detail,
        f"the server does not vouch for this key: {_COME_AGAIN}",
    )


UNPROVEN = _unknown("the client could not prove that it holds the key")
"""A good credential with a bad signature: somebody else's."""
