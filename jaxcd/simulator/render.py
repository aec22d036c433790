"""Paint a town as a sensor would see it, before or after the event."""

from collections.abc import Iterator

import cv2
import numpy as np
import shapely
from jaxtyping import Float, Float32, UInt8

from jaxcd.simulator.ground import Texture, paint_ground
from jaxcd.simulator.look import Canvas, Look
from jaxcd.simulator.objects import paint_building, paint_tent, paint_tree, paint_vehicle
from jaxcd.simulator.rubble import Heap, paint_heap, stone_yards
from jaxcd.simulator.town import COLLAPSED, NEW, Building, Town, Tree

MARGIN = 16  # pixels painted beyond the edge, which misregistration moves into the image
_TALL = 11.0  # metres from which a building's shadow falls on its neighbours' roofs
_LOW_ROOF = 5.0  # metres above ground of the roofs that it falls on
_SHADE = np.array((0.36, 0.39, 0.45), np.float32)  # what the sky alone lights, bluish


def render(
    town: Town, heaps: tuple[Heap, ...], look: Look, texture: Texture, *, gsd: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Render one image of the pair.

    Args:
        town: what stands where.
        heaps: rubble of the collapsed buildings; shown after the event only.
        look: light, season and sensor.
        texture: noise of the ground, the same for both images.
        gsd: metres a pixel.
        rng: draws what this image does not share with the other: vehicles, tents, the sensor's noise.

    Returns:
        The image, RGB.
    """
    canvas = Canvas(town.extent, gsd=gsd, margin=MARGIN, bands=3)
    paint_ground(canvas, town, look, texture)
    for heap in (*stone_yards(town.blocks), *(heaps if look.post else ())):
        paint_heap(canvas, heap, look)
    if look.post:
        _paint_tents(canvas, town, look, rng)
    _paint_vehicles(canvas, town, look, rng)
    standing = [b for b in town.buildings if b.fate != (COLLAPSED if look.post else NEW)]
    ruined = shapely.STRtree([heap.outline for heap in heaps]) if look.post and heaps else None
    trees = [t for t in town.trees if ruined is None or not len(ruined.query(shapely.Point(t.centre), "intersects"))]
    _shade(canvas.pixels, _shadows(town, look, gsd, standing, trees))
    _paint_standing(canvas, town, look, gsd, standing, trees)
    return _sense(canvas.pixels, look, texture, rng)


def _paint_standing(
    canvas: Canvas, town: Town, look: Look, gsd: float, buildings: list[Building], trees: list[Tree]
) -> None:
    """Paint from low to high, so that what is higher covers what is lower."""
    low = [b for b in buildings if b.height < _TALL]
    high = [b for b in buildings if b.height >= _TALL]
    before = canvas.pixels.copy()
    for thing in sorted([*low, *(t for t in trees if t.height < _TALL)], key=lambda thing: thing.height):
        if isinstance(thing, Building):
            paint_building(canvas, thing, look)
        else:
            paint_tree(canvas, thing, look)
    # The ground is in shadow already; what has been painted since lies above it and takes a shorter shadow.
    shadow = Canvas(town.extent, gsd=gsd, margin=MARGIN, bands=1)
    for building in high:
        _cast(shadow, building.wings, look, building.height - _LOW_ROOF)
    shadow.pixels[(before == canvas.pixels).all(2)] = 0
    _shade(canvas.pixels, shadow.pixels[..., 0])
    for building in sorted(high, key=lambda b: b.height):
        paint_building(canvas, building, look)
    for tree in trees:
        if tree.height >= _TALL:
            paint_tree(canvas, tree, look)


def _shadows(
    town: Town, look: Look, gsd: float, buildings: list[Building], trees: list[Tree]
) -> UInt8[np.ndarray, "h w"]:
    """Where the ground lies in shadow, 0..255."""
    shadow = Canvas(town.extent, gsd=gsd, margin=MARGIN, bands=1)
    for tree in trees:
        bare = not tree.evergreen and look.leaves < 0.5
        tip, foot = np.array(tree.centre) + look.shadow(tree.height * 0.8), np.array(tree.centre)
        shadow.line(np.array([foot, tip]), 0.4 if bare else tree.radius, 90.0 if bare else 230.0)
        if not bare:
            shadow.circle(tip, tree.radius, 230.0)
    for building in buildings:
        _cast(shadow, building.wings, look, building.height)
    return shadow.pixels[..., 0]


def _cast(shadow: Canvas, wings: tuple[Float[np.ndarray, "4 2"], ...], look: Look, height: float) -> None:
    for wing in wings:
        shadow.hull(np.concatenate([wing, wing + look.shadow(height)]), 255.0)


def _shade(pixels: UInt8[np.ndarray, "h w 3"], shadow: UInt8[np.ndarray, "h w"]) -> None:
    soft = cv2.GaussianBlur(shadow, (3, 3), 0)[..., None] / np.float32(255)
    pixels[:] = (pixels * (1 - soft * (1 - _SHADE))).astype(np.uint8)


def _along(
    line: Float[np.ndarray, "n 2"], rng: np.random.Generator, spacing: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Points at random distances along a line, with the line's direction there."""
    step = np.diff(line, axis=0)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(step, axis=1))])
    for at in np.sort(rng.uniform(0, length[-1], rng.poisson(length[-1] / spacing))):
        index = min(int(np.searchsorted(length, at, "right")) - 1, len(step) - 1)
        share = (at - length[index]) / (length[index + 1] - length[index])
        yield line[index] + share * step[index], float(np.arctan2(step[index, 1], step[index, 0]))


