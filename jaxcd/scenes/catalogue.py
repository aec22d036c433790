"""Finds the scenes of a source: in folders, in Maxar's index of an event, in STAC items. It reads no pixels."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shapely
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_geom

from jaxcd.base.errors import ImageError, SceneError
from jaxcd.scenes.dates import date_in
from jaxcd.scenes.raster import header, is_remote
from jaxcd.scenes.windows import DEGREES, footprint_of, pixel_metres

PRE, POST = "pre", "post"
RASTERS = (".tif", ".tiff")
VECTORS = (".geojson", ".gpkg", ".shp", ".json", ".parquet")
_MASK_NAMES = ("mask", "label", "labels", "damage")
_CATALOGUES = (".tsv", ".json", ".geojson")
_EXPECTED = (
    "expected folders of places with pre*.tif and post*.tif, or two folders pre and post, or files with dates in their "
    "names and --event_date"
)
_QUADKEY = re.compile(r"[0-3]{12}")
_VISUAL_ASSETS = ("visual", "rgb", "image", "data")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A georeferenced image that lies in a folder or is listed in a catalogue.

    Attributes:
        location: path or URL.
        when: pre or post.
        date: YYYY-MM-DD, or "" where unknown.
        place: name of its place in the source (a folder or a quadkey), or "".
        footprint: outline in degrees.
        metres: side of a pixel in metres, or 0 if the catalogue does not hold it.
        off_nadir: angle in degrees, or None if unknown.
        clouds: cloud cover in percent, or None if unknown.
        catalog_id: id of the acquisition in the catalogue, or "".
        label: path of its label file, or "".
    """

    location: str
    when: str
    date: str = ""
    place: str = ""
    footprint: shapely.geometry.base.BaseGeometry
    metres: float = 0.0
    off_nadir: float | None = None
    clouds: float | None = None
    catalog_id: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """Short name; two scenes of a place may share it."""
        return f"{self.date}_{self.catalog_id}" if self.catalog_id else Path(self.location).stem


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The scenes of a source, and the files and catalogue rows that were left out, each with the reason."""

    scenes: tuple[Scene, ...]
    left_out: tuple[tuple[str, str], ...]


def find_scenes(source: str, event_date: str, *, labelled: bool = True) -> Catalogue:
    """List the scenes of a source.

    A folder holds places (folders with `pre*.tif` and `post*.tif`), or two folders `pre` and `post`, or rasters with
    a date in their names or folders, at any depth. A file is Maxar's index of an event (.tsv), or a STAC item, item
    collection or catalogue (.json).

    Args:
        source: folder or file.
        event_date: YYYY-MM-DD; scenes before it are pre, those of that day and later are post. It is needed unless
            the names of folders or files say pre and post.
        labelled: whether to search for label files beside the scenes.

    Raises:
        SceneError: the source is none of these, it holds no scene, or `event_date` is needed and is no date.
    """
    path = Path(source)
    if path.is_file() and path.suffix.lower() in _CATALOGUES:
        _checked_date(event_date, source)
        found = _from_maxar_index(path, event_date) if path.suffix.lower() == ".tsv" else _from_stac(path, event_date)
    elif path.is_dir():
        if all((path / name).is_dir() for name in (PRE, POST)):
            found = _from_pre_and_post(path, labelled)
        elif any(_rasters_named(folder, when) for folder in (path, *_folders(path)) for when in (PRE, POST)):
            found = _from_place_folders(path, labelled)
        else:
            found = _from_dated_files(path, event_date)
    else:
        raise SceneError(
            f"{source}: expected a folder of scenes, or a catalogue ({', '.join(_CATALOGUES)}); check the path"
        )
    if not found.scenes:
        reasons = "; ".join(f"{where}: {reason}" for where, reason in found.left_out[:2])
        raise SceneError(f"{source}: holds no scene{f' ({reasons})' if reasons else ''}; {_EXPECTED}")
    return found


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _walk(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _rasters(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in RASTERS and not file.name.startswith(".")
    )


def _rasters_named(folder: Path, when: str) -> list[Path]:
    """List the rasters of a folder that are named after `when` (pre or post), such as pre_2022-05-01.tif."""
    return [file for file in _rasters(folder) if re.fullmatch(rf"{when}([-_. ].*)?", file.stem.lower())]


def _from_place_folders(source: Path, labelled: bool) -> Catalogue:
    left_out: list[tuple[str, str]] = []
    scenes: list[Scene] = []
    places = [source] if any(_rasters_named(source, when) for when in (PRE, POST)) else _folders(source)
    for folder in places:
        label = _label_in(folder) if labelled else ""
        for when in (PRE, POST):
            for file in _rasters_named(folder, when):
                fields = {"date": date_in(file.stem), "place": folder.name, "label": label if when == POST else ""}
                _add_scene(scenes, left_out, str(file), when=when, **fields)
        listed = {Path(scene.location) for scene in scenes} | {Path(where) for where, _ in left_out} | {Path(label)}
        left_out += [
            (str(file), "named neither pre*.tif nor post*.tif") for file in _rasters(folder) if file not in listed
        ]
    return Catalogue(scenes=tuple(scenes), left_out=tuple(left_out))


def _label_in(folder: Path) -> str:
    """Find the label file in a place's folder, or return "".

    Raises:
        SceneError: several files could be the label file.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    label_files = [
        file
        for file in files
        if file.suffix.lower() in VECTORS or (file.suffix.lower() in RASTERS and file.stem.lower() in _MASK_NAMES)
    ]
    if len(label_files) > 1:
        names = ", ".join(file.name for file in label_files)
        raise SceneError(f"{folder}: several files could hold the labels ({names}); keep one, or name it with --labels")
    return str(label_files[0]) if label_files else ""


