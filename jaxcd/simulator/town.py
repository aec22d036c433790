"""Lays out a simulated town: streets, blocks, buildings and trees, and which buildings the event damages.

Coordinates are metres from the scene's upper left corner, x to the east and y to the south. A rectangle is divided
recursively into blocks, with streets between them. Then it is rotated, and slow waves bend the streets.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float

_MARGIN = 40.0  # metres of town beyond the scene's edge: shadows and crowns from there reach into the scene
_BLOCK = (62.0, 105.0)  # a block is not divided if its longer side is below a number drawn from this range, in metres
_STREETS = (14.0, 10.0, 7.0, 5.5)  # width of streets in metres, those of the first divisions first

INTACT, COLLAPSED, REROOFED, NEW = "intact", "collapsed", "reroofed", "new"

# Kinds of blocks: (kind, weight at the edge of the town, weight in its centre).
_BLOCK_KINDS = (
    ("dense", 0.16, 0.46),
    ("houses", 0.36, 0.16),
    ("apartments", 0.08, 0.26),
    ("industry", 0.13, 0.03),
    ("park", 0.04, 0.06),
    ("field", 0.17, 0.0),
    ("open", 0.06, 0.03),
)


@dataclass(frozen=True, kw_only=True)
class Building:
    """One building.

    Attributes:
        wings: corners of its one or two rectangles; the first side of a rectangle is its longer one.
        kind: kind of roof: flat, gabled, hipped or shed.
        height: height of the eaves above ground in metres.
        fate: what the event changes: intact, collapsed, reroofed, or new (exists only after the event).
        seed: seed of its details, which are the same in both images.
    """

    wings: tuple[Float[np.ndarray, "4 2"], ...]
    kind: str
    height: float
    fate: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class CityBlock:
    """A block between streets: outline, land use, direction in radians, and seed of its details."""

    outline: Float[np.ndarray, "n 2"]
    kind: str
    angle: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Street:
    """A street: its centre line, its width in metres, and whether it cuts through blocks."""

    line: Float[np.ndarray, "n 2"]
    width: float
    crosses: bool


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A tree: centre, radius of the crown and height in metres, and whether it is evergreen."""

    centre: tuple[float, float]
    radius: float
    height: float
    evergreen: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class Town:
    """The town in a square scene of `extent` metres."""

    extent: float
    blocks: tuple[CityBlock, ...]
    streets: tuple[Street, ...]
    buildings: tuple[Building, ...]
    trees: tuple[Tree, ...]


def lay_out(rng: np.random.Generator, extent: float) -> Town:
    """Lay out a town.

    Args:
        rng: random generator.
        extent: side of the square scene in metres.

    Returns:
        The town; about a tenth of its buildings has the fate "collapsed".
    """
    plan = _Plan(rng, extent)
    cells, streets = plan.divide()
    ground = _Ground(extent, [street for street in streets if street.width >= _STREETS[1]])
    blocks, buildings = [], []
    centre = rng.uniform(0.3, 0.7, 2) * extent
    for cell in cells:
        u, v = (cell[0] + cell[2]) / 2, (cell[1] + cell[3]) / 2
        middle = plan.to_scene(np.array([[u, v]]))[0]
        if np.any(middle < -_MARGIN - _BLOCK[1]) or np.any(middle > extent + _MARGIN + _BLOCK[1]):
            continue
        kind = _block_kind(rng, float(np.exp(-np.sum(((middle - centre) / 550) ** 2))))
        outline = plan.to_scene(_rectangle_outline(*cell))
        blocks.append(CityBlock(outline=outline, kind=kind, angle=plan.angle(u, v), seed=int(rng.integers(2**31))))
        for u, v, length, width, roof, height in _lots(rng, cell, kind):
            wings = plan.wings(rng, u, v, length, width, winged=roof == "flat" and rng.random() < 0.3)
            if ground.take(wings):
                seed = int(rng.integers(2**31))
                buildings.append(Building(wings=wings, kind=roof, height=height, fate=INTACT, seed=seed))
    buildings = _decide_fates(rng, buildings, extent)
    trees = _plant(rng, blocks, streets, ground)
    return Town(
        extent=extent, blocks=tuple(blocks), streets=tuple(streets), buildings=tuple(buildings), trees=tuple(trees)
    )


