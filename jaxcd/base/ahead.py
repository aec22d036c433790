"""Work that runs ahead of its use, so that reading, moving to a device and computing overlap."""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def held_back(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield items in their order, but make `count` further items before each one is yielded.

    Making an item starts work that continues in the background, in a thread or on a device. While the caller uses an
    item, the work of the next `count` items is running or done. Memory holds at most these items and the one in use.

    Args:
        items: an iterable that makes an item when the next one is requested.
        count: the number of items that are made ahead.
    """
    waiting: collections.deque[T] = collections.deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
