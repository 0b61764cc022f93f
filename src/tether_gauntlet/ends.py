"""What the log says of ends: which of them are no disconnects, and which were logged twice.

Law: pure, and knows nothing of the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tether_gauntlet.lab.stack import Row


def duplicates(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Connections whose end one program logged more than once at one site.

    Args:
        lines: the program's JSON log lines; those that carry the disconnect fields are ends.
    """
    ends = Counter(
        (line["connection_id"], line["event"], line.get("attach_id", ""))
        for line in lines
        if "disconnect_reason" in line and "connection_id" in line
    )
    return sorted({connection for (connection, _, _), count in ends.items() if count > 1})


def came_and_left(row: Row, links: Mapping[str, str]) -> bool:
    """Whether the end of a client's link that was made after the fault is no disconnect.

    It is none where the client left the link in order and for good: it had come to report, or was a
    command of the scenario's own. A client that leaves a link and makes another one has lost that link.

    Args:
        row: the link's.
        links: connection id -> run of the client, of all links that there were, the oldest first.
    """
    if row["connect_type"] != "client_to_server" or row["disconnect_cause"] != "client.closed":
        return False
    run = links.get(row["id"])
    return run is None or [link for link, of in links.items() if of == run][-1] == row["id"]
