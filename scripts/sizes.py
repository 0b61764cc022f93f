"""Prints how large the modules are: a hint for people, no rule.

Law: reads the source, changes nothing, never fails.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

SRC = Path(__file__).resolve().parent.parent / "src" / "tether"


def main() -> None:
    """The median, and the ten longest."""
    sizes = {path: len(path.read_text().splitlines()) for path in SRC.rglob("*.py")}
    modules = {path: lines for path, lines in sizes.items() if path.name != "__init__.py"}
    print(
        f"{len(modules)} modules, {sum(modules.values())} lines, median {median(modules.values()):.0f}"
    )
    for path, lines in sorted(modules.items(), key=lambda entry: -entry[1])[:10]:
        print(f"{lines:6} {path.relative_to(SRC)}")


if __name__ == "__main__":
    main()
