"""Labels that exist already become edits of a pair: polygons with an attribute, masks, what a network mapped."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.features import shapes as outlines_of
from shapely.geometry.base import BaseGeometry

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import INVALID, UNKNOWN, Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import STATES, Edit, Label, Store
from jaxcd.labelling.store.geometry import checked
from jaxcd.labelling.store.objects import FOOTPRINT, IMPORTED
from jaxcd.labelling.store.objects import UNKNOWN as UNKNOWN_LEVEL
from jaxcd.scenes.polygons import read_frame, texts_of
from jaxcd.scenes.raster import read_mask
from jaxcd.scenes.reader import read_band
from jaxcd.scenes.windows import Grid
from jaxcd.sources.labels import check_size, codes_of_mask

_MASKS = (".tif", ".tiff", ".png")
_OVERLAP = 0.5  # of the smaller one of an outline and a footprint, from which they are the same building
_LEVEL = "level"

Known = list[tuple[BaseGeometry, str]]


def read(
    path: Path, store: Store, pair_id: str, *, attribute: str = "", values: Mapping[str, str] | None = None
) -> tuple[list[Edit], list[str]]:
    """Read labels for a pair; nothing is saved.

    A footprint takes the level of the outline that covers most of it; an outline on no footprint becomes an object of
    its own. A footprint that is judged keeps its label.

    Args:
        path: GeoJSON, GeoPackage, Shapefile or GeoParquet; or a mask (GeoTIFF, PNG) of codes of the store's scale.
        store: the store.
        pair_id: the pair.
        attribute: the one with the level; empty: `level` if the file has it, else every polygon is damaged.
        values: levels or states by values of the attribute; a value that is a level's or state's name needs none.

    Returns:
        Edits for `Store.save`, and remarks on what was left out.

    Raises:
        LabelError: unreadable, without a reference system where one is needed, or values that are no levels.
        ImageError: a mask that cannot be read, or of another size than the pair.
    """
    pair = store.pairs[pair_id]
    left_out: list[str] = []
    if path.suffix.lower() in _MASKS:
        known = _of_mask(path, pair, store.scale)
    else:
        known, left_out = _of_polygons(path, pair, store.scale, attribute, values or {})
    sound: Known = []
    for outline, level in known:
        try:
            sound.append((checked(outline, pair.bounds, path.name), level))
        except LabelError as error:
            left_out.append(str(error))
    objects, _ = store.objects(pair_id, pair.bounds, viewer=None, limit=2**62)
    return _edits(sound, objects, store.id, left_out), left_out


def _of_mask(path: Path, pair: Pair, scale: Scale) -> Known:
    if pair.epsg is None:
        mask = read_mask(path)
        check_size(path, mask.shape, Path(pair.post[0]), (pair.height, pair.width))
        valid = np.ones(mask.shape, bool)
    else:
        crs = CRS.from_epsg(pair.epsg)
        mask, valid = read_band(
            str(path), Grid(crs=crs, transform=pair.transform, height=pair.height, width=pair.width)
        )
        mask = np.where(valid, mask, 0).astype(np.uint8)
    codes = codes_of_mask(path, mask, scale)
    wanted = valid & (codes > 0) & (codes != INVALID)
    return [
        (shapely.geometry.shape(outline), UNKNOWN_LEVEL if code == UNKNOWN else scale.levels[int(code) - 1])
        for outline, code in outlines_of(codes, mask=wanted, transform=pair.transform)
    ]


def _of_polygons(
    path: Path, pair: Pair, scale: Scale, attribute: str, values: Mapping[str, str]
) -> tuple[Known, list[str]]:
    frame, notes = read_frame(path)
    names = (*scale.levels, *STATES)
    wrong = sorted(set(values.values()) - set(names))
    if wrong:
        raise LabelError(f"{wrong[0][:40]!r} is no level; expected {', '.join(names)}")
    attribute = attribute or (_LEVEL if _LEVEL in frame.columns else "")
    if attribute and attribute not in frame.columns and len(frame):
        there = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
        raise LabelError(f"{path.name}: no attribute {attribute!r}; it has {there}")
    outlines = frame.geometry if pair.epsg is None else frame.geometry.to_crs(pair.epsg)
    if not attribute:
        return [(outline, scale.levels[scale.damaged - 1]) for outline in outlines], list(notes)
    texts = texts_of(frame, attribute)
    meanings = {name: name for name in names} | dict(values)
    other = sorted({text for text in texts if text is not None} - set(meanings))
    if other:
        raise LabelError(
            f"{path.name}: {attribute!r} is {other[0][:40]!r}, expected {', '.join(names)}; say what it means "
            f"({other[0][:40]}=LEVEL)"
        )
    found = [(outline, meanings[text]) for outline, text in zip(outlines, texts, strict=True) if text is not None]
    missing = len(frame) - len(found)
    return found, [*notes, *([f"{missing} polygons without a value of {attribute!r}"] if missing else [])]


def _edits(known: Known, objects: list[Label], store_id: str, left_out: list[str]) -> list[Edit]:
    """Match outlines with footprints; the rest become objects, each with an id that follows from its outline."""
    footprints = [(label, label.geometry) for label in objects if label.origin == FOOTPRINT and label.geometry]
    there = {label.object for label in objects}
    best: dict[int, tuple[float, str]] = {}
    edits, twice, judged = [], 0, 0
    tree = shapely.STRtree([outline for _, outline in footprints]) if footprints else None
    for outline, level in known:
        near = [] if tree is None else tree.query(outline, predicate="intersects").tolist()
        matched = False
        for i in near:
            footprint = footprints[i][1]
            shared = shapely.intersection(outline, footprint).area
            if shared > _OVERLAP * min(outline.area, footprint.area):
                matched = True
                best[i] = max(best.get(i, (0.0, "")), (shared, level))
        if not matched:
            name = f"d-{uuid.uuid5(uuid.UUID(store_id), shapely.to_wkb(outline, hex=True))}"
            if name in there:
                twice += 1
                continue
            there.add(name)
            edits.append(Edit(object=name, base=0, level=level, geometry=outline, origin=IMPORTED))
    for i, (_, level) in sorted(best.items()):
        label = footprints[i][0]
        if label.level is not None:
            judged += 1
            continue
        edits.append(Edit(object=label.object, base=label.version, level=level))
    left_out += [f"{twice} outlines that are there already"] if twice else []
    left_out += [f"{judged} footprints that are judged already"] if judged else []
    return edits
