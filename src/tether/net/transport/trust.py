"""Whose certificates this process believes when it dials: the system's authorities, and one file more.

Law: one context for all that is dialled, because to load a system's certificates takes longer than a
handshake. `TETHER_CA_FILE`, or what `tether login --ca-file` saved, adds authorities; nothing switches
the check off.
"""

from __future__ import annotations

import os
import ssl
from functools import cache

from tether.config import ConfigError, ca_file, client_files, load_saved


def client_context() -> ssl.SSLContext:
    """The context for every TLS connection that this process opens.

    Raises:
        ConfigError: the file of additional authorities cannot be used.
    """
    path = ca_file(os.environ)
    return _context(path or ca_file(os.environ, load_saved(client_files(os.environ))))


@cache
def _context(path: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if path:
        try:
            context.load_verify_locations(path)
        except (OSError, ssl.SSLError) as wrong:
            why = (
                wrong.strerror if not isinstance(wrong, ssl.SSLError) else "it holds no certificate"
            )
            raise ConfigError(f"the CA file {path} cannot be used: {why}") from wrong
    return context
