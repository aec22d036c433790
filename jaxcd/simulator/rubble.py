"""What is left of a collapsed building: a heap that spills over its outline."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float

from jaxcd.simulator.look import Canvas, Colour, Look, tinted
from jaxcd.simulator.objects import roof_colour
from jaxcd.simulator.town import Building, CityBlock

_DEBRIS: tuple[Colour, ...] = ((176, 168, 156), (160, 152, 142), (188, 178, 162), (150, 138, 124))
_YARD_CHANCE = {"open": 0.7, "industry": 0.6, "apartments": 0.12, "dense": 0.06, "houses": 0.06}


@dataclass(frozen=True, kw_only=True)
class Heap:
    """Rubble on the ground.

    Attributes:
        outline: in metres; of a collapsed building this is what the damage mask shows.
        building: what it was; None for stones and building material, which lie there before and after the event.
        seed: seed of its stones.
    """

    outline: shapely.Polygon
    building: Building | None
    seed: int


def heap_of(building: Building) -> Heap:
    """Return the rubble of a collapsed building: its outline plus a ragged rim, wider to one side and if tall."""
    rng = np.random.default_rng(building.seed + 2)
    ground = shapely.union_all([shapely.Polygon(wing) for wing in building.wings])
    reach = 1.0 + 0.2 * building.height
    towards = rng.uniform(0, 2 * np.pi)
    points = shapely.get_coordinates(shapely.segmentize(ground.buffer(0.4), 1.2))[:-1]
    away = points - points.mean(0)
    angle = np.arctan2(away[:, 1], away[:, 0])
    rim = 0.5 + 0.5 * np.cos(angle - towards)
    ragged = np.convolve(np.tile(rng.uniform(0, 1, len(points)), 3), (0.25, 0.5, 0.25), "same")[
        len(points) : -len(points)
    ]
    push = reach * (0.15 + 0.85 * rim) * (0.2 + 1.3 * ragged)
    spilled = points + away / np.maximum(np.linalg.norm(away, axis=1)[:, None], 0.1) * push[:, None]
    outline = shapely.union(shapely.make_valid(shapely.Polygon(spilled)), ground)
    if outline.geom_type != "Polygon":
        outline = max(shapely.get_parts(outline), key=lambda part: part.area)
    solid = shapely.Polygon(shapely.get_exterior_ring(outline))
    return Heap(building=building, outline=solid, seed=building.seed + 3)


def stone_yards(blocks: tuple[CityBlock, ...]) -> tuple[Heap, ...]:
    """Stones and material on some of the land that is not built up: texture like rubble, but no change."""
    yards = []
    for block in blocks:
        rng = np.random.default_rng(block.seed + 1)
        if rng.random() < _YARD_CHANCE.get(block.kind, 0.0):
            angles, radius = np.linspace(0, 2 * np.pi, 14)[:-1], rng.uniform(4, 11)
            ring = radius * rng.uniform(0.7, 1.2, (13, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            outline = shapely.Polygon(block.outline.mean(0) + rng.normal(0, 8, 2) + ring)
            yards.append(Heap(outline=outline, building=None, seed=block.seed + 2))
    return tuple(yards)


def paint_heap(canvas: Canvas, heap: Heap, look: Look) -> None:
    """Paint broken slabs with their shadows, dark gaps, and pieces of the roof."""
    rng = np.random.default_rng(heap.seed)
    base, fall = _DEBRIS[int(rng.integers(len(_DEBRIS)))], look.shadow(0.5)
    roof = base if heap.building is None else roof_colour(heap.building, look)
    # Dust evens out what lies under it: heaps differ in contrast.
    contrast = rng.uniform(0.9, 1.5)
    canvas.polygon(shapely.get_coordinates(heap.outline), tinted(base, 0.9))
    count = int(heap.outline.area * 0.8)
    low, high = np.array(heap.outline.bounds[:2]), np.array(heap.outline.bounds[2:])
    spots = rng.uniform(low, high, (3 * count, 2))
    spots = spots[shapely.contains_xy(heap.outline, spots)][:count]
    waves = np.cos(spots @ rng.normal(0, 0.45, (2, 3)) + rng.uniform(0, 6, 3)).mean(1)
    for spot, wave in zip(spots, waves, strict=True):
        chance = rng.random()
        slab = _slab(rng, spot, float(np.clip(rng.lognormal(-0.1, 0.55), 0.4, 3.0)))
        if chance < 0.1:
            canvas.polygon(slab, tinted(base, 1 - contrast * rng.uniform(0.3, 0.5)))
            continue
        colour = roof if chance < 0.26 else base
        canvas.polygon(slab + fall, tinted(base, 1 - 0.5 * contrast))
        canvas.polygon(slab, tinted(colour, 1 + contrast * (rng.uniform(-0.32, 0.32) + 0.2 * wave)))
    for wing in () if heap.building is None else heap.building.wings:
        if rng.random() < 0.35:
            _paint_fallen_roof(canvas, wing, rng, roof, fall)


def _slab(rng: np.random.Generator, centre: Float[np.ndarray, "2"], size: float) -> Float[np.ndarray, "4 2"]:
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.3, 1.0)
    along = np.array([np.cos(angle), np.sin(angle)]) * size
    across = np.array([-np.sin(angle), np.cos(angle)]) * size * flat
    corners = np.array([-along - across, along - across, along + across, -along + across]) / 2
    return centre + corners * rng.uniform(0.7, 1.2, (4, 1))


def _paint_fallen_roof(
    canvas: Canvas, wing: Float[np.ndarray, "4 2"], rng: np.random.Generator, roof: Colour, fall: Float[np.ndarray, "2"]
) -> None:
    """A larger piece of the roof that came down in one, askew."""
    middle, turn = wing.mean(0), rng.normal(0, 0.25)
    c, s = np.cos(turn), np.sin(turn)
    share = rng.uniform(0.35, 0.6)
    piece = (wing - middle) * share @ np.array([[c, s], [-s, c]]) * rng.uniform(0.75, 1.15, (4, 1))
    piece += middle + rng.normal(0, 1.2, 2)
    canvas.polygon(piece + 1.5 * fall, tinted(roof, 0.4))
    canvas.polygon(piece, tinted(roof, rng.uniform(0.8, 1.05)))
    for _ in range(2):
        crack = piece[rng.choice(4, 2, replace=False)] + rng.normal(0, 0.8, (2, 2))
        canvas.line(crack, 0.4, tinted(roof, 0.5))
