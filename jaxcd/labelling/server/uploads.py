"""Files that somebody sends: kept only as what they are, since GDAL would open formats that name other files."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import IO

from jaxcd.base.errors import LabelError

_SQLITE, _PNG, _TIFF = b"SQLite format 3\0", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KEPT = ("type", "geometry", "properties")  # of a feature
_WANTED = "the file is neither GeoJSON, GeoPackage nor a mask (PNG, GeoTIFF)"


def suffix_of(file: IO[bytes]) -> str:
    """Say by its first bytes what a file is, for its name may say anything.

    Raises:
        LabelError: none of the formats that labels are taken from.
    """
    start = file.read(64)
    file.seek(0)
    if start.startswith(_SQLITE):
        return ".gpkg"
    if start.startswith(_PNG):
        return ".png"
    if start.startswith(_TIFF):
        return ".tif"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return ".geojson"
    raise LabelError(_WANTED)


def keep(file: IO[bytes], path: Path) -> None:
    """Write a file to a path, whose suffix is that of `suffix_of`.

    Raises:
        LabelError: JSON that is no GeoJSON, or a database with tables that reach beyond it.
    """
    if path.suffix == ".geojson":
        path.write_text(_features(file), encoding="utf-8")
        return
    with path.open("wb") as target:
        shutil.copyfileobj(file, target)
    if path.suffix == ".gpkg":
        _check_tables(path)


def _features(file: IO[bytes]) -> str:
    """Return the features of a GeoJSON file, written anew: nothing else of it reaches GDAL."""
    try:
        content = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise LabelError("the file is not valid JSON") from error
    features = content.get("features")
    if content.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise LabelError("the file is JSON, but no GeoJSON FeatureCollection")
    if not all(isinstance(feature, dict) and feature.get("type") == "Feature" for feature in features):
        raise LabelError("the file holds what is no GeoJSON feature")
    kept = {"type": "FeatureCollection"} | {name: content[name] for name in ("crs",) if name in content}
    kept["features"] = [{name: feature.get(name) for name in _KEPT} for feature in features]
    text = json.dumps(kept)
    if "gdal_streamed_alg" in text:
        raise LabelError("the file holds what is no GeoJSON feature")
    return text


def _check_tables(path: Path) -> None:
    """Refuse virtual tables but those of spatial indexes: SQLite can show other files as tables."""
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            made = [str(sql).upper() for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        finally:
            db.close()
    except sqlite3.Error as error:
        raise LabelError("the GeoPackage is damaged; export it anew") from error
    for sql in made:
        if sql.startswith("CREATE VIRTUAL TABLE") and " USING RTREE" not in " ".join(sql.split()):
            raise LabelError("the GeoPackage holds virtual tables; export its layer to a file of its own")