def _paint_vehicles(canvas: Canvas, town: Town, look: Look, rng: np.random.Generator) -> None:
    for street in town.streets:
        for spot, angle in _along(street.line, rng, 28.0 if street.width > 8 else 40.0):
            normal = np.array([-np.sin(angle), np.cos(angle)])
            parked = rng.random() < 0.6
            aside = (street.width / 2 - 1.1 if parked else street.width / 4) * rng.choice((-1, 1))
            paint_vehicle(canvas, spot + aside * normal, angle + rng.normal(0, 0.03), look, rng)


def _paint_tents(canvas: Canvas, town: Town, look: Look, rng: np.random.Generator) -> None:
    """Camps in rows on open land."""
    for block in town.blocks:
        chance = {"park": 0.6, "open": 0.6, "field": 0.25}.get(block.kind, 0.0)
        if rng.random() > chance:
            continue
        along = np.array([np.cos(block.angle), np.sin(block.angle)])
        across = np.array([-along[1], along[0]])
        middle, size = block.outline.mean(0) + rng.normal(0, 6, 2), rng.integers(2, 5, 2)
        for i in range(-size[0], size[0] + 1):
            for j in range(-size[1], size[1] + 1):
                spot = middle + i * 8.5 * along + j * 7.5 * across + rng.normal(0, 0.4, 2)
                inside = cv2.pointPolygonTest(block.outline.astype(np.float32), (float(spot[0]), float(spot[1])), True)
                if inside > 6 and rng.random() < 0.85:
                    paint_tent(canvas, spot, block.angle + rng.normal(0, 0.06), look, rng)


def _sense(
    pixels: UInt8[np.ndarray, "h w 3"], look: Look, texture: Texture, rng: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """Apply texture, misregistration, blur, colour balance and noise, then cut off the rim."""
    side = pixels.shape[0]
    grain = 1 + np.float32(0.03) * texture.fine + np.float32(0.02) * texture.patches
    image: Float32[np.ndarray, "h w 3"] = pixels * grain[..., None]
    shift = np.array([[1, 0, look.offset[0]], [0, 1, look.offset[1]]])
    image = cv2.warpAffine(image, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    image = cv2.GaussianBlur(image, (0, 0), look.blur)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    np.clip(image, 0, 255, out=image)
    image = 255 * (image / 255) ** np.float32(look.gamma) * np.asarray(look.gain, np.float32) + np.float32(look.haze)
    image += look.noise * rng.standard_normal(image.shape, np.float32)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
