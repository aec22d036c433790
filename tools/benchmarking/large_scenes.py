"""A pair of scenes of the size that Maxar delivers, written on demand: JPEG COGs of a repeated simulated town."""

from pathlib import Path

import rasterio
from rasterio.shutil import copy

from benchmarking.case import SCENE
from jaxcd import simulator

_TOWN = 2048
_SOURCE = """<SimpleSource><SourceFilename>{file}</SourceFilename><SourceBand>{band}</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>
<DstRect xOff="{left}" yOff="{top}" xSize="{width}" ySize="{height}"/></SimpleSource>"""
_BAND = '<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour}</ColorInterp>{sources}</VRTRasterBand>'
_VRT = """<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><SRS>{crs}</SRS>
<GeoTransform>{affine}</GeoTransform>{bands}</VRTDataset>"""


def large_pair(folder: Path, *, side: int = SCENE) -> tuple[Path, Path]:
    """Write pre.tif and post.tif, if they are not there: COGs with overviews, JPEG of quality 90 in blocks of 512.

    Args:
        folder: where; a few hundred megabytes.
        side: pixels.
    """
    pair = folder / "pre.tif", folder / "post.tif"
    if all(path.exists() for path in pair):
        return pair
    town = simulator.simulate(folder / "town", seed=0, size=_TOWN)
    for path, source in zip(pair, (town.pre, town.post), strict=True):
        vrt = path.with_suffix(".vrt")
        vrt.write_text(_repeated(source, side))
        partial = path.with_suffix(".partial.tif")
        copy(vrt, partial, driver="COG", compress="JPEG", quality=90, blocksize=512, num_threads="ALL_CPUS")
        partial.rename(path)
    return pair


def _repeated(source: Path, side: int) -> str:
    with rasterio.open(source) as town:
        crs, affine = town.crs.to_wkt(), ", ".join(map(str, town.transform.to_gdal()))
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        sources = [
            _SOURCE.format(
                file=source, band=band, left=left, top=top, width=min(_TOWN, side - left), height=min(_TOWN, side - top)
            )
            for top in range(0, side, _TOWN)
            for left in range(0, side, _TOWN)
        ]
        bands.append(_BAND.format(band=band, colour=colour, sources="".join(sources)))
    return _VRT.format(side=side, crs=crs, affine=affine, bands="".join(bands))
