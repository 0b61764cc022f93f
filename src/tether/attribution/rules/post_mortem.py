"""What the next run of a program found out about its last.

Law: rows only; see `table`. A post-mortem tells of an end of which the program itself could not tell any
more. Whoever hands it in decides which connections it explains.
"""

from __future__ import annotations

from tether.attribution import evidence as ev
from tether.attribution.picks import by_intent
from tether.attribution.predicates.hosts import (
    agent_killed,
    agent_replaced,
    agent_sigkilled,
    cut_short,
    died,
    out_of_memory,
    server_failed,
    told_to_stop,
)
from tether.attribution.predicates.predicate import (
    CONTROL,
    SESSION,
    both,
    saw,
)
from tether.attribution.predicates.sessions import stop_intended
from tether.attribution.rules.rule import Rule
from tether.attribution.vocabulary import Basis, Confidence, Party

RULES: tuple[Rule, ...] = (
    Rule(
        "died-as-intended",
        both(died(Party.AGENT), stop_intended),
        by_intent,
        Basis.DECLARED,
        "The agent ended just after somebody had asked the server to stop its workspace.",
    ),
    Rule(
        "agent-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.AGENT, host_rebooted=True),
        "agent.host_rebooted",
        Basis.OBSERVED,
        "The agent's next run found another boot id and no clean stop.",
    ),
    Rule(
        "agent-oom-killed",
        out_of_memory(Party.AGENT),
        "agent.oom_killed",
        Basis.INFERRED,
        "The agent was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "agent-stop-cut-short",
        both(cut_short(Party.AGENT), told_to_stop(Party.AGENT)),
        "agent.shutdown",
        Basis.OBSERVED,
        "The agent had been told to stop, and was killed before it had left everybody.",
    ),
    Rule(
        "agent-container-replaced",
        saw(ev.PreviousRunDied, party=Party.AGENT, container_changed=True),
        "agent.container_replaced",
        Basis.OBSERVED,
        "The agent's next run found itself in another container, and no clean stop.",
    ),
    Rule(
        "agent-upgraded",
        agent_replaced,
        "agent.upgraded",
        Basis.INFERRED,
        "The agent was killed, and another version of it was started at once in its place.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-killed",
        agent_killed,
        "agent.killed",
        Basis.OBSERVED,
        "The agent's parent saw it end by a signal that somebody sends, and no memory ran out.",
    ),
    Rule(
        "agent-sigkilled",
        agent_sigkilled,
        "agent.killed",
        Basis.INFERRED,
        "The agent's parent saw it end by SIGKILL; whether memory had run out is not told.",
        Confidence.MEDIUM,
    ),
    Rule(
        "agent-post-mortem",
        died(Party.AGENT),
        "agent.crashed",
        Basis.OBSERVED,
        "The agent's next run, on the same boot, found no clean stop.",
    ),
    Rule(
        "server-host-rebooted",
        both(CONTROL, saw(ev.PreviousRunDied, party=Party.SERVER, host_rebooted=True)),
        "server.host_rebooted",
        Basis.OBSERVED,
        "The server's next run found that its machine had started anew, and no clean stop.",
    ),
    Rule(
        "server-oom-killed",
        both(CONTROL, out_of_memory(Party.SERVER)),
        "server.oom_killed",
        Basis.INFERRED,
        "The server was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "server-stop-cut-short",
        both(
            CONTROL,
            cut_short(Party.SERVER),
            told_to_stop(Party.SERVER),
        ),
        "server.shutdown",
        Basis.OBSERVED,
        "The server had been told to stop, and was killed before it had left everybody.",
    ),
    Rule(
        "server-cut-short",
        both(CONTROL, cut_short(Party.SERVER)),
        "server.crashed",
        Basis.INFERRED,
        "The server's next run found no clean stop, and nobody tells that it had been told to stop.",
        Confidence.MEDIUM,
    ),
    Rule(
        "server-post-mortem",
        both(
            CONTROL,
            server_failed,
        ),
        "server.crashed",
        Basis.OBSERVED,
        "The server's next run found no clean stop, and how the last one had failed.",
    ),
    Rule(
        "relay-post-mortem",
        both(SESSION, died(Party.RELAY)),
        "relay.crashed",
        Basis.OBSERVED,
        "The relay's next run found no clean stop.",
    ),
    Rule(
        "client-host-rebooted",
        saw(ev.PreviousRunDied, party=Party.CLIENT, host_rebooted=True),
        "client.host_rebooted",
        Basis.OBSERVED,
        "The client's next run found another boot id and no clean stop.",
    ),
    Rule(
        "client-oom-killed",
        out_of_memory(Party.CLIENT),
        "client.oom_killed",
        Basis.INFERRED,
        "The client was killed as the kernel counted a kill for want of memory in its group.",
    ),
    Rule(
        "client-post-mortem",
        died(Party.CLIENT),
        "client.vanished",
        Basis.OBSERVED,
        "The client's next run found no clean stop.",
    ),
)
