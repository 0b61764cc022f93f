"""The laboratory's own certificate authority, and certificates for middleboxes.

Law: made anew for each laboratory, never used outside it. What has expired did so a day ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tether_gauntlet.lab.building import Lab

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path
    both: Path
    """Certificate and key in one file, as HAProxy takes them."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates; a host that is given `file` trusts them."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    name: x509.Name

    @classmethod
    def of(cls, lab: Lab) -> Authority:
        """A new authority, whose files lie in the laboratory's directory."""
        directory = lab.directory / "certificates"
        directory.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(directory, key, _named("the laboratory's authority"))
        usage = x509.BasicConstraints(ca=True, path_length=0)
        builder = made._begin(made.name, key.public_key(), datetime.now(UTC) + _DAY)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
        made.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return made

    @property
    def file(self) -> Path:
        """Its own certificate, for `SSL_CERT_FILE`."""
        return self.directory / "authority.pem"

    def issue(self, host: str, *, expired: bool = False) -> CertificateFiles:
        """A certificate for a host's name."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = datetime.now(UTC) + (-_DAY if expired else _DAY)
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = self._begin(_named(host), key.public_key(), until)
        signed = builder.add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        stem = f"{host}-expired" if expired else host
        pair = CertificateFiles(
            *(self.directory / f"{stem}{end}" for end in (".crt", ".key", ".pem"))
        )
        public = signed.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pair.certificate.write_bytes(public)
        pair.key.write_bytes(private)
        pair.both.write_bytes(public + private)
        return pair

    def _begin(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 30 * _DAY)
            .not_valid_after(until)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
