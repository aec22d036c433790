"""Dates in the names of files and folders, and how dates are told."""

import re
from collections.abc import Iterable

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def date_in(text: str) -> str:
    """Find a date (YYYY-MM-DD or YYYYMMDD) in a name and return it as YYYY-MM-DD, or ""."""
    match = _DATE.search(text)
    return f"{match[1]}-{match[3]}-{match[4]}" if match else ""


def told(dates: Iterable[str | None]) -> str:
    """Tell when scenes were taken: a date, or the first and the last of several; "date unknown" where there is none.

    Args:
        dates: YYYY-MM-DD each; None or "" where unknown.
    """
    dates = list(dates)
    known = sorted({date for date in dates if date})
    if not known:
        return "date unknown"
    text = known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"
    return text if all(dates) else f"{text}, some date unknown"
