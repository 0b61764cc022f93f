"""Fuzz the short way through asyncssh against asyncssh's own: same bytes in, same events out.

    python scripts/fuzz_ssh.py [--inputs 1000000] [--seed 0]

Stops at the first input that the two handle differently, and prints its seed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.agent.ssh_ways import Input, both, options


async def fuzz(inputs: int, seed: int) -> int:
    shared, begun = options(), time.monotonic()
    for number in range(seed, seed + inputs):
        stock, short = await both(Input(number), shared)
        if stock != short:
            print(f"seed {number} is handled differently")
            for one, other in zip_longest([*stock[0], stock[1]], [*short[0], short[1]]):
                if one != other:
                    print(f"asyncssh: {one!s:.400}\nshort:    {other!s:.400}")
            return 1
        if (number + 1) % 10_000 == 0:
            print(f"{number + 1 - seed} inputs, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{inputs} inputs from seed {seed}: the same events out")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    sys.exit(asyncio.run(fuzz(chosen.inputs, chosen.seed)))
