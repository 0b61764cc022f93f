"""The laboratory's own load balancer, which misbehaves on demand where no real one can be made to.

Law: the program itself is `rogue_proxy`; this only starts it and gives it orders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Literal

from tether_gauntlet.lab.middlebox.middlebox import Front, Middlebox, Place

Order = Literal[
    "cut",
    "reset",
    "half-close dialler",
    "half-close server",
    "stall",
    "flow",
    "hang-up",
    "log-in",
    "serve",
]
"""End every connection, by FIN or by RST; send FIN one way and go on the other; carry nothing, or
again; accept and hang up, or answer with a log-in page, or serve again."""


def rogue(*, lifetime_s: float | None = None) -> Middlebox:
    """A load balancer that carries bytes both ways until it is ordered to misbehave.

    Args:
        lifetime_s: seconds after which it ends each connection, busy or not.
    """
    return Middlebox(
        name="rogue",
        summary="a load balancer that misbehaves on demand",
        command=partial(_command, lifetime_s),
    )


def order(front: Front, what: Order) -> None:
    """Give it an order, and wait until it is carried out."""
    said = front.program.output().count(what.encode())
    front.program.write(what.encode() + b"\n")
    front.program.wait(
        f"{what!r} to be carried out",
        lambda: front.program.output().count(what.encode()) > said,
    )


def _command(lifetime_s: float | None, place: Place) -> Sequence[str]:
    argv = [sys.executable, "-m", "tether_gauntlet.lab.middlebox.rogue_proxy"]
    argv += [f"--route={route.port}={route.backend}" for route in place.routes]
    return [*argv, *([] if lifetime_s is None else [f"--lifetime-s={lifetime_s}"])]
