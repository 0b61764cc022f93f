"""A plugin of pytest: every connection and channel of asyncssh takes the short way.

    pytest -p tests.support.agent.upstream_short_way

It puts the short way's classes between asyncssh's own ones, for asyncssh's own tests.
`scripts/test_asyncssh.sh` runs them, and lists what is left out and why.
"""

from __future__ import annotations

from typing import Any, Generic

from asyncssh import channel, connection
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection

from tether.agent.ssh.fast_path import FastChannel, FastConnection


def _put_between(base: type, between: Any, *kinds: Any) -> None:
    for kind in kinds:
        kind.__bases__ = tuple(between if one is base else one for one in kind.__bases__)
        assert kind.__mro__.index(between) < kind.__mro__.index(base)


_put_between(
    SSHConnection, FastConnection, connection.SSHClientConnection, connection.SSHServerConnection
)
_put_between(
    SSHChannel,
    FastChannel,
    channel.SSHClientChannel,
    channel.SSHServerChannel,
    channel.SSHForwardChannel,
)
assert Generic in channel.SSHClientChannel.__bases__
