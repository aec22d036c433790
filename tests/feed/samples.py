"""Places as splits see them, without images."""

import math

from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.store.manifest import Acquisition, LabelledAcquisition, Sample


def place(name: str, *, damaged: int = 10, bounds=None, block=None, split=None, event="") -> Sample:
    post = (LabelledAcquisition(name=name, date="", valid=100, damaged=damaged),)
    pre = (Acquisition(name=name, date=""),)
    placing = {"block": block, "bounds": bounds, "split": split, "event": event}
    return Sample(id=name, height=10, width=10, pre=pre, post=post, **placing)


def placed(name: str, x: float, y: float, *, side: float = 100, damaged: int = 10, event="") -> Sample:
    """A tile whose lower left corner lies x, y metres from 37 E, 36 N."""
    east = METRES_PER_DEGREE * math.cos(math.radians(36))
    bounds = (37 + x / east, 36 + y / METRES_PER_DEGREE, 37 + (x + side) / east, 36 + (y + side) / METRES_PER_DEGREE)
    return place(name, damaged=damaged, bounds=bounds, event=event)
