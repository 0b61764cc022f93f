"""How a rule picks its cause from a case, where the facts name it.

Law: pure. A pick is asked only of a case that its rule matches. Its docstring is what the generated
table of rules says of it.
"""

from __future__ import annotations

from collections.abc import Callable

from tether.attribution import evidence as ev
from tether.attribution.case import Case
from tether.attribution.causes.catalogue import (
    ACCESS_REFUSALS,
    INTERNAL_ERRORS,
    POLICY_REFUSALS,
    PROTOCOL_ERRORS,
    SLOW_READERS,
    cause_of,
)
from tether.attribution.predicates.sessions import NOT_CLIENT, WORKSPACE_STOPS

Pick = Callable[[Case], str]


def by_goodbye(case: Case) -> str:
    """The cause that the most trusted goodbye named; a client's only where nobody else said one."""
    goodbyes = case.all(ev.GoodbyeSaid)
    return next((said for said in goodbyes if said.by in NOT_CLIENT), goodbyes[0]).cause


def by_intent(case: Case) -> str:
    """What was asked for last."""
    return min(case.all(ev.IntentRecorded), key=lambda fact: (fact.before_s, fact.cause)).cause


def by_stop(case: Case) -> str:
    """Why the workspace was to stop, as the server said."""
    return next(said.cause for said in case.all(ev.GoodbyeSaid) if said.cause in WORKSPACE_STOPS)


DECISIONS: tuple[Pick, ...] = (by_intent, by_stop)
"""Picks of what somebody had decided: whatever the decision brought about is not the cause."""


def by_neighbour(case: Case) -> str:
    """What the two ends of the connection beside it told."""
    told = [fact for fact in case.all(ev.NeighbourEnded) if cause_of(fact.cause).holds_for_tunnels]
    return min(told, key=lambda fact: (abs(fact.before_s), fact.cause)).cause


def by_session(case: Case) -> str:
    """Why the agent ended the last session."""
    return case.all(ev.SessionEnded)[-1].cause


def by_offender(case: Case) -> str:
    """Who broke the protocol."""
    return PROTOCOL_ERRORS[case.all(ev.ProtocolViolated)[0].by]


def by_policy(case: Case) -> str:
    """Which switch refused. The most telling refusal of several wins."""
    refused = {fact.policy for fact in case.all(ev.PolicyRefused)}
    return next(code for policy, code in POLICY_REFUSALS.items() if policy in refused)


def by_failed(case: Case) -> str:
    """Whose bug it is."""
    return INTERNAL_ERRORS[case.all(ev.InternalFailure)[0].party]


def by_slow(case: Case) -> str:
    """Who did not take what was sent to it."""
    return SLOW_READERS[case.all(ev.QueueOverflowed)[0].party]


def by_refusal(case: Case) -> str:
    """Why the credential was refused. The most telling refusal of several wins."""
    refused = {fact.why for fact in case.all(ev.AccessRefused)}
    return next(code for why, code in ACCESS_REFUSALS.items() if why in refused)
