"""The ground of a town: soil, grass, paving, fields, streets."""

from dataclasses import dataclass

import numpy as np
import shapely
from jaxtyping import Float, Float32

from jaxcd.simulator.look import Canvas, Colour, Look, noise_field, tinted
from jaxcd.simulator.town import CityBlock, Street, Town

# How much of a block's ground is grass, and how much of the rest is paved.
_COVER = {
    "dense": (0.18, 0.55),
    "houses": (0.6, 0.2),
    "apartments": (0.38, 0.65),
    "industry": (0.1, 0.75),
    "park": (0.92, 0.05),
    "field": (0.6, 0.0),
    "open": (0.28, 0.0),
}
_PAVED: Colour = (168, 160, 150)
_KERB: Colour = (158, 152, 144)
_DUST: Colour = (176, 158, 132)


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Noise fields of mean 0 and deviation 1 that belong to the ground: both images share them."""

    fine: Float32[np.ndarray, "s s"]
    patches: Float32[np.ndarray, "s s"]
    paving: Float32[np.ndarray, "s s"]
    slow: Float32[np.ndarray, "s s"]


def grow_texture(rng: np.random.Generator, side: int, gsd: float) -> Texture:
    """Draw the noise fields of a square of `side` pixels."""
    return Texture(
        fine=noise_field(rng, side, (1, 2, 4)),
        patches=noise_field(rng, side, (3 / gsd, 8 / gsd, 20 / gsd)),
        paving=noise_field(rng, side, (5 / gsd, 14 / gsd)),
        slow=noise_field(rng, side, (60 / gsd, 150 / gsd)),
    )


def paint_ground(canvas: Canvas, town: Town, look: Look, texture: Texture) -> None:
    """Paint all that is level: land cover by block, fields, streets and their markings."""
    # Bands: share of grass, share of paving in the rest, and 0 land, 128 kerb, 255 street.
    cover = Canvas(town.extent, gsd=canvas.gsd, margin=canvas.margin, bands=3)
    cover.pixels[:] = (0, 0, 255)
    for block in town.blocks:
        grass, paved = _COVER[block.kind]
        cover.polygon(block.outline, (0.0, 0.0, 128.0))
        cover.polygon(_inset(block, 1.2), (255 * grass, 255 * paved, 0.0))
    for street in town.streets:
        if street.crosses:
            cover.line(street.line, street.width + 2.4, (0.0, 0.0, 128.0))
            cover.line(street.line, street.width, (0.0, 0.0, 255.0))
    canvas.pixels[:] = np.clip(_blend(cover, look, texture), 0, 255).astype(np.uint8)
    for block in town.blocks:
        if block.kind == "field":
            _paint_field(canvas, block, look)
        elif block.kind == "park":
            _paint_paths(canvas, block)
    for street in town.streets:
        _paint_markings(canvas, street)


def _blend(cover: Canvas, look: Look, texture: Texture) -> Float32[np.ndarray, "s s 3"]:
    """Mix the materials by the cover map."""
    grass, paved, street = (cover.pixels[..., band] / np.float32(255) for band in range(3))
    # Shares become patches with soft edges: noise above a level that the share sets.
    grass_alpha = np.clip((texture.patches + 4 * (grass - 0.5)) * 1.5 + 0.5, 0, 1) * (grass > 0)
    paved_alpha = np.clip((texture.paving + 4 * (paved - 0.5)) * 3 + 0.5, 0, 1) * (paved > 0)
    street_alpha = np.clip(2 * street - 1, 0, 1)
    kerb_alpha = 1 - np.abs(2 * street - 1)
    dust_alpha = look.dust * np.clip(0.5 + 0.5 * texture.slow + 0.3 * texture.paving, 0, 1)
    ground = np.full((*grass.shape, 3), look.soil, np.float32)
    ground *= (1 + 0.07 * texture.slow + 0.05 * texture.patches)[..., None]
    _mix(ground, paved_alpha, _PAVED)
    _mix(ground, grass_alpha, look.grass)
    ground *= (1 - 0.08 * np.abs(texture.paving) * grass_alpha)[..., None]
    _mix(ground, kerb_alpha, _KERB)
    _mix(ground, street_alpha, look.asphalt)
    _mix(ground, dust_alpha * street_alpha, _DUST)
    return ground


def _mix(ground: Float32[np.ndarray, "s s 3"], alpha: Float32[np.ndarray, "s s"], colour: Colour) -> None:
    ground += alpha[..., None] * (np.asarray(colour, np.float32) - ground)


def _inset(block: CityBlock, by: float) -> Float[np.ndarray, "n 2"]:
    middle = block.outline.mean(0)
    away = block.outline - middle
    return middle + away * (1 - by / np.linalg.norm(away, axis=1).min())


def _paint_field(canvas: Canvas, block: CityBlock, look: Look) -> None:
    """Strips of crops with furrows; each season draws its own state of every strip."""
    rng = np.random.default_rng(block.seed)
    outline = _inset(block, 3.0)
    middle = outline.mean(0)
    land, reach = shapely.Polygon(outline), float(np.linalg.norm(outline - middle, axis=1).max())
    along = np.array([np.cos(block.angle), np.sin(block.angle)])
    across = np.array([-along[1], along[0]])
    cuts = np.sort(rng.uniform(-0.5, 0.5, rng.integers(0, 3))) * reach
    for left, right in zip((-reach, *cuts), (*cuts, reach), strict=True):
        crop = look.crops[rng.integers(0, len(look.crops), 2)[int(look.post)]]
        spacing = rng.uniform(1.6, 3.2)
        corners = [middle + a * along + b * across for a, b in ((-reach, left), (reach, left), (reach, right))]
        strip = shapely.Polygon([*corners, middle - reach * along + right * across]).intersection(land)
        if strip.geom_type != "Polygon" or strip.is_empty:
            continue
        canvas.polygon(shapely.get_coordinates(strip), crop)
        for at in np.arange(left, right, spacing):
            furrow = shapely.LineString([middle + k * reach * along + at * across for k in (-1, 1)]).intersection(strip)
            if furrow.geom_type == "LineString" and not furrow.is_empty:
                canvas.line(shapely.get_coordinates(furrow), 0.5, tinted(crop, rng.uniform(0.9, 0.99)))


def _paint_paths(canvas: Canvas, block: CityBlock) -> None:
    rng = np.random.default_rng(block.seed)
    outline = _inset(block, 2.5)
    middle = outline.mean(0) + rng.normal(0, 5, 2)
    colour: Colour = (196, 168, 124) if rng.random() < 0.6 else (182, 176, 166)
    for index in rng.choice(len(outline), 4, replace=False):
        bend = (outline[index] + middle) / 2 + rng.normal(0, 6, 2)
        t = np.linspace(0, 1, 12)[:, None]
        canvas.line((1 - t) ** 2 * middle + 2 * t * (1 - t) * bend + t**2 * outline[index], 2.4, colour)
    canvas.line(np.concatenate([outline, outline[:1]]), 2.0, colour)
    canvas.circle(middle, rng.uniform(5, 9), colour)


def _paint_markings(canvas: Canvas, street: Street) -> None:
    """Dashes along the middle of the wider streets."""
    if street.width < 10:
        return
    for a, b in zip(street.line[:-1], street.line[1:], strict=True):
        canvas.line(np.array([a, a + 0.45 * (b - a)]), 0.3, (190, 188, 182))
