"""In what servers of the current protocol differ, as rules of the simulated one."""

from __future__ import annotations

import msgspec

from resonate_aio.protocol.dialects import Dialect


class SimRules(msgspec.Struct, frozen=True):
    """In what real servers differ (current-protocol §0a, §1, §7).

    Attributes:
        origins: Ids of one request must share their origin, read in this dialect.
        sweeps_targeted: Only promises with a target are swept.
        preload: How many promises of the branch an acquire shows; None: all.
        searches: Whether searches are served.
        timer_target: Whether a timer may carry a target.
    """

    origins: Dialect | None = None
    sweeps_targeted: bool = False
    preload: int | None = None
    searches: bool = True
    timer_target: bool = True


LENIENT = SimRules()
RELEASE = SimRules()
NEWEST = SimRules(origins=Dialect.DOT, sweeps_targeted=True)
COLON = SimRules(origins=Dialect.COLON, preload=10)
BARE = SimRules(preload=0, searches=False, timer_target=False)
"""Like the server inside PostgreSQL: no preload, no search."""
