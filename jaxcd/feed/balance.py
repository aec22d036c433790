"""Draws training crops so that every disaster is seen equally often, and buildings of every level beside damage.

A draw is a function of the seed and of its position alone, as all that feeds training: an event is drawn, then what the
crop lies around, then a level, an image and a seed for the crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import grain
import numpy as np

from jaxcd.base.scales import DAMAGE, Scale
from jaxcd.config import DataConfig
from jaxcd.store.manifest import Sample

ANYWHERE = -1


class Alarm(NamedTuple):
    """A place at which a network called intact ground damage.

    Attributes:
        row: of the place.
        post: position of the labelled image.
        y: in pixels of the tile, from above.
        x: from the left.
    """

    row: int
    post: int
    y: int
    x: int


class Target(NamedTuple):
    """A crop to cut.

    Attributes:
        row: of the place.
        seed: of everything that is drawn for the crop.
        post: position of the labelled image, or `ANYWHERE`: any of them.
        code: code of the pixel that the crop is centred on, or `ANYWHERE`.
        alarm: pixel (y, x) of a false alarm that the crop shows, or None.
    """

    row: int
    seed: int
    post: int = ANYWHERE
    code: int = ANYWHERE
    alarm: tuple[int, int] | None = None


class Level(NamedTuple):
    """The images of an event that show a level.

    Attributes:
        code: of the level.
        pixels: of all images.
        images: row of the place and position of the labelled image.
    """

    code: int
    pixels: int
    images: tuple[tuple[int, int], ...]


class Event(NamedTuple):
    """What can be drawn of an event.

    Attributes:
        rows: its places.
        damaged: levels that count as damage.
        intact: levels of buildings that do not.
        alarms: false alarms.
    """

    rows: tuple[int, ...]
    damaged: tuple[Level, ...]
    intact: tuple[Level, ...]
    alarms: tuple[Alarm, ...] = ()


def events_of(
    samples: Sequence[Sample], rows: Sequence[int], scale: Scale, alarms: Sequence[Alarm] = ()
) -> dict[str, Event]:
    """Return what can be drawn of each event, by its name; places of no known event are one event, "".

    Args:
        samples: all places.
        rows: the places to train on.
        scale: of the labels.
        alarms: false alarms in these places.
    """
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(samples[row].event, []).append(row)
    damaged = range(scale.damaged, len(scale.levels) + 1)
    return {
        name: Event(
            rows=tuple(own),
            damaged=_levels(samples, own, damaged),
            intact=_levels(samples, own, range(1, scale.damaged)),
            alarms=tuple(alarm for alarm in alarms if samples[alarm.row].event == name),
        )
        for name, own in sorted(groups.items())
    }


def _levels(samples: Sequence[Sample], rows: Sequence[int], codes: Sequence[int]) -> tuple[Level, ...]:
    found = []
    for code in codes:
        images, pixels = [], 0
        for row in rows:
            for i, post in enumerate(samples[row].post):
                # The scale `binary` counts its one level apart.
                own = post.codes[code] if post.codes else post.damaged * (code == DAMAGE)
                images += [(row, i)] if own else []
                pixels += own
        if images:
            found.append(Level(code, pixels, tuple(images)))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class DrawBalanced(grain.transforms.RandomMap):
    """Draw targets; the events are equally likely, and what an event lacks is drawn anywhere in its places.

    Attributes:
        events: what is drawn from.
        damage: share of the crops around damage.
        intact: share of the crops around buildings that do not count as damaged.
        alarms: share of the crops around false alarms.
    """

    events: tuple[Event, ...]
    damage: float
    intact: float
    alarms: float

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        rows: Sequence[int],
        scale: Scale,
        data: DataConfig,
        alarms: Sequence[Alarm] = (),
    ) -> "DrawBalanced":
        """Draw from the places to train on, and from false alarms in them; the shares of `data` count."""
        events = tuple(events_of(samples, rows, scale, alarms).values())
        shares = {"damage": data.damage_share, "intact": data.intact_share, "alarms": data.false_alarm_share}
        return cls(events=events, **shares)

    def random_map(self, element: int, rng: np.random.Generator) -> Target:
        """Draw one target; the element does not count."""
        event = self.events[int(rng.integers(len(self.events)))]
        kind, seed = rng.random(), int(rng.integers(2**63))
        levels = event.damaged if kind < self.damage else event.intact if kind < self.damage + self.intact else ()
        if event.alarms and kind >= 1 - self.alarms:
            alarm = event.alarms[int(rng.integers(len(event.alarms)))]
            return Target(alarm.row, seed, alarm.post, alarm=(alarm.y, alarm.x))
        if not levels:
            return Target(event.rows[int(rng.integers(len(event.rows)))], seed)
        # By the root of its pixels, a rare level comes more often than in the images, and less often than its few
        # buildings would be learned by heart.
        weights = np.sqrt([level.pixels for level in levels])
        level = levels[int(rng.choice(len(levels), p=weights / weights.sum()))]
        row, post = level.images[int(rng.integers(len(level.images)))]
        return Target(row, seed, post, level.code)
