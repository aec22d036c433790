"""Files that somebody sends: kept only as what they are, since GDAL would open formats that name other files."""

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import IO

from jaxcd.base.errors import LabelError

_SQLITE, _PNG, _TIFF = b"SQLite format 3\0", b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KEPT = ("type", "geometry", "properties")  # of a feature
_CRS = re.compile(r"urn:ogc:def:crs:[\w.:-]{1,80}|EPSG:\d{1,6}")  # GDAL would fetch others: links, addresses
_INDEX = re.compile(r'CREATE VIRTUAL TABLE "?rtree_\w+"? USING rtree\s*\([^;]*\)', re.IGNORECASE)
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
    kept: dict = {"type": "FeatureCollection"}
    if content.get("crs") is not None:
        kept["crs"] = {"type": "name", "properties": {"name": _system(content["crs"])}}
    kept["features"] = [{name: feature.get(name) for name in _KEPT} for feature in features]
    text = json.dumps(kept)
    if "gdal_streamed_alg" in text:
        raise LabelError("the file holds what is no GeoJSON feature")
    return text


def _system(crs: object) -> str:
    """Return the name of a GeoJSON file's reference system."""
    named = crs.get("properties") if isinstance(crs, dict) and crs.get("type") == "name" else None
    name = named.get("name") if isinstance(named, dict) else None
    if not isinstance(name, str) or not _CRS.fullmatch(name):
        raise LabelError("the file's crs is no name such as EPSG:32637; export it with one, or in degrees without")
    return name


def _check_tables(path: Path) -> None:
    """Refuse virtual tables but those of spatial indexes: SQLite can show other files as tables."""
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            # Only a virtual table has no page of its own.
            query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND COALESCE(rootpage, 0) = 0"
            made = [str(sql) for (sql,) in db.execute(query)]
        finally:
            db.close()
    except sqlite3.Error as error:
        raise LabelError("the GeoPackage is damaged; export it anew") from error
    for sql in made:
        if not _INDEX.fullmatch(sql):
            raise LabelError("the GeoPackage holds virtual tables; export its layer to a file of its own")