class _Plan:
    """The straight plan in which the town is divided into blocks, and its mapping into the scene."""

    def __init__(self, rng: np.random.Generator, extent: float):
        self.rng = rng
        self.extent = extent
        self.half = 0.72 * extent + _MARGIN + 30
        self.turn = rng.uniform(0, np.pi / 2)
        # The slope of the waves is about 0.1, so that lots keep nearly right angles, but streets bend visibly.
        self.length = rng.uniform(500, 900, 2)
        self.phase = rng.uniform(0, 2 * np.pi, 2)
        self.amplitude = 0.12 * self.length / (2 * np.pi)

    def to_scene(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        wave = self.amplitude * np.sin(2 * np.pi * points[:, ::-1] / self.length + self.phase)
        c, s = np.cos(self.turn), np.sin(self.turn)
        return (points + wave) @ np.array([[c, s], [-s, c]]) + self.extent / 2

    def angle(self, u: float, v: float) -> float:
        """Return the direction of the plan's first axis at (u, v) in the scene, in radians."""
        a, b = self.to_scene(np.array([[u, v], [u + 1, v]]))
        return float(np.arctan2(b[1] - a[1], b[0] - a[0]))

    def wings(
        self, rng: np.random.Generator, u: float, v: float, length: float, width: float, *, winged: bool
    ) -> tuple[Float[np.ndarray, "4 2"], ...]:
        """Return the rectangles, in the scene, of a building around (u, v) whose `length` lies along u."""
        centre = self.to_scene(np.array([[u, v]]))[0]
        angle = self.angle(u, v) + rng.normal(0, 0.015)
        if not winged:
            return (_rectangle(centre, angle, length, width),)
        main = _rectangle(centre, angle, length, width * 0.6)
        side = rng.choice((-1.0, 1.0))
        offset = np.array([np.cos(angle), np.sin(angle)]) * side * length * 0.28
        offset += np.array([-np.sin(angle), np.cos(angle)]) * width * 0.4
        return main, _rectangle(centre + offset, angle, length * 0.44, width * 0.5)

    def divide(self) -> tuple[list[tuple[float, float, float, float]], list[Street]]:
        """Divide the plan into blocks with streets between them."""
        cells, streets = [], []
        todo = [(-self.half, -self.half, self.half, self.half, 0)]
        while todo:
            u0, v0, u1, v1, depth = todo.pop()
            along_u = u1 - u0 > v1 - v0
            side = max(u1 - u0, v1 - v0)
            if side < self.rng.uniform(*_BLOCK):
                cells.append((u0, v0, u1, v1))
                continue
            width = _STREETS[min(depth // 2, len(_STREETS) - 1)]
            cut = (u0 if along_u else v0) + side * self.rng.uniform(0.36, 0.64)
            if along_u:
                line = _segment((cut, v0), (cut, v1))
                todo += [(u0, v0, cut - width / 2, v1, depth + 1), (cut + width / 2, v0, u1, v1, depth + 1)]
            else:
                line = _segment((u0, cut), (u1, cut))
                todo += [(u0, v0, u1, cut - width / 2, depth + 1), (u0, cut + width / 2, u1, v1, depth + 1)]
            streets.append(Street(line=self.to_scene(line), width=width, crosses=False))
        streets.append(self._avenue())
        return cells, streets

    def _avenue(self) -> Street:
        """Return a wide bent street that cuts across the blocks."""
        t = np.linspace(-0.85, 0.85, 60)
        bend = self.rng.uniform(0.12, 0.3) * np.cos(t * self.rng.uniform(2, 4) + self.rng.uniform(0, 6))
        angle, offset = self.turn + self.rng.uniform(0.4, 1.1), self.rng.uniform(-0.15, 0.15)
        c, s = np.cos(angle), np.sin(angle)
        points = np.stack([c * t - s * (bend + offset), s * t + c * (bend + offset)], axis=1)
        return Street(line=points * self.extent + self.extent / 2, width=_STREETS[0], crosses=True)


class _Ground:
    """A mask of occupied land, with pixels of half a metre."""

    def __init__(self, extent: float, streets: list[Street]):
        side = int(2 * (extent + 2 * _MARGIN))
        self.taken = np.zeros((side, side), np.uint8)
        for street in streets:
            line = np.rint((street.line + _MARGIN) * 2).astype(np.int32)
            cv2.polylines(self.taken, [line], False, 1, thickness=int(2 * street.width) + 6)

    def take(self, wings: tuple[Float[np.ndarray, "4 2"], ...]) -> bool:
        """Occupy the land of a building; return False if it is outside the mask or already occupied."""
        corners = (np.concatenate(wings) + _MARGIN) * 2
        low, high = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1
        if np.any(low < 0) or np.any(high > self.taken.shape[0]):
            return False
        window = self.taken[low[1] : high[1], low[0] : high[0]]
        drawn = np.zeros_like(window)
        for wing in wings:
            cv2.fillConvexPoly(drawn, np.rint((wing + _MARGIN) * 2 - low).astype(np.int32), 1)
        if np.any(drawn & window):
            return False
        window |= drawn
        return True

    def free(self, point: Float[np.ndarray, "2"]) -> bool:
        x, y = ((point + _MARGIN) * 2).astype(int)
        return 0 <= x < self.taken.shape[1] and 0 <= y < self.taken.shape[0] and not self.taken[y, x]


def _segment(a: tuple[float, float], b: tuple[float, float]) -> Float[np.ndarray, "n 2"]:
    steps = max(2, int(np.hypot(b[0] - a[0], b[1] - a[1]) / 8))
    return np.linspace(a, b, steps)


def _rectangle_outline(u0: float, v0: float, u1: float, v1: float) -> Float[np.ndarray, "n 2"]:
    corners = [(u0, v0), (u1, v0), (u1, v1), (u0, v1), (u0, v0)]
    return np.concatenate([_segment(a, b)[:-1] for a, b in zip(corners, corners[1:], strict=False)])


def _rectangle(centre: Float[np.ndarray, "2"], angle: float, length: float, width: float) -> Float[np.ndarray, "4 2"]:
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    if width > length:
        along, across = across, -along
    return centre + np.array([-along - across, along - across, along + across, -along + across])


def _block_kind(rng: np.random.Generator, urbanity: float) -> str:
    weights = np.array([rim * (1 - urbanity) + core * urbanity for _, rim, core in _BLOCK_KINDS])
    return _BLOCK_KINDS[rng.choice(len(weights), p=weights / weights.sum())][0]


def _lots(
    rng: np.random.Generator, cell: tuple[float, float, float, float], kind: str
) -> list[tuple[float, float, float, float, str, float]]:
    """Return the buildings of a block as (u, v, length along u, width along v, roof, height)."""
    if kind not in ("dense", "houses", "apartments", "industry"):
        return []
    front, depth, gap, empty = {
        "dense": ((11, 17), (10, 15), 1.2, 0.06),
        "houses": ((14, 21), (9, 13), 5.0, 0.14),
        "apartments": ((20, 36), (14, 19), 7.0, 0.12),
        "industry": ((24, 46), (18, 28), 6.0, 0.15),
    }[kind]
    u0, v0, u1, v1 = cell
    turned = v1 - v0 > u1 - u0
    if turned:
        u0, v0, u1, v1 = v0, u0, v1, u1
    rows = max(1, round((v1 - v0 - 4) / (np.mean(depth) + gap + 4)))
    lots = []
    for row in range(rows):
        middle = v0 + 2 + (row + 0.5) * (v1 - v0 - 4) / rows
        room = (v1 - v0 - 4) / rows - gap * 0.6
        at = u0 + 2.5
        while at + front[0] < u1 - 2:
            length = min(rng.uniform(*front), u1 - 2 - at)
            if rng.random() > empty:
                deep = min(rng.uniform(*depth), room)
                v = middle + rng.uniform(-0.5, 0.5) * max(room - deep, 0) * 0.7
                u, along = at + length / 2, length - gap * rng.uniform(0.6, 1.4)
                place = (v, u, deep, along) if turned else (u, v, along, deep)
                lots.append((*place, *_roof(rng, kind)))
            at += length
    return lots


def _roof(rng: np.random.Generator, kind: str) -> tuple[str, float]:
    chance = rng.random()
    if kind == "dense":
        return "flat" if chance < 0.8 else ("hipped" if chance < 0.93 else "gabled"), 3.1 * float(rng.integers(1, 5))
    if kind == "houses":
        return "gabled" if chance < 0.5 else ("hipped" if chance < 0.78 else "flat"), rng.uniform(3.5, 6.5)
    if kind == "apartments":
        return "flat" if chance < 0.62 else "hipped", 3.0 * float(rng.integers(4, 9))
    return "shed", rng.uniform(6, 9)


def _decide_fates(rng: np.random.Generator, buildings: list[Building], extent: float) -> list[Building]:
    """Choose the buildings that collapse (a tenth, in clusters), get a new roof, or exist only after the event."""
    centres = np.array([np.concatenate(b.wings).mean(0) for b in buildings])
    inside = ((centres > 0) & (centres < extent)).all(1)
    hearts = rng.uniform(0, extent, (max(2, round((extent / 300) ** 2)), 2))
    nearest = np.linalg.norm(centres[:, None] - hearts, axis=2).min(1)
    # Steel sheds rarely collapse here: one hall alone would make up the intended share of damaged pixels.
    propensity = np.array([-9.0 if b.kind == "shed" else 0.0 for b in buildings]) - nearest / 120
    order = np.argsort(-(propensity + rng.gumbel(0, 0.8, len(buildings))) + np.where(inside, 0, 99))
    collapsed = set(order[: max(3, round(rng.uniform(0.09, 0.11) * inside.sum()))].tolist())
    chances = rng.random(len(buildings))
    fates = [
        COLLAPSED if i in collapsed else NEW if chance < 0.025 else REROOFED if chance < 0.12 else INTACT
        for i, chance in enumerate(chances)
    ]
    return [replace(building, fate=fate) for building, fate in zip(buildings, fates, strict=True)]


def _plant(rng: np.random.Generator, blocks: list[CityBlock], streets: list[Street], ground: _Ground) -> list[Tree]:
    """Plant trees in blocks, and rows of trees along main streets."""
    per_hectare = {"dense": 40, "houses": 70, "apartments": 35, "industry": 8, "park": 110, "field": 6, "open": 10}
    spots = []
    for block in blocks:
        area = cv2.contourArea(block.outline.astype(np.float32)) / 1e4
        low, high = block.outline.min(0), block.outline.max(0)
        contour = block.outline.astype(np.float32)
        for _ in range(rng.poisson(2 * per_hectare[block.kind] * area)):
            spot = rng.uniform(low, high)
            if cv2.pointPolygonTest(contour, (float(spot[0]), float(spot[1])), False) > 0:
                spots.append(spot)
    for street in streets:
        if street.width >= _STREETS[1] and rng.random() < 0.7:
            step = np.diff(street.line, axis=0)
            normal = np.stack([-step[:, 1], step[:, 0]], 1) / np.maximum(np.linalg.norm(step, axis=1)[:, None], 1e-6)
            side = rng.choice((-1, 1), len(step))[:, None] * (street.width / 2 + 3.6)
            spots += list(street.line[:-1] + normal * side + rng.normal(0, 0.4, step.shape))
    trees = []
    for spot in spots:
        if ground.free(spot):
            radius = float(np.clip(rng.lognormal(0.75, 0.35), 1.0, 4.5))
            trees.append(
                Tree(
                    centre=(float(spot[0]), float(spot[1])),
                    radius=radius,
                    height=radius * rng.uniform(1.4, 2.6),
                    evergreen=bool(rng.random() < 0.4),
                    seed=int(rng.integers(2**31)),
                )
            )
    return trees
