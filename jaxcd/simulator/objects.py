"""What stands on the ground: buildings, trees, vehicles, tents."""

import numpy as np
from jaxtyping import Float

from jaxcd.simulator.look import Canvas, Colour, Look, tinted
from jaxcd.simulator.town import REROOFED, Building, Tree

_CONCRETE: tuple[Colour, ...] = (
    (192, 184, 172),
    (176, 170, 162),
    (208, 200, 188),
    (160, 154, 148),
    (186, 172, 154),
    (216, 212, 206),
    (148, 142, 136),
)
_TILES: tuple[Colour, ...] = ((168, 104, 80), (178, 118, 92), (146, 88, 70), (142, 110, 92), (128, 100, 90))
_METAL: tuple[Colour, ...] = ((150, 156, 162), (104, 126, 156), (206, 208, 208), (156, 116, 96), (122, 138, 124))
_MATERIALS = {"flat": _CONCRETE, "gabled": _TILES, "hipped": _TILES, "shed": _METAL}
_PITCH = {"gabled": 0.5, "hipped": 0.45, "shed": 0.18}  # radians
_WALLS: tuple[Colour, ...] = ((190, 180, 164), (172, 162, 150), (206, 198, 184))
_CARS: tuple[Colour, ...] = (
    (232, 232, 230),
    (222, 224, 226),
    (190, 192, 194),
    (150, 152, 156),
    (44, 46, 50),
    (60, 62, 68),
    (150, 38, 34),
    (44, 70, 128),
)
_CANVAS: tuple[Colour, ...] = ((236, 236, 232), (226, 224, 216), (208, 214, 224), (92, 124, 178))


def roof_colour(building: Building, look: Look) -> Colour:
    """The roof's colour; one that was re-roofed takes another after the event."""
    rng = np.random.default_rng(building.seed)
    materials = _MATERIALS[building.kind]
    first, step = int(rng.integers(len(materials))), int(rng.integers(1, len(materials)))
    changed = step if building.fate == REROOFED and look.post else 0
    return tinted(materials[(first + changed) % len(materials)], rng.uniform(0.9, 1.06))


def paint_building(canvas: Canvas, building: Building, look: Look) -> None:
    """Paint walls, roof and what stands on the roof."""
    rng = np.random.default_rng(building.seed + 1)
    lean, colour = look.lean(building.height), roof_colour(building, look)
    wall = _WALLS[int(rng.integers(len(_WALLS)))]
    for wing in building.wings:
        canvas.hull(np.concatenate([wing, wing + lean]), tinted(wall, 0.62))
    for number, wing in enumerate(building.wings):
        if building.kind == "flat":
            _paint_flat(canvas, wing + lean, look, rng, colour, objects=number == 0)
        else:
            _paint_pitched(canvas, wing + lean, look, rng, colour, building.kind)


def _paint_flat(
    canvas: Canvas,
    roof: Float[np.ndarray, "4 2"],
    look: Look,
    rng: np.random.Generator,
    colour: Colour,
    *,
    objects: bool,
) -> None:
    """A slab with a parapet, patches of other ages, stair heads, tanks and panels."""
    frame = _Frame(roof)
    canvas.polygon(roof, tinted(colour, 1.1))
    canvas.polygon(frame.box(0.5, 0.5, frame.length - 0.9, frame.width - 0.9), colour)
    # The parapet's own shadow lies inside it, along the sides towards the sun.
    fall = look.shadow(0.9)
    inner = frame.box(0.5, 0.5, frame.length - 0.9, frame.width - 0.9)
    for a, b in zip(inner, np.roll(inner, -1, 0), strict=True):
        if (b - a)[0] * fall[1] - (b - a)[1] * fall[0] > 0:
            canvas.polygon(np.array([a, b, b + 0.8 * fall, a + 0.8 * fall]), tinted(colour, 0.55))
    for _ in range(int(rng.integers(1, 5))):
        u, v, a, b = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.5)
        patch = frame.box(u, v, a * frame.length * 0.6, b * frame.width * 0.6, relative=True)
        canvas.polygon(patch, tinted(colour, rng.uniform(0.84, 1.1)))
    if rng.random() < 0.5:
        canvas.line(frame.box(0.5, 0.5, 0.0, frame.width - 1, relative=True)[[0, 2]], 0.4, tinted(colour, 0.8))
    if objects and rng.random() < 0.75:
        _paint_rooftop(canvas, frame, look, rng, colour)


