"""Writes overviews of a build from scenes: indexes of tiles and label polygons (GeoParquet), and a contact sheet."""

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
from jaxcd.sources.from_scenes.tiles import THUMBNAIL, UNLABELLED, tile_id
from jaxcd.store.staging import StagedPlace

TILES = "tiles.parquet"
POLYGONS = "polygons.parquet"
SHEET = "contact_sheet.png"

_COARSE_SIDE = 256  # pixels: a mask is first read decimated to about this side, to see if it covers its place at all
_PAIRS_PER_ROW = 6  # of the contact sheet
_PAIRS_PER_SECTION = 18  # at most
_GAP, _CAPTION, _HEAD = 6, 14, 26
_KEPT, _DROPPED = (60, 160, 80), (200, 70, 60)
_STATISTIC_OF = {"black": "black", "snow": "brightness", "variance": "variance", "overlap": "valid", "no data": "valid"}


def write_tiles(staged: Sequence[StagedPlace], path: Path) -> gpd.GeoDataFrame:
    """Write the index of tiles: one row per image of a tile, with its statistics and the decision of the filters.

    Columns: tile, place, index, kept_tile; image, when, date, black, brightness, variance, valid (as docs/method.md
    defines them), shift_rows, shift_columns (pixels), kept, reason, decimated (judged by the overview alone); geometry:
    the tile's outline in degrees.
    """
    rows, outlines = [], []
    for staged_tile in staged:
        tile = staged_tile.more["tile"]
        for image in staged_tile.more["images"]:
            rows.append(
                {"tile": tile["id"], "place": tile["place"], "index": tile["index"], "kept_tile": tile["kept"]} | image
            )
            outlines.append(shapely.box(*tile["bounds"]))
    frame = gpd.GeoDataFrame(pd.DataFrame(rows), geometry=outlines, crs=DEGREES.to_wkt())
    _write(frame, path)
    return frame


def is_unreadable(reason: str) -> bool:
    """Return whether a reason is an error of reading, and not a filter."""
    return bool(reason) and reason not in (*_STATISTIC_OF, UNLABELLED)


def reasons(staged: Sequence[StagedPlace]) -> dict[str, int]:
    """Count the dropped tiles by reason.

    A tile is dropped if it has no kept pre image or no kept post image. Its reason is that of the first such image.
    """
    counts: Counter[str] = Counter()
    for staged_tile in staged:
        if not staged_tile.more["tile"]["kept"]:
            counts[_drop_reason(staged_tile)] += 1
    return dict(sorted(counts.items()))