def _from_pre_and_post(source: Path, labelled: bool) -> Catalogue:
    left_out: list[tuple[str, str]] = []
    scenes: list[Scene] = []
    labels = {}
    for name in _MASK_NAMES + tuple(f"{name}s" for name in _MASK_NAMES):
        if labelled and (source / name).is_dir():
            labels |= {file.stem: str(file) for file in sorted((source / name).iterdir()) if file.is_file()}
    for when in (PRE, POST):
        for file in _rasters(source / when):
            label = labels.pop(file.stem, "") if when == POST else ""
            _add_scene(scenes, left_out, str(file), when=when, date=date_in(file.stem), label=label)
    suffixes = (*VECTORS, *RASTERS)
    left_out += [
        (label, f"no post scene named {stem!r}") for stem, label in labels.items() if label.lower().endswith(suffixes)
    ]
    return Catalogue(scenes=tuple(scenes), left_out=tuple(left_out))


def _from_dated_files(source: Path, event_date: str) -> Catalogue:
    left_out: list[tuple[str, str]] = []
    scenes: list[Scene] = []
    for file in _walk(source):
        if file.suffix.lower() not in RASTERS:
            continue
        inside = file.relative_to(source)
        date = date_in(file.stem) or date_in(str(inside.parent))
        if not date:
            left_out.append((str(file), "no date (YYYY-MM-DD or YYYYMMDD) in its name or folders"))
            continue
        when = PRE if date < _checked_date(event_date, str(source)) else POST
        quadkey = next((part for part in (*inside.parts[:-1], *file.stem.split("_")) if _QUADKEY.fullmatch(part)), "")
        _add_scene(scenes, left_out, str(file), when=when, date=date, place=quadkey)
    return Catalogue(scenes=tuple(scenes), left_out=tuple(left_out))


def _add_scene(scenes: list[Scene], left_out: list[tuple[str, str]], location: str, **fields: Any) -> None:
    """Add a file to `scenes`; if it can't be read or has no location, add it to `left_out` with the reason."""
    try:
        found = header(location)
        if found.crs is None or found.transform is None:
            raise SceneError("it has no reference system, so its location is unknown; set one with gdal_edit")
        shape = found.height, found.width
        outline = footprint_of(found.crs, found.transform, *shape)
        scenes.append(
            Scene(
                location=location, footprint=outline, metres=pixel_metres(found.crs, found.transform, *shape), **fields
            )
        )
    except (ImageError, SceneError) as error:
        left_out.append((location, str(error).removeprefix(f"{location}: ")))


def _checked_date(event_date: str, source: str) -> str:
    if date_in(event_date) != event_date or not event_date:
        given = f"--event_date {event_date!r} is no date" if event_date else "--event_date is missing"
        raise SceneError(
            f"{source}: {given}; give it as YYYY-MM-DD: scenes before that day are pre, all others are post"
        )
    return event_date