def _paint_rooftop(canvas: Canvas, frame: "_Frame", look: Look, rng: np.random.Generator, colour: Colour) -> None:
    head = frame.box(
        rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(2.5, 4), rng.uniform(2.5, 3.5), relative=True
    )
    canvas.hull(np.concatenate([head, head + look.shadow(2.2)]), tinted(colour, 0.45))
    canvas.polygon(head + look.lean(2.2), tinted(colour, rng.uniform(0.95, 1.2)))
    for _ in range(int(rng.integers(0, 6))):
        u, v = rng.uniform(0.12, 0.88, 2)
        panel = frame.box(u, v, 2.0, 1.2, relative=True)
        canvas.hull(np.concatenate([panel, panel + look.shadow(0.8)]), tinted(colour, 0.5))
        canvas.polygon(panel, (58, 66, 84) if rng.random() < 0.5 else (228, 228, 224))


def _paint_pitched(
    canvas: Canvas, eaves: Float[np.ndarray, "4 2"], look: Look, rng: np.random.Generator, colour: Colour, kind: str
) -> None:
    """Two or four planes, each with its own light; rows of tiles or ribs of metal."""
    frame, pitch = _Frame(eaves), _PITCH[kind]
    inset = frame.width / 2 if kind == "hipped" else 0.0
    rise = look.lean(np.tan(pitch) * frame.width / 2)
    start = frame.at(min(inset, frame.length * 0.48), frame.width / 2) + rise
    end = frame.at(frame.length - min(inset, frame.length * 0.48), frame.width / 2) + rise
    a, b, c, d = eaves
    planes = [(np.array([a, b, end, start]), -frame.across), (np.array([d, c, end, start]), frame.across)]
    if kind == "hipped":
        planes += [(np.array([a, d, start]), -frame.along), (np.array([b, c, end]), frame.along)]
    for corners, facing in planes:
        light = look.shade(facing, pitch)
        canvas.polygon(corners, tinted(colour, light))
        if len(corners) == 4:
            ribs = int(frame.length / 1.6) if kind == "shed" else 4
            for t in (np.arange(1, ribs) + rng.uniform(-0.2, 0.2)) / ribs:
                low, high = (corners[0], corners[3]) if kind != "shed" else (corners[0], corners[1])
                low_end, high_end = (corners[1], corners[2]) if kind != "shed" else (corners[3], corners[2])
                line = np.array([low + t * (high - low), low_end + t * (high_end - low_end)])
                canvas.line(line, 0.3, tinted(colour, light * rng.uniform(0.88, 1.03)))
    canvas.line(np.array([start, end]), 0.5, tinted(colour, 1.12))
    if kind == "shed" and rng.random() < 0.6:
        for t in np.arange(0.15, 0.9, 0.2):
            light = frame.box(t, rng.choice((0.25, 0.75)), 1.6, frame.width * 0.3, relative=True)
            canvas.polygon(light, (206, 214, 218))


