"""Labels leave the store: as GeoPackage, GeoJSON, COCO and masks, and as a source for jaxcd.prepare.

Tables hold all labels, and say which are of the blind sample. COCO and masks are what networks learn from: they leave
these out.
"""

from collections.abc import Callable
from pathlib import Path

from jaxcd.base.errors import LabelError
from jaxcd.labelling.exports import coco, masks, vectors
from jaxcd.labelling.store import Store

FORMATS: dict[str, Callable[[Store, Path, tuple[str, ...]], None]] = {
    "geojson": vectors.write_geojson,
    "gpkg": vectors.write_geopackage,
    "coco": coco.write,
    "masks": masks.write,
}
"""What writes each format: `(store, path, ids of pairs)`."""
SUFFIXES = {"geojson": ".geojson", "gpkg": ".gpkg", "coco": ".json", "masks": ".zip"}
"""Suffix of a format's file; masks can also go to a folder."""


def write(store: Store, form: str, path: Path, pair: str | None = None) -> None:
    """Write the current labels of a store to a file, whole or not at all.

    Args:
        store: the store.
        form: one of `FORMATS`.
        path: the file; of masks, a folder where it has no suffix .zip.
        pair: id of the only pair to write; None: all.

    Raises:
        LabelError: another format, or no such pair.
        DiskFullError, WriteError: no space left, or another failure of the disk.
    """
    if form not in FORMATS:
        raise LabelError(f"--export {form}: expected one of {', '.join(FORMATS)}")
    if pair is not None:
        store.row(pair)
    FORMATS[form](store, path, tuple(store.pairs) if pair is None else (pair,))
