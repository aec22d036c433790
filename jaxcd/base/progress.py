"""Progress bars: all entries show the same kind, on a terminal and in a log file."""

import sys
from typing import Any

from jaxcd.base import hosts


def bar(
    total: int, *, unit: str, initial: int = 0, title: str | None = None, leave: bool = True, scaled: bool = False
) -> Any:
    """Make a tqdm bar with rate and time left, on stderr; of several processes, the first one shows it.

    Args:
        total: units of the whole work.
        unit: what is counted.
        initial: units that were done before, by an earlier process.
        title: text in front of the bar.
        leave: whether the finished bar stays on the screen.
        scaled: whether large counts are shown in thousands (k) and millions (M).
    """
    from tqdm import tqdm  # imported here because machines that only train on arrays may lack it

    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=title,
        leave=leave,
        unit_scale=scaled,
        dynamic_ncols=True,
        disable=not hosts.is_first(),
        smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 20,  # seconds; a log file gets few lines
    )
