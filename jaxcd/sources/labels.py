"""Turns label files (polygons of xBD, masks) into label rasters that hold the codes of a scale."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import shapely
from affine import Affine
from jaxtyping import UInt8
from rasterio.features import rasterize

from jaxcd.base.errors import ImageError, LabelError
from jaxcd.base.scales import DAMAGE, INTACT, INVALID, UNKNOWN, XBD, Scale
from jaxcd.config import XBD_LEVELS
from jaxcd.scenes.raster import read_mask
from jaxcd.sources.places import LabelRules

_UNCLASSIFIED = "un-classified"


@dataclass(frozen=True, kw_only=True)
class LabelledBuilding:
    """A building with its damage level: its outline in pixels, and in degrees if the file holds that."""

    outline: shapely.Geometry
    level: str
    outline_degrees: shapely.Geometry | None


@dataclass(frozen=True, kw_only=True)
class XbdLabel:
    """The content of an xBD label file.

    Attributes:
        buildings: every building of the tile.
        date: acquisition time as in the file, or "".
        size: height and width of the labelled image, or None if the file does not hold them.
    """

    buildings: tuple[LabelledBuilding, ...]
    date: str
    size: tuple[int, int] | None


def read_xbd(path: Path) -> XbdLabel:
    """Read an xBD label file (`*_post_disaster.json`).

    Raises:
        LabelError: the file is not JSON, or a field is missing or has another type or value; the message names it.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise LabelError(f"{path}: not JSON ({error}); copy or export it anew") from error
    degrees = {}
    for i in range(len(_field(path, content, "features", "lng_lat", kind=list, default=[]))):
        uid = _field(path, content, "features", "lng_lat", i, "properties", "uid", kind=str, default="")
        degrees[uid] = _geometry(path, content, "features", "lng_lat", i, "wkt")
    buildings = []
    for i in range(len(_field(path, content, "features", "xy", kind=list))):
        level = _field(path, content, "features", "xy", i, "properties", "subtype", kind=str)
        if level not in (*XBD_LEVELS, _UNCLASSIFIED):
            levels = ", ".join((*XBD_LEVELS, _UNCLASSIFIED))
            raise LabelError(f"{path}: features.xy[{i}].properties.subtype is {level!r}, expected one of {levels}")
        uid = _field(path, content, "features", "xy", i, "properties", "uid", kind=str, default="")
        outline = _geometry(path, content, "features", "xy", i, "wkt")
        buildings.append(LabelledBuilding(outline=outline, level=level, outline_degrees=degrees.get(uid)))
    height = _field(path, content, "metadata", "height", kind=int, default=0)
    width = _field(path, content, "metadata", "width", kind=int, default=0)
    return XbdLabel(
        buildings=tuple(buildings),
        date=_field(path, content, "metadata", "capture_date", kind=str, default=""),
        size=(height, width) if height and width else None,
    )


def rasterise_xbd(label: XbdLabel, *, height: int, width: int, rules: LabelRules) -> UInt8[np.ndarray, "h w"]:
    """Draw the buildings of an xBD label as codes of a scale.

    A pixel belongs to an outline that holds its centre. Where outlines overlap, the worse level wins; a building of
    unknown level (un-classified) wins over the levels that do not count as damage.

    Args:
        label: the file's content.
        height: pixels.
        width: pixels.
        rules: the scale (binary, buildings or xbd), and for binary the xBD levels that count as damage.
    """
    codes = _codes_of_levels(rules)
    there = (building for building in label.buildings if not shapely.is_empty(building.outline))
    drawn = [(building.outline, codes[building.level]) for building in there]
    return paint(drawn, rules.scale, shape=(height, width))


def paint(
    shapes: Iterable[tuple[shapely.Geometry, int]],
    scale: Scale,
    *,
    shape: tuple[int, int],
    transform: Affine = Affine.identity(),  # noqa: B008
    outside: int = INTACT,
) -> UInt8[np.ndarray, "h w"]:
    """Draw shapes as codes of a scale.

    A pixel belongs to a shape that holds its centre. Where shapes overlap, the worse level wins; an unknown one
    (UNKNOWN or INVALID) wins over the levels that do not count as damage.

    Args:
        shapes: pairs of a shape and its code.
        scale: scale of the codes.
        shape: height and width in pixels.
        transform: from pixels to the shapes' coordinates; by default these are pixels.
        outside: the code of pixels that belong to no shape.
    """
    # Later shapes paint over earlier ones.
    order = sorted(shapes, key=lambda item: scale.damaged - 0.5 if item[1] in (UNKNOWN, INVALID) else item[1])
    if not order:
        return np.full(shape, outside, np.uint8)
    return rasterize(order, out_shape=shape, fill=outside, dtype="uint8", transform=transform)


