"""A seeded pre/post pair of a damaged town, georeferenced, with its damage mask and footprints.

The pair is hard for a plain comparison of pixels: season, light, view, vehicles, camps and new roofs change far more of
them than the event does. Rubble differs from all else by its texture.
"""

import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from affine import Affine
from jaxtyping import UInt8
from rasterio.crs import CRS
from rasterio.features import rasterize

from jaxcd.base.errors import DatasetError
from jaxcd.base.files import write_whole
from jaxcd.scenes.raster import read_mask, read_rgb, write_geotiff
from jaxcd.simulator.ground import grow_texture
from jaxcd.simulator.look import summer, winter
from jaxcd.simulator.render import MARGIN, render
from jaxcd.simulator.rubble import Heap, heap_of
from jaxcd.simulator.town import COLLAPSED, NEW, Town, lay_out

CRS_CODE = 32637  # UTM 37 N
_ORIGIN = (432_000.0, 4_178_000.0)
_APART = 20_000.0  # metres between the scenes of two seeds: their tiles never meet in one spatial block


@dataclass(frozen=True, kw_only=True)
class SimulatedScene:
    """The files of a simulated scene; all share one grid.

    Attributes:
        pre, post: RGB GeoTIFFs.
        mask: one band, 1 where there is rubble, else 0.
        footprints: GeoPackage of the buildings before the event, with `damage` (1 collapsed, 0 not), `kind`, `height`.
    """

    pre: Path
    post: Path
    mask: Path
    footprints: Path


def simulate(out: Path, *, seed: int, size: int = 2048, gsd: float = 0.5) -> SimulatedScene:
    """Make a scene.

    Args:
        out: folder for the files; made where missing.
        seed: the same seed gives the same pixels.
        size: side in pixels. Below 256 metres a scene holds too few buildings to guarantee that one collapsed.
        gsd: metres a pixel.

    Returns:
        The files written, each whole or not at all.

    Raises:
        DiskFullError: no space left.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan, painting, before, after = (np.random.default_rng((seed, part)) for part in range(4))
    town = lay_out(plan, size * gsd)
    heaps = tuple(heap_of(b) for b in town.buildings if b.fate == COLLAPSED)
    texture = grow_texture(painting, size + 2 * MARGIN, gsd)
    looks = summer(painting), winter(painting)
    transform = Affine(gsd, 0, _ORIGIN[0] + _APART * (seed % 10), 0, -gsd, _ORIGIN[1] + _APART * (seed // 10 % 10))
    crs = CRS.from_epsg(CRS_CODE)
    scene = SimulatedScene(
        pre=out / "pre.tif", post=out / "post.tif", mask=out / "mask.tif", footprints=out / "footprints.gpkg"
    )
    for path, look, rng in zip((scene.pre, scene.post), looks, (before, after), strict=True):
        image = render(town, heaps, look, texture, gsd=gsd, rng=rng)
        write_geotiff(path, image, transform=transform, crs=crs)
    write_geotiff(scene.mask, _damage(town, heaps, size, gsd), transform=transform, crs=crs)
    write_whole(scene.footprints, _footprints(town, transform))
    return scene


def _damage(town: Town, heaps: tuple[Heap, ...], size: int, gsd: float) -> UInt8[np.ndarray, "h w"]:
    """Rubble on the grid of the pre image, less what stands in front of it."""
    grid = {"out_shape": (size, size), "transform": Affine.scale(gsd), "dtype": np.uint8}
    rubble = rasterize([(heap.outline, 1) for heap in heaps], **grid)
    walls = [(shapely.Polygon(w), 1) for b in town.buildings if b.fate != COLLAPSED for w in b.wings]
    return np.where(rasterize(walls, **grid), 0, rubble).astype(np.uint8)


def _footprints(town: Town, transform: Affine) -> bytes:
    """A GeoPackage of the buildings that stood before the event and reach into the scene."""
    rows, corner = [], np.array([transform.c, transform.f])
    for building in town.buildings:
        outline = shapely.union_all([shapely.Polygon(wing) for wing in building.wings])
        if building.fate == NEW or not outline.intersects(shapely.box(0, 0, town.extent, town.extent)):
            continue
        placed = shapely.transform(outline, lambda p: corner + p * (1, -1))
        damage = int(building.fate == COLLAPSED)
        rows.append({"geometry": placed, "damage": damage, "kind": building.kind, "height": building.height})
    frame = geopandas.GeoDataFrame(rows, geometry="geometry", crs=CRS_CODE)
    content = BytesIO()
    pyogrio.write_dataframe(frame, content, driver="GPKG", layer="footprints")
    return content.getvalue()


def cut_tiles(scene: SimulatedScene, out: Path, *, tile: int) -> None:
    """Cut a scene into georeferenced tiles in the folders layout, A/, B/ and label/, with equal names.

    Tiles don't overlap and cover the scene; those at the right and lower edge are smaller where `tile` doesn't divide
    its sides. Labels are 0 and 255.

    Args:
        scene: a simulated scene.
        out: folder to make; it appears complete or not at all.
        tile: side in pixels.

    Raises:
        DatasetError: `out` exists.
        DiskFullError: no space left.
        ImageError: a file of the scene cannot be read.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already, expected a new folder for the tiles; remove it or name another")
    before, after = read_rgb(scene.pre), read_rgb(scene.post)
    layers = {"A": before.pixels, "B": after.pixels, "label": read_mask(scene.mask) * np.uint8(255)}
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for folder, array in layers.items():
            (partial / folder).mkdir(parents=True)
            for row, top in enumerate(range(0, array.shape[0], tile)):
                for column, left in enumerate(range(0, array.shape[1], tile)):
                    write_geotiff(
                        partial / folder / f"r{row:02d}_c{column:02d}.tif",
                        array[top : top + tile, left : left + tile],
                        transform=before.transform @ Affine.translation(left, top),
                        crs=before.crs,
                    )
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
