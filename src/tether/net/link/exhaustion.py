"""From the platform's "there is no more of it" to a fact.

Law: a table of errnos; an error that is none of these is None. EAGAIN means "no more processes" only
to whoever tried to start one: that caller says so.
"""

from __future__ import annotations

import errno

from tether.attribution.evidence import Exhausted
from tether.attribution.vocabulary import Party, Resource, Vantage

_BY_ERRNO = {
    errno.ENOSPC: Resource.DISK,
    errno.EDQUOT: Resource.DISK,
    errno.EMFILE: Resource.DESCRIPTORS,
    errno.ENFILE: Resource.DESCRIPTORS,
    errno.ENOMEM: Resource.MEMORY,
}


def exhausted(
    wrong: BaseException | None, *, party: Party, at: float, starting: bool = False
) -> Exhausted | None:
    """The fact behind `wrong`; `starting` where a process was to be started."""
    number = wrong.errno if isinstance(wrong, OSError) else None
    of = _BY_ERRNO.get(number or 0)
    if starting and number == errno.EAGAIN:
        of = Resource.PROCESSES
    if of is None or not isinstance(wrong, OSError):
        return None
    where = str(wrong.filename or "")
    return Exhausted(vantage=Vantage(str(party)), at=at, party=party, resource=of, where=where)
