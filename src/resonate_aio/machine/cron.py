"""The calendar of schedules: cron expressions as instants.

Five fields, or six with seconds first, read in UTC; `TZ=Europe/Berlin 0 9 * * *` (or
`CRON_TZ=`) reads them on that zone's clock, where what falls into the hour that summer time
skips runs once after it, and what falls into the repeated hour runs once. `@hourly` and its
kin stand for their usual expressions, `@every 1h30m` for a fixed span since the last run.
This file reads no clock; the rules of the time zones are data that it looks up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_MAX_LENGTH: Final = 256
_ZONE: Final = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.DOTALL)
_ZONE_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_EVERY: Final = re.compile(r"@every\s+((?:\d{1,9}[hms])+)")
_SPAN: Final = re.compile(r"(\d+)([hms])")
_UNIT_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000}
_LAST_MS: Final = 253_402_300_799_000
"""The end of year 9999, where the calendar of `datetime` runs out."""

_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


_FIELDS: Final = (
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31, L (the last) or LW (the last weekday)"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of week", "0 to 7 (Sunday is 0 and 7), SUN to SAT, 5L (the last Friday) or 1#2"),
)


def occurrences(cron: str, after_ms: int) -> Iterator[int]:
    """The instants of a cron expression strictly after an instant; none if it is no cron."""
    if len(cron) > _MAX_LENGTH:
        return
    every = _EVERY.fullmatch(cron.strip())
    if every is not None:
        yield from _every(every[1], after_ms)
        return
    try:
        zone, fields = _zoned(cron)
        for instant in CronSim(fields, datetime.fromtimestamp(after_ms // 1000, zone)):
            yield int(instant.timestamp()) * 1000
    except (CronSimError, ValueError, TypeError, AssertionError, OverflowError, OSError):
        # What the library and the calendar raise at bad fields and past year 9999.
        return


def fault_of(cron: str) -> str | None:
    """What is wrong with a cron expression, in words: which field, and what is allowed there.

    None for an expression that names at least one instant.
    """
    if is_cron(cron):
        return None
    if len(cron) > _MAX_LENGTH:
        return f"it is longer than {_MAX_LENGTH} characters"
    try:
        _, fields = _zoned(cron)
    except ValueError as fault:
        return str(fault)
    if fields.startswith("@every"):
        return f"{fields!r} is no span: write @every and hours, minutes, seconds, such as 1h30m"
    if fields.startswith("@"):
        return f"{fields!r} is none of {', '.join(sorted(_NAMED))} and @every 1h30m"
    parts = fields.split()
    if len(parts) not in {5, 6}:
        return (
            f"it has {len(parts)} fields, not five (minute, hour, day of month, month, day of "
            "week) or six (seconds first)"
        )
    for (name, allowed), part in zip(_FIELDS[-len(parts) :], parts, strict=True):
        wrong = next((term for term in part.split(",") if not _is_field(name, term)), None)
        if wrong is not None:
            whole = "" if wrong == part else f" in {part!r}"
            return f"{name} {wrong!r}{whole} is not {allowed}, *, a range (1-5) or a step (*/2)"
    return "no day there is has this month and day of month"


def _is_field(name: str, part: str) -> bool:
    """Whether this one field, with every other one open, names instants."""
    parts = [part if field == name else "*" for field, _ in _FIELDS]
    return next(occurrences(" ".join(parts), 0), None) is not None


def is_cron(text: str) -> bool:
    """Whether the text is a cron expression that names at least one instant."""
    return next(occurrences(text, 0), None) is not None


def _zoned(cron: str) -> tuple[tzinfo, str]:
    """The zone and the fields of an expression.

    Raises:
        ValueError: There is no such zone.
    """
    prefixed = _ZONE.fullmatch(cron.strip())
    zone: tzinfo = UTC
    if prefixed is not None:
        zone, cron = time_zone(prefixed[1]), prefixed[2]
    cron = cron.strip()
    return zone, _NAMED.get(cron, cron)


@lru_cache(maxsize=64)
def time_zone(name: str) -> ZoneInfo:
    """A zone of the time zone database, by its name (`Europe/Berlin`).

    Raises:
        ValueError: There is none of that name.
    """
    if _ZONE_NAME.fullmatch(name) is None:
        raise ValueError(f"no time zone {name!r}")
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        # Absent, a folder of zones, or something else of that path.
        raise ValueError(f"no time zone {name!r}") from None


def _every(text: str, after_ms: int) -> Iterator[int]:
    span_ms = sum(int(number) * _UNIT_MS[unit] for number, unit in _SPAN.findall(text))
    while span_ms and after_ms + span_ms <= _LAST_MS:
        after_ms += span_ms
        yield after_ms