def _codes_of_levels(rules: LabelRules) -> dict[str, int]:
    """Return the code of each level that xBD's files name."""
    if not rules.scale.buildings:
        codes = {level: DAMAGE if level in rules.damage_levels else INTACT for level in XBD_LEVELS}
        return codes | {_UNCLASSIFIED: INVALID}
    reading = XBD.read_as(rules.scale)
    assert reading is not None  # `Layout.scales`
    return {level: int(reading[code]) for code, level in enumerate(XBD_LEVELS, start=1)} | {_UNCLASSIFIED: UNKNOWN}


def read_mask_codes(path: Path, scale: Scale) -> UInt8[np.ndarray, "h w"]:
    """Read a mask as codes of a scale.

    Raises:
        ImageError: the file cannot be read as a mask.
        LabelError: as `codes_of_mask`.
    """
    return codes_of_mask(path, read_mask(path), scale)


def codes_of_mask(path: Path, mask: UInt8[np.ndarray, "h w"], scale: Scale) -> UInt8[np.ndarray, "h w"]:
    """Turn the values of a mask into codes of a scale.

    Args:
        path: path of the mask, for the message.
        mask: its values. In the scale `binary`: 0, and 1 or 255 for damage. In other scales: their codes (in the scale
            `xbd` those of xBD's target masks: 0 ground, 1 no damage, 2 minor, 3 major, 4 destroyed), 254 for a building
            of unknown level, 255 for a pixel of unknown class.
        scale: scale of the codes.

    Raises:
        LabelError: the mask holds other values, or in the scale `binary` both 1 and 255.
    """
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    if scale.buildings:
        known = range(len(scale.codes))
        other = [value for value in values if value not in (*known, UNKNOWN, INVALID)]
        if other:
            names = ", ".join(f"{code} ({name})" for code, name in enumerate(scale.codes))
            raise LabelError(
                f"{path}: holds the value {other[0]}, expected {names}, {UNKNOWN} (building of unknown level) or "
                f"{INVALID} (unknown) in the scale {scale.name}; for a mask of damage alone, set the scale binary"
            )
        return mask
    other = [value for value in values if value not in (0, 1, 255)]
    if other:
        given = ", ".join(map(str, other[:6])) + (", ..." if len(other) > 6 else "")
        hint = "; a mask must not be saved as JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else ""
        raise LabelError(f"{path}: holds the values {given}, expected 0 (intact) and 1 or 255 (damaged){hint}")
    if 1 in values and 255 in values:
        raise LabelError(
            f"{path}: holds both 1 and 255, expected one value for damage; decide on one of them and export it anew"
        )
    return np.where(mask > 0, DAMAGE, INTACT).astype(np.uint8)


def check_size(path: Path, size: tuple[int, int], other: Path, other_size: tuple[int, int]) -> None:
    """Check that two files of a pair have one size.

    Raises:
        ImageError: they differ; the message names both files and sizes (height x width).
    """
    if size != other_size:
        raise ImageError(
            f"{path}: {size[0]} x {size[1]} pixels, but {other} has {other_size[0]} x {other_size[1]}; "
            "images and labels of a place must lie on one pixel grid"
        )


def _geometry(path: Path, content: Any, *keys: str | int) -> shapely.Geometry:
    wkt = _field(path, content, *keys, kind=str)
    try:
        geometry = shapely.from_wkt(wkt)
    except shapely.errors.GEOSException as error:
        raise LabelError(f"{path}: {_name(keys)} is not a WKT geometry ({error})") from error
    if geometry.geom_type not in ("Polygon", "MultiPolygon"):
        raise LabelError(f"{path}: {_name(keys)} is a {geometry.geom_type}, expected a polygon")
    return geometry


def _field(path: Path, content: Any, *keys: str | int, kind: type, default: Any = None) -> Any:
    """Return the value that a path of keys leads to; without a default, the field must exist."""
    value = content
    for depth, key in enumerate(keys):
        there = isinstance(value, dict) and key in value or isinstance(value, list) and isinstance(key, int)
        if not there and default is not None:
            return default
        if not there:
            raise LabelError(f"{path}: lacks the field {_name(keys[: depth + 1])}; is it an xBD label?")
        value = cast(Any, value)[key]
    if not isinstance(value, kind):
        raise LabelError(f"{path}: {_name(keys)} is {str(value)[:40]!r}, expected {kind.__name__}")
    return value


def _name(keys: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
