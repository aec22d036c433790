"""Work that runs ahead of its use, so that reading, moving to a device and computing overlap."""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def held_back(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield items in their order, each after `count` later ones have been made.

    Making an item starts work that goes on by itself, in a thread or on a device. When the oldest item is used, `count`
    later ones are under way or done: memory holds no more than these and the one in use.

    Args:
        items: made one by one, as they are asked for.
        count: items that are kept back.
    """
    waiting: collections.deque[T] = collections.deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
