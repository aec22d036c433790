"""Labels as masks: a code a pixel, a GeoTIFF for each pair with a place and a PNG for each without.

Members of the blind sample are INVALID.
"""

import zipfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from rasterio.crs import CRS

from jaxcd.base.errors import LabelError
from jaxcd.base.files import replacing, write_whole
from jaxcd.base.scales import INVALID, Scale
from jaxcd.labelling.exports.blind_split import Sample
from jaxcd.labelling.exports.truth import codes_of, shapes_of
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import Store
from jaxcd.scenes.raster import write_geotiff


def write(store: Store, path: Path, pairs: tuple[str, ...]) -> None:
    """Write the masks of pairs into a ZIP file, or into a folder."""
    sample = Sample(store)
    if path.suffix.lower() != ".zip":
        path.mkdir(parents=True, exist_ok=True)
        for key in pairs:
            write_mask(path, store.pairs[key], _codes(store, key, sample), store.scale)
        return
    with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as packed:
        for key in pairs:
            file = write_mask(
                path.parent, store.pairs[key], _codes(store, key, sample), store.scale, prefix=f".partial-{path.stem}-"
            )
            try:
                packed.write(file, name_of(store.pairs[key]))
            finally:
                file.unlink()


def name_of(pair: Pair) -> str:
    """Return the name of a pair's mask."""
    return f"{pair.id}.png" if pair.epsg is None else f"{pair.id}.tif"


def write_mask(folder: Path, pair: Pair, codes: UInt8[np.ndarray, "h w"], scale: Scale, *, prefix: str = "") -> Path:
    """Write a mask on a pair's grid; in the scale binary, whose 255 may mean damage, INVALID is declared."""
    file = folder / f"{prefix}{name_of(pair)}"
    if pair.epsg is None:
        written, content = cv2.imencode(".png", codes)
        if not written:
            raise LabelError(f"{file}: a mask of {pair.width} x {pair.height} pixels is too large for PNG")
        write_whole(file, content.tobytes())
    else:
        without_data = {} if scale.buildings else {"nodata": INVALID}
        write_geotiff(file, codes, transform=pair.transform, crs=CRS.from_epsg(pair.epsg), **without_data)
    return file


def _codes(store: Store, key: str, sample: Sample) -> UInt8[np.ndarray, "h w"]:
    pair = store.pairs[key]
    return sample.covered(codes_of(shapes_of(store, key, sample.held(key)), pair, store.scale), pair)
