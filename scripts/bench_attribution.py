"""How long one judgement takes: every example of the rule table, in microseconds of CPU time.

Law: measures only. `python scripts/bench_attribution.py [--rounds N]`; it exits 1 where the slowest
example takes longer than the design allows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from tether.attribution.classify import classify
from tether.attribution.examples.table import EXAMPLES
from tether.attribution.rules.table import RULES

ALLOWED_US = 50.0
CALLS = 50


def best_of(rounds: int) -> list[tuple[float, str]]:
    """Rule and microseconds of each example, slowest first: the best of `rounds` rounds."""
    figures = []
    for rule, case in zip(RULES, EXAMPLES, strict=True):
        classify(case.connect_type, case.facts)  # the first call of a kind fills the table's cache
        taken = []
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(CALLS):
                classify(case.connect_type, case.facts)
            taken.append((time.process_time() - began) / CALLS * 1e6)
        figures.append((min(taken), rule.name))
    return sorted(figures, reverse=True)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    figures = best_of(parser.parse_args().rounds)
    times = [us for us, _ in figures]
    print(
        f"{len(RULES)} rules, one example each; microseconds a judgement (allowed {ALLOWED_US:.0f})"
    )
    print(f"median {statistics.median(times):.1f}, slowest {times[0]:.1f}")
    for us, name in figures[:10]:
        print(f"  {us:7.1f}  {name}")
    return 0 if times[0] <= ALLOWED_US else 1


if __name__ == "__main__":
    sys.exit(main())
