"""When a server that cannot answer now wants to be asked again."""

from __future__ import annotations

import re
import time
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"\d{1,18}(\.\d{1,18})?", re.ASCII)


def seconds_to_wait(header: str | None, now: float | None = None) -> float:
    """What HTTP's ``Retry-After`` asks for (RFC 9110, 10.2.3): seconds, or a date.

    Args:
        header: Its value; None if it was not sent.
        now: In seconds since 1970; the clock's if not given.

    Returns:
        Seconds, 0 or more; 0 also where the value is neither.

    >>> seconds_to_wait("120"), seconds_to_wait("Thu, 01 Jan 1970 00:01:30 GMT", now=60.0), seconds_to_wait("soon")
    (120.0, 30.0, 0.0)
    """
    value = (header or "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, date - (time.time() if now is None else now))