def write_polygons(
    planned: Sequence[PlannedPlace], scenes: ScenesConfig, scale: Scale, kept: set[str], path: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the label polygons of kept tiles, one row per polygon and tile, and count all polygons.

    Columns: tile, place, file, row (of the polygon in its file), label (damage, intact or unknown; where the scale has
    levels, a level's name or "unknown level"); geometry: the whole polygon in degrees.

    Returns:
        Remarks on reading the polygons, each with the number of its places; and the numbers of polygons in kept tiles,
        in dropped tiles only, and outside of all scenes.
    """
    frames, notes, names = [], Counter(), names_of_codes(scale)
    where: dict[tuple[str, object], str] = {}
    for place in planned:
        for file in place.label_files:
            if Path(file).suffix.lower() in RASTERS:
                coarse = place.grid.coarser(max(1, max(place.grid.shape) // _COARSE_SIDE))
                if not read_band(file, coarse)[1].any():
                    notes[f"{Path(file).name}: lies outside of its scene, which stays unlabelled"] += 1
                continue
            polygons = read_labels(file, place.grid.crs, scenes, scale)
            notes.update(set(polygons.notes))
            for row in polygons.rows:
                where.setdefault((file, row), "outside of all scenes")
            for window in tile_windows(place.grid, scenes.tile, edges=scenes.edges):
                over = polygons.over(place.grid.part(window))
                tile = tile_id(place.place, window)
                for row in polygons.rows[over]:
                    if where[file, row] != "in kept tiles":
                        where[file, row] = "in kept tiles" if tile in kept else "in dropped tiles only"
                if tile in kept and over.size:
                    values = {"tile": tile, "place": place.place.id, "file": Path(file).name}
                    frame = gpd.GeoDataFrame(
                        values | {"row": polygons.rows[over], "label": [names[code] for code in polygons.codes[over]]},
                        geometry=polygons.outlines[over],
                        crs=place.grid.crs.to_wkt(),
                    )
                    frames.append(frame.to_crs(DEGREES.to_wkt()))
    if frames:
        _write(gpd.GeoDataFrame(pd.concat(frames, ignore_index=True)), path)
    return dict(notes), dict(Counter(where.values()))


def write_sheet(staged: Sequence[StagedPlace], scenes: ScenesConfig, path: Path) -> None:
    """Draw the contact sheet: kept and dropped tiles, pre beside post, in order of their distance to the threshold."""
    sections: dict[str, list[tuple[float, StagedPlace]]] = {"kept": []}
    for staged_tile in sorted(staged, key=lambda place: place.more["tile"]["id"]):
        reason = "kept" if staged_tile.more["tile"]["kept"] else _drop_reason(staged_tile)
        if reason != UNLABELLED:  # their images were not looked at
            sections.setdefault(reason, []).append((_distance_to_threshold(staged_tile, reason, scenes), staged_tile))
    drawn = [(name, sorted(tiles, key=lambda item: item[0])) for name, tiles in sections.items() if tiles]
    cell = 2 * THUMBNAIL + _GAP
    width = _GAP + _PAIRS_PER_ROW * (cell + _GAP)
    heights = [
        _HEAD + -(-min(len(tiles), _PAIRS_PER_SECTION) // _PAIRS_PER_ROW) * (THUMBNAIL + _CAPTION + _GAP)
        for _, tiles in drawn
    ]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), (24, 24, 28))
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (name, tiles), height in zip(drawn, heights, strict=True):
        colour = _KEPT if name == "kept" else _DROPPED
        more = f", {_PAIRS_PER_SECTION} nearest to the threshold shown" if len(tiles) > _PAIRS_PER_SECTION else ""
        title = f"{name}: {len(tiles)} tiles{more}{_threshold_text(name, scenes)}"
        pen.text((_GAP, top + 8), title, fill=colour)
        for k, (_, staged_tile) in enumerate(tiles[:_PAIRS_PER_SECTION]):
            left = _GAP + k % _PAIRS_PER_ROW * (cell + _GAP)
            y = top + _HEAD + k // _PAIRS_PER_ROW * (THUMBNAIL + _CAPTION + _GAP)
            for i, when in enumerate(("pre", "post")):
                content = staged_tile.picture(f"thumbnail/{when}")
                x = left + i * (THUMBNAIL + 2)
                if content is not None:
                    sheet.paste(Image.open(io.BytesIO(content)), (x, y))
                pen.rectangle((x, y, x + THUMBNAIL - 1, y + THUMBNAIL - 1), outline=colour)
            pen.text((left, y + THUMBNAIL + 1), _caption(staged_tile, name), fill=(190, 190, 190))
        top += height
    content = io.BytesIO()
    sheet.save(content, "PNG")
    with replacing(path) as partial:
        partial.write_bytes(content.getvalue())


def _drop_reason(staged_tile: StagedPlace) -> str:
    images = staged_tile.more["images"]
    for when in ("pre", "post"):
        own = [image for image in images if image["when"] == when]
        if not any(image["kept"] for image in own):
            reason = own[0]["reason"]
            return "unreadable" if is_unreadable(reason) else reason
    raise ValueError("a kept tile")


def _deciding_value(staged_tile: StagedPlace, reason: str) -> float:
    name = _STATISTIC_OF[reason]
    return float(next(image[name] for image in staged_tile.more["images"] if image["reason"] == reason))


def _distance_to_threshold(staged_tile: StagedPlace, reason: str, scenes: ScenesConfig) -> float:
    """Return how far a tile is from the threshold beyond which the filters would decide otherwise."""
    images = staged_tile.more["images"]
    if reason == "kept":
        seen = [image for image in images if image["kept"]]
        black = min(1 - image["black"] / max(scenes.black, 1e-9) for image in seen)
        variance = min(image["variance"] / max(scenes.variance, 1e-9) - 1 for image in seen)
        return min(black, variance, *(1 - image["brightness"] / max(scenes.snow, 1e-9) for image in seen))
    if reason not in _STATISTIC_OF:
        return 0.0
    limit = {"black": scenes.black, "snow": scenes.snow, "variance": scenes.variance}.get(reason, scenes.valid)
    return abs(_deciding_value(staged_tile, reason) - limit)


def _threshold_text(name: str, scenes: ScenesConfig) -> str:
    return {
        "black": f" (share of black pixels above --black {scenes.black:g})",
        "snow": f" (mean of R + G + B above --snow {scenes.snow:g})",
        "variance": f" (variance of the grey value below --variance {scenes.variance:g})",
        "no data": f" (share with data below --valid {scenes.valid:g})",
        "overlap": f" (share seen before and after below --valid {scenes.valid:g})",
    }.get(name, "")


def _caption(staged_tile: StagedPlace, name: str) -> str:
    tile = staged_tile.more["tile"]["id"]
    tile = tile if len(tile) < 22 else f"…{tile[-20:]}"
    return f"{tile}  {_deciding_value(staged_tile, name):.4g}" if name in _STATISTIC_OF else tile


def _write(frame: gpd.GeoDataFrame, path: Path) -> None:
    with replacing(path) as partial:
        frame.to_parquet(partial)
