"""A small scene with houses as a source of tiles, and `jaxcd.prepare` on it."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine

from jaxcd.prepare import main
from tests.scenes.scene_files import ORIGIN, UTM, ground, write

PRE, POST = ground(1, 200, 300), ground(2, 200, 300)


def prepare(source: Path, out: Path, *more: str) -> int:
    return main(["--layout", "scenes", "--source", str(source), "--out", str(out), "--tile", "128", *more])


def house(row: float, column: float, size: float = 20) -> shapely.Polygon:
    """A square of pixels, in coordinates."""
    x, y = ORIGIN[0] + column * 0.5, ORIGIN[1] - row * 0.5
    return shapely.box(x, y - size * 0.5, x + size * 0.5, y)


def town(folder: Path, houses=None, *, post: np.ndarray = POST, transform: Affine | None = None, **columns) -> Path:
    write(folder / "town" / "pre.tif", PRE)
    write(folder / "town" / "post.tif", post, transform)
    found = [house(10, 10), house(150, 250)] if houses is None else houses
    frame = gpd.GeoDataFrame(columns, geometry=found, crs=UTM).to_crs(4326)
    frame.to_file(folder / "town" / "damage.geojson")
    return folder


def error(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]
