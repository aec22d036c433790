"""Dates in the names of files and folders."""

import re

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def date_in(text: str) -> str:
    """Find a date (YYYY-MM-DD or YYYYMMDD) in a name and return it as YYYY-MM-DD, or ""."""
    match = _DATE.search(text)
    return f"{match[1]}-{match[3]}-{match[4]}" if match else ""