def _from_maxar_index(path: Path, event_date: str) -> Catalogue:
    """Read Maxar Open Data's index of an event: it has one row for each acquisition of a quadkey."""
    left_out: list[tuple[str, str]] = []
    scenes = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SceneError(f"{path}: not UTF-8 text; is it Maxar's index of an event?") from error
    with io.StringIO(text, newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        wanted = ("datetime", "quadkey", "catalog_id", "proj:epsg", "proj:bbox", "visual")
        missing = [name for name in wanted if name not in (rows.fieldnames or ())]
        if missing:
            raise SceneError(f"{path}: lacks the column {missing[0]!r}; is it Maxar's index of an event?")
        for number, row in enumerate(rows, start=2):
            try:
                date = row["datetime"][:10]
                west, south, east, north = (float(value) for value in row["proj:bbox"].split(","))
                outline = _in_degrees(shapely.box(west, south, east, north), int(row["proj:epsg"]))
                if not row["visual"] or date_in(date) != date:
                    raise ValueError("no URL or no date")
                scenes.append(
                    Scene(
                        location=_resolved(path, row["visual"]),
                        when=PRE if date < event_date else POST,
                        date=date,
                        place=row["quadkey"],
                        footprint=outline,
                        metres=float(row.get("gsd") or 0),
                        off_nadir=_number_or_none(row.get("view:off_nadir")),
                        clouds=_number_or_none(row.get("tile:clouds_percent")),
                        catalog_id=row["catalog_id"],
                    )
                )
            except (ValueError, TypeError, AttributeError, RasterioError) as error:
                left_out.append((f"{path}:{number}", f"not a valid row of Maxar's index ({error})"))
    return Catalogue(scenes=tuple(scenes), left_out=tuple(left_out))


def _from_stac(path: Path, event_date: str) -> Catalogue:
    """Read a STAC item, an item collection, or all items of a catalogue and its children."""
    import pystac  # imported here because only STAC catalogues need it

    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        kind = content.get("type")
        if kind == "FeatureCollection":
            items: Iterable[Any] = pystac.ItemCollection.from_dict(content).items
        elif kind == "Feature":
            items = [pystac.Item.from_file(str(path))]
        else:
            items = list(pystac.Catalog.from_file(str(path)).get_items(recursive=True))
    except (ValueError, KeyError, TypeError, OSError, pystac.errors.STACError, pystac.STACTypeError) as error:
        raise SceneError(
            f"{path}: neither a STAC item, nor a collection or catalogue of them ({error}); check it"
        ) from error
    left_out: list[tuple[str, str]] = []
    scenes = []
    for item in items:
        asset = next((item.assets[key] for key in _VISUAL_ASSETS if key in item.assets), None)
        moment = item.datetime or item.common_metadata.start_datetime
        if asset is None or moment is None or item.geometry is None:
            lacks = (
                f"asset named {', '.join(_VISUAL_ASSETS[:-1])} or {_VISUAL_ASSETS[-1]}"
                if asset is None
                else "datetime"
                if moment is None
                else "geometry"
            )
            left_out.append((item.id, f"the STAC item has no {lacks}"))
            continue
        date, properties = moment.date().isoformat(), item.properties
        try:
            outline = shapely.geometry.shape(item.geometry)
        except (ValueError, TypeError, KeyError, AttributeError, shapely.errors.ShapelyError) as error:
            left_out.append((item.id, f"the STAC item's geometry is invalid ({error})"))
            continue
        scenes.append(
            Scene(
                location=_resolved(path, asset.get_absolute_href() or asset.href),
                when=PRE if date < event_date else POST,
                date=date,
                place=str(properties.get("quadkey") or ""),
                footprint=outline,
                metres=float(properties.get("gsd") or 0),
                off_nadir=_number_or_none(properties.get("view:off_nadir")),
                clouds=_number_or_none(properties.get("tile:clouds_percent", properties.get("eo:cloud_cover"))),
                catalog_id=str(properties.get("catalog_id") or item.id),
            )
        )
    return Catalogue(scenes=tuple(scenes), left_out=tuple(left_out))


def _resolved(catalogue: Path, location: str) -> str:
    """Resolve a relative path against the folder of the catalogue that names it."""
    return location if is_remote(location) else str(catalogue.parent / location)


def _in_degrees(outline: shapely.Polygon, epsg: int) -> shapely.geometry.base.BaseGeometry:
    geometry = transform_geom(CRS.from_epsg(epsg), DEGREES, shapely.geometry.mapping(outline))
    return shapely.geometry.shape(geometry)


def _number_or_none(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
