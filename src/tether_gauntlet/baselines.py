"""What simpler systems would have said about the same end, for comparison.

Law: pure. Each baseline is given what it would have seen in the same run, and answers in the public
reasons. It knows no finer ones, so the truth is compared in those, too. Three of them:

`errno`     the error of the socket and nothing else, which is what most programs log.
`original`  the established system's classifier and site rules, on the same facts: the agent's own
            context first, then whether an error came back; exit codes as reasons; shutdown overrides.
`openssh`   the log of a real `sshd` that served a second session through the same fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tether.attribution.vocabulary import COARSE, Reason
from tether_gauntlet.lab.stack import Row
from tether_gauntlet.scenario import Truth


@dataclass(frozen=True, slots=True)
class Answer:
    """What a baseline says. A `reason` outside the vocabulary is free text, as it would be logged."""

    reason: str
    initiator: str
    expected: bool

    def scored(self, truth: Truth) -> dict[str, Any]:
        """The answer as the report has it."""
        coarse = str(COARSE[Reason(truth.reason)])
        # whether the program ended or the client closed it: no baseline can tell, none is blamed
        same = self.reason == coarse or {self.reason, coarse} == {"graceful", "client_closed"}
        right = same and (self.initiator, self.expected) == (truth.initiator, truth.expected)
        return {
            "disconnect_reason": self.reason,
            "disconnect_initiator": self.initiator,
            "disconnect_expected": self.expected,
            "correct": right,
        }


UNKNOWN = Answer("unknown", "", False)
GRACEFUL = Answer("graceful", "", True)
NETWORK = Answer("network_error", "network", False)


def errno(explained: Row) -> Answer:
    """By the first stream that stopped, as its reader's errno has it. A FIN is no error."""
    for fact in explained["evidence"]:
        if fact["kind"] in ("stream_ended", "carrier_ended"):
            clean = fact["values"].get("how") in ("eof", "closed")
            return Answer("graceful", "client", True) if clean else NETWORK
    return Answer("graceful", "client", True)


def original(explained: Row) -> Answer:
    """By the established system's rules, on the facts that its agent would have had."""
    facts = explained["evidence"]
    if explained["connect_type"] == "client_to_server":
        left = any(_said(fact, "client") for fact in facts)
        return Answer("graceful", "client", True) if left else NETWORK
    shutdown = _shutdown(facts)
    if explained["connect_type"] == "server_to_agent":
        closing = shutdown is not None and shutdown != "workspace"
        return Answer("server_shutdown", "agent", True) if closing else NETWORK
    if shutdown == "workspace":
        return Answer("workspace_stopped", "server", True)
    if shutdown is not None:
        return Answer("server_shutdown", "agent", True)
    if explained["type"] in ("reconnecting_pty", "jetbrains"):
        return GRACEFUL  # whatever happened
    if explained["type"] == "sftp" and explained["exit_code"] == 0:
        return UNKNOWN  # no cause is ever set for a clean one
    if explained["exit_signal"] is None and explained["exit_code"] is not None:
        code = explained["exit_code"]
        return (
            GRACEFUL
            if code == 0
            else Answer(f"process exited with error status: {code}", "", False)
        )
    return Answer("process exited with error status: -1", "", False)


_SSHD: Sequence[tuple[re.Pattern[str], Answer]] = (
    (
        re.compile(r"Received signal 15|Exiting on signal 15"),
        Answer("server_shutdown", "agent", True),
    ),
    (re.compile(r"Timeout, client not responding"), Answer("network_error", "client", False)),
    (re.compile(r"Received disconnect from .*:11:"), Answer("client_closed", "client", True)),
    (re.compile(r"Received disconnect from"), Answer("protocol_error", "client", False)),
    (re.compile(r"Connection reset by"), NETWORK),
    (re.compile(r"Read error from remote host|timed out"), NETWORK),
    (re.compile(r"Connection closed by"), Answer("client_closed", "client", True)),
    (re.compile(r"Bad packet length|Corrupted MAC"), Answer("protocol_error", "client", False)),
)


def openssh(log_lines: Iterable[str]) -> Answer:
    """By the first line of sshd's log since the fault that tells of an end; most faults leave none."""
    for line in log_lines:
        for pattern, answer in _SSHD:
            if pattern.search(line):
                return answer
    return UNKNOWN


def _shutdown(facts: Iterable[Row]) -> str | None:
    """Why the agent was closing, if it was: for its "workspace", which was stopped, or as an "agent"."""
    causes = [
        str(fact["values"].get("cause", ""))
        for fact in facts
        if fact["kind"] == "goodbye_said" and fact["values"].get("by") in ("agent", "server")
    ]
    if any(cause.startswith("workspace.") for cause in causes):
        return "workspace"
    return "agent" if any(cause.startswith("agent.") for cause in causes) else None


def _said(fact: Row, party: str) -> bool:
    return bool(fact["kind"] == "goodbye_said" and fact["values"].get("by") == party)
