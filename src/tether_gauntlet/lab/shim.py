"""A slow link between two hosts: packets go through two TUN devices and this process, which delays them.

Law: a program of its own (`python -m tether_gauntlet.lab.shim`), for kernels without netem. Its devices,
and every route over them, go when it ends; it ends when its standard input does.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time
from ctypes import CDLL, get_errno

_TUNSETIFF, _TUN, _NO_INFO = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
LONGEST_QUEUE = 10_000
"""Packets; more are dropped, as by any router."""


def open_tun(namespace: str, device: str) -> int:
    """Make a TUN device in a namespace (a path), which this process enters and stays in."""
    descriptor = os.open(namespace, os.O_RDONLY)
    if CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(get_errno(), f"cannot enter {namespace}")
    os.close(descriptor)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TUN | _NO_INFO))
    return tun


def carry(ends: tuple[int, int], delay_s: float, jitter_s: float, loss: float) -> None:
    """Move packets between the two devices until the standard input ends."""
    waiting: list[tuple[float, int, int, bytes]] = []
    number = 0
    events = select.epoll()
    for descriptor in (*ends, sys.stdin.fileno()):
        events.register(descriptor, select.EPOLLIN)
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else -1
        for descriptor, _ in events.poll(timeout):
            if descriptor == sys.stdin.fileno():
                return
            other = ends[1] if descriptor == ends[0] else ends[0]
            for packet in arrived(descriptor):
                if random.random() >= loss and len(waiting) < LONGEST_QUEUE:
                    number += 1
                    due = time.monotonic() + delay_s + random.uniform(0, jitter_s)
                    heapq.heappush(waiting, (due, number, other, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, other, packet = heapq.heappop(waiting)
            try:
                os.write(other, packet)
            except OSError:  # the device is down, or its queue is full: a router would drop it too
                pass


def arrived(descriptor: int, at_most: int = 64) -> list[bytes]:
    packets: list[bytes] = []
    try:
        while len(packets) < at_most:
            packets.append(os.read(descriptor, 65536))
    except BlockingIOError:
        pass
    return packets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--end", action="append", required=True, metavar="NAMESPACE:DEVICE")
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--jitter-ms", type=float, default=0, help="reorders as well")
    parser.add_argument("--loss-percent", type=float, default=0)
    asked = parser.parse_args()
    first, second = (open_tun(*end.split(":")) for end in asked.end)
    print("ready", flush=True)
    carry((first, second), asked.delay_ms / 1000, asked.jitter_ms / 1000, asked.loss_percent / 100)


if __name__ == "__main__":
    main()
