"""Tiles of xBD as scenes, with footprints that tell the truth: for maps whose buildings can be checked.

    python tools/xbd_scenes.py --source DIR --out DIR [--run RUN --split test]

Writes for each tile a folder with `pre.tif`, `post.tif` and `buildings.geojson` (attribute `subtype`), and `list.csv`
for `python -m jaxcd.predict --pairs`. A tile lies where its labels' vertices say; one without buildings has no place
and is left out. With --run only tiles of one of that run's splits.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import shapely
from affine import Affine
from rasterio.transform import from_bounds

from jaxcd.base.entry import guarded
from jaxcd.base.errors import RunError
from jaxcd.base.files import replacing
from jaxcd.runs import run_folder
from jaxcd.scenes.raster import read_rgb, write_geotiff
from jaxcd.scenes.windows import DEGREES
from jaxcd.sources.geolocation import bounds_of_label
from jaxcd.sources.labels import XbdLabel, read_xbd
from jaxcd.sources.layouts import discover
from jaxcd.sources.places import SourcePlace


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/xbd_scenes.py", description="xBD tiles as georeferenced scenes.")
    parser.add_argument("--source", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the scenes and list.csv")
    parser.add_argument("--run", type=Path, help="run whose split names the tiles that are wanted")
    parser.add_argument("--split", default="test", help="train, validation or test (default %(default)s)")
    options = parser.parse_args(argv)
    places = discover("xbd", options.source).places
    if options.run:
        wanted = set(_split(options.run, options.split))
        places = [place for place in places if place.id in wanted]
    if not places:
        raise RunError(f"{options.source}: holds no tile of the {options.split} split of {options.run}")
    options.out.mkdir(parents=True, exist_ok=True)
    names = [place.id for place in places if write(place, options.out / place.id)]
    with replacing(options.out / "list.csv") as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "pre", "post", "footprints"])
        rows.writerows([name, f"{name}/pre.tif", f"{name}/post.tif", f"{name}/buildings.geojson"] for name in names)
    print(f"{options.out / 'list.csv'}: {len(names)} tiles, {len(places) - len(names)} without buildings left out")
    return 0


def write(place: SourcePlace, folder: Path) -> bool:
    """Write a tile as scenes with footprints; False where nothing tells where it lies."""
    before, after = place.pre[0], place.post[0]
    label = read_xbd(after.label)
    images = {when: read_rgb(image.file).pixels for when, image in (("pre", before), ("post", after))}
    height, width = images["pre"].shape[:2]
    bounds = bounds_of_label(label, height=height, width=width)
    if bounds is None:
        return False
    transform = from_bounds(*bounds, width, height)
    folder.mkdir(parents=True, exist_ok=True)
    for when, pixels in images.items():
        write_geotiff(folder / f"{when}.tif", pixels, transform=transform, crs=DEGREES)
    footprints(label, transform).to_file(folder / "buildings.geojson")
    return True


def footprints(label: XbdLabel, transform: Affine) -> gpd.GeoDataFrame:
    """Place a label's buildings by the transform of their tile, each with its level as `subtype`."""
    scale, origin = [transform.a, transform.e], [transform.c, transform.f]
    outlines = shapely.transform([each.outline for each in label.buildings], lambda points: points * scale + origin)
    return gpd.GeoDataFrame({"subtype": [each.level for each in label.buildings]}, geometry=outlines, crs=4326)


def _split(run: Path, name: str) -> list[str]:
    places = run_folder.read_splits(run)
    if name not in places:
        raise RunError(f"{run}: has no split {name!r}; it has {', '.join(places)}")
    return places[name]


if __name__ == "__main__":
    sys.exit(main())
