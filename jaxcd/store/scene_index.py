"""Writes what a build of scenes found: indexes of tiles and of label polygons (GeoParquet), and a contact sheet."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import pandas as pd
import shapely
from PIL import Image, ImageDraw

from jaxcd.base.files import replacing
from jaxcd.base.scales import Scale
from jaxcd.config import ScenesConfig
from jaxcd.scenes.catalogue import RASTERS
from jaxcd.scenes.reader import read_band
from jaxcd.scenes.windows import DEGREES, tile_windows
from jaxcd.sources.from_scenes.layers import names_of_codes, read_labels
from jaxcd.sources.from_scenes.plan import PlannedPlace
from jaxcd.sources.from_scenes.tiles import THUMBNAIL, tile_id
from jaxcd.store.staging import StagedPlace

TILES = "tiles.parquet"
POLYGONS = "polygons.parquet"
SHEET = "contact_sheet.png"

_GLANCE = 256  # longest side in pixels of the decimated scene on which a mask is looked for
_ACROSS = 6  # pairs in a row of the sheet
_EACH = 18  # pairs in a section of the sheet
_GAP, _CAPTION, _HEAD = 6, 14, 26
_KEPT, _DROPPED = (60, 160, 80), (200, 70, 60)
_DECIDES = {"black": "black", "snow": "brightness", "variance": "variance", "overlap": "valid", "no data": "valid"}


def write_tiles(staged: Sequence[StagedPlace], path: Path) -> gpd.GeoDataFrame:
    """Write the index of tiles: one row per image of a tile, with its statistics, and whether it is kept or why not.

    Columns: tile, place, index, kept_tile; image, when, date, black, brightness, variance, valid (as docs/method.md
    defines them), shift_rows, shift_columns (pixels), kept, reason, decimated (judged by the overview alone); geometry:
    the tile's outline in degrees.
    """
    rows, outlines = [], []
    for each in staged:
        tile = each.more["tile"]
        for image in each.more["images"]:
            rows.append(
                {"tile": tile["id"], "place": tile["place"], "index": tile["index"], "kept_tile": tile["kept"]} | image
            )
            outlines.append(shapely.box(*tile["bounds"]))
    frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=outlines, crs=DEGREES.to_wkt())
    _write(frame, path)
    return frame


def is_unreadable(reason: str) -> bool:
    """Say whether a reason is an error of reading rather than a filter."""
    return bool(reason) and reason not in _DECIDES


def reasons(staged: Sequence[StagedPlace]) -> dict[str, int]:
    """Count the dropped tiles by reason: that of the first image of the side, pre or post, that has none left."""
    counts: Counter[str] = Counter()
    for each in staged:
        if not each.more["tile"]["kept"]:
            counts[_why(each)] += 1
    return dict(sorted(counts.items()))


def write_polygons(
    planned: Sequence[PlannedPlace], scenes: ScenesConfig, scale: Scale, kept: set[str], path: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the label polygons of kept tiles, one row per polygon and tile, and count all polygons.

    Columns: tile, place, file, row (of the polygon in its file), label (damage, intact or unknown; where the scale has
    levels, a level's name or "unknown level"); geometry: the whole polygon in degrees.

    Returns:
        Remarks on reading the polygons, and how many polygons lie in kept tiles, in dropped tiles only, and outside of
        all tiles.
    """
    frames, notes, names = [], Counter(), names_of_codes(scale)
    where: dict[tuple[str, object], str] = {}
    for each in planned:
        for file in each.label_files:
            if Path(file).suffix.lower() in RASTERS:
                coarse = each.grid.coarser(max(1, max(each.grid.shape) // _GLANCE))
                if not read_band(file, coarse)[1].any():
                    notes[f"{Path(file).name}: lies outside of its scene, which stays unlabelled"] += 1
                continue
            found = read_labels(file, each.grid.crs, scenes, scale)
            notes.update(set(found.notes))
            for row in found.rows:
                where.setdefault((file, row), "outside of all scenes")
            for window in tile_windows(each.grid, scenes.tile, edges=scenes.edges):
                over = found.over(each.grid.part(window))
                tile = tile_id(each.place, window)
                for row in found.rows[over]:
                    if where[file, row] != "in kept tiles":
                        where[file, row] = "in kept tiles" if tile in kept else "in dropped tiles only"
                if tile in kept and over.size:
                    values = {"tile": tile, "place": each.place.id, "file": Path(file).name}
                    frame = gpd.GeoDataFrame(
                        values | {"row": found.rows[over], "label": [names[code] for code in found.codes[over]]},
                        geometry=found.outlines[over],
                        crs=each.grid.crs.to_wkt(),
                    )
                    frames.append(frame.to_crs(DEGREES.to_wkt()))
    if frames:
        _write(gpd.GeoDataFrame(pd.concat(frames, ignore_index=True)), path)
    return dict(notes), dict(Counter(where.values()))


def write_sheet(staged: Sequence[StagedPlace], scenes: ScenesConfig, path: Path) -> None:
    """Draw kept and dropped tiles, pre beside post, those nearest to the deciding threshold first."""
    sections: dict[str, list[tuple[float, StagedPlace]]] = {"kept": []}
    for each in sorted(staged, key=lambda place: place.more["tile"]["id"]):
        reason = "kept" if each.more["tile"]["kept"] else _why(each)
        sections.setdefault(reason, []).append((_distance(each, reason, scenes), each))
    drawn = [(name, sorted(found, key=lambda item: item[0])) for name, found in sections.items() if found]
    cell = 2 * THUMBNAIL + _GAP
    width = _GAP + _ACROSS * (cell + _GAP)
    heights = [_HEAD + -(-min(len(found), _EACH) // _ACROSS) * (THUMBNAIL + _CAPTION + _GAP) for _, found in drawn]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), (24, 24, 28))
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (name, found), height in zip(drawn, heights, strict=True):
        colour = _KEPT if name == "kept" else _DROPPED
        more = f", {_EACH} nearest to the threshold shown" if len(found) > _EACH else ""
        title = f"{name}: {len(found)} tiles{more}{_limit(name, scenes)}"
        pen.text((_GAP, top + 8), title, fill=colour)
        for k, (_, each) in enumerate(found[:_EACH]):
            left = _GAP + k % _ACROSS * (cell + _GAP)
            y = top + _HEAD + k // _ACROSS * (THUMBNAIL + _CAPTION + _GAP)
            for i, when in enumerate(("pre", "post")):
                content = each.picture(f"thumbnail/{when}")
                x = left + i * (THUMBNAIL + 2)
                if content is not None:
                    sheet.paste(Image.open(io.BytesIO(content)), (x, y))
                pen.rectangle((x, y, x + THUMBNAIL - 1, y + THUMBNAIL - 1), outline=colour)
            pen.text((left, y + THUMBNAIL + 1), _caption(each, name), fill=(190, 190, 190))
        top += height
    content = io.BytesIO()
    sheet.save(content, "PNG")
    with replacing(path) as partial:
        partial.write_bytes(content.getvalue())


def _why(each: StagedPlace) -> str:
    images = each.more["images"]
    for when in ("pre", "post"):
        own = [image for image in images if image["when"] == when]
        if not any(image["kept"] for image in own):
            reason = own[0]["reason"]
            return reason if reason in _DECIDES else "unreadable"
    raise ValueError("a kept tile")


def _deciding(each: StagedPlace, reason: str) -> float:
    name = _DECIDES[reason]
    return float(next(image[name] for image in each.more["images"] if image["reason"] == reason))


def _distance(each: StagedPlace, reason: str, scenes: ScenesConfig) -> float:
    """Return how far a tile is from the threshold at which it would be decided otherwise."""
    images = each.more["images"]
    if reason == "kept":
        seen = [image for image in images if image["kept"]]
        black = min(1 - image["black"] / max(scenes.black, 1e-9) for image in seen)
        variance = min(image["variance"] / max(scenes.variance, 1e-9) - 1 for image in seen)
        return min(black, variance, *(1 - image["brightness"] / max(scenes.snow, 1e-9) for image in seen))
    if reason not in _DECIDES:
        return 0.0
    limit = {"black": scenes.black, "snow": scenes.snow, "variance": scenes.variance}.get(reason, scenes.valid)
    return abs(_deciding(each, reason) - limit)


def _limit(name: str, scenes: ScenesConfig) -> str:
    return {
        "black": f" (share of black pixels above --black {scenes.black:g})",
        "snow": f" (mean of R + G + B above --snow {scenes.snow:g})",
        "variance": f" (variance of the grey value below --variance {scenes.variance:g})",
        "no data": f" (share with data below --valid {scenes.valid:g})",
        "overlap": f" (share seen before and after below --valid {scenes.valid:g})",
    }.get(name, "")


def _caption(each: StagedPlace, name: str) -> str:
    tile = each.more["tile"]["id"]
    tile = tile if len(tile) < 22 else f"…{tile[-20:]}"
    return f"{tile}  {_deciding(each, name):.4g}" if name in _DECIDES else tile


def _write(frame: gpd.GeoDataFrame, path: Path) -> None:
    with replacing(path) as partial:
        frame.to_parquet(partial)