def paint_tree(canvas: Canvas, tree: Tree, look: Look) -> None:
    """Paint a crown, lit on the sun's side, or the twigs that are left of it in winter."""
    rng = np.random.default_rng(tree.seed)
    middle = np.array(tree.centre) + look.lean(tree.height * 0.7)
    sunward = -look.shadow(1.0) / np.linalg.norm(look.shadow(1.0))
    tone = rng.uniform(0.8, 1.2)
    if not tree.evergreen and rng.random() > look.leaves:
        for angle in rng.uniform(0, 2 * np.pi, 7):
            tip = middle + tree.radius * rng.uniform(0.5, 1.0) * np.array([np.cos(angle), np.sin(angle)])
            canvas.line(np.array([middle, tip]), 0.3, tinted(look.leaf, tone * rng.uniform(0.6, 1.0)))
        return
    colour = tinted(look.evergreen if tree.evergreen else look.leaf, tone)
    canvas.circle(middle, tree.radius, tinted(colour, 0.8))
    for _ in range(6):
        spot = rng.normal(0, 0.42, 2)
        light = 1.0 + 0.35 * float(spot @ sunward)
        canvas.circle(middle + spot * tree.radius, tree.radius * rng.uniform(0.25, 0.45), tinted(colour, light))


def paint_vehicle(
    canvas: Canvas, centre: Float[np.ndarray, "2"], angle: float, look: Look, rng: np.random.Generator
) -> None:
    """Paint a car, a van or, rarely, a lorry."""
    length, width = ((4.3, 1.8), (5.6, 2.1), (9.5, 2.5))[int(rng.choice(3, p=(0.78, 0.16, 0.06)))]
    frame = _Frame.around(centre, angle, length, width)
    colour = _CARS[int(rng.integers(len(_CARS)))]
    body = frame.box(0.5, 0.5, length, width, relative=True)
    canvas.hull(np.concatenate([body, body + look.shadow(1.3)]), (62, 62, 66))
    canvas.polygon(body, tinted(colour, 0.95))
    canvas.polygon(frame.box(0.66, 0.5, length * 0.14, width * 0.8, relative=True), (54, 60, 70))


def paint_tent(
    canvas: Canvas, centre: Float[np.ndarray, "2"], angle: float, look: Look, rng: np.random.Generator
) -> None:
    """Paint a ridge tent."""
    frame = _Frame.around(centre, angle, rng.uniform(4.5, 6.5), rng.uniform(3.6, 4.4))
    colour = _CANVAS[int(rng.choice(4, p=(0.5, 0.25, 0.15, 0.1)))]
    base = frame.box(0.5, 0.5, frame.length, frame.width, relative=True)
    canvas.hull(np.concatenate([base, base + look.shadow(2.0)]), (78, 76, 76))
    a, b, c, d = base
    start, end = (a + d) / 2, (b + c) / 2
    canvas.polygon(np.array([a, b, end, start]), tinted(colour, look.shade(-frame.across, 0.6)))
    canvas.polygon(np.array([d, c, end, start]), tinted(colour, look.shade(frame.across, 0.6)))


class _Frame:
    """The axes of a rectangle: `length` metres along its first side, `width` metres across."""

    def __init__(self, corners: Float[np.ndarray, "4 2"]):
        self.origin = corners[0]
        self.length = float(np.linalg.norm(corners[1] - corners[0]))
        self.width = float(np.linalg.norm(corners[3] - corners[0]))
        self.along = (corners[1] - corners[0]) / self.length
        self.across = (corners[3] - corners[0]) / self.width

    @classmethod
    def around(cls, centre: Float[np.ndarray, "2"], angle: float, length: float, width: float) -> "_Frame":
        along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
        return cls(centre + np.array([-along - across, along - across, along + across, -along + across]))

    def at(self, u: float, v: float) -> Float[np.ndarray, "2"]:
        return self.origin + u * self.along + v * self.across

    def box(
        self, u: float, v: float, length: float, width: float, *, relative: bool = False
    ) -> Float[np.ndarray, "4 2"]:
        """A box from (u, v) metres on; `relative`: around the point at these shares of the sides."""
        if relative:
            u, v = u * self.length - length / 2, v * self.width - width / 2
        return np.array([self.at(u, v), self.at(u + length, v), self.at(u + length, v + width), self.at(u, v + width)])
