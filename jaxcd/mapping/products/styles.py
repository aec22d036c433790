"""The colours of a map, for the page and for QGIS, and the style files that QGIS loads by itself.

The style of a raster or of buildings.gpkg lies beside the file, in a .qml file of the same name. The styles of the
layers of damage.gpkg lie in that file, in a table that QGIS reads, because damage.qml is the style of damage.tif.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from jaxcd.base.files import write_whole
from jaxcd.base.scales import Scale
from jaxcd.mapping.products.attributes import LEVEL
from jaxcd.mapping.products.buildings import CLASS, DAMAGED, INTACT, NOT_SEEN, POSSIBLY, TOO_SMALL
from jaxcd.mapping.products.rasters import CODES, DECISION, PROBABILITY

RAMP = (
    (0.0, "#ffffb2", 0),
    (0.25, "#fecc5c", 120),
    (0.5, "#fd8d3c", 190),
    (0.75, "#f03b20", 230),
    (1.0, "#bd0026", 255),
)
"""Probability, colour, opacity (0..255). Colours of low probabilities are transparent, to show the image below."""
CLASSES = {DAMAGED: "#d55e00", POSSIBLY: "#f0e442", INTACT: "#56b4e9", NOT_SEEN: "#bbbbbb", TOO_SMALL: "#cc79a7"}
"""Colours of buildings by class, which colour-blind readers can tell apart, too (Okabe and Ito's palette)."""
OUTLINE = "#ff2d78"
"""Colour of damage polygons."""
STYLES = "layer_styles"
"""The table of a GeoPackage in which QGIS looks for styles."""

_DAMAGE = "#bd0026"
_RAMP_ITEM = '<item value="{value}" label="{value:.0%}" color="{colour}" alpha="{alpha}"/>'
_QML = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="{categories}">
{content}
 <blendMode>0</blendMode>
</qgis>
"""
_RASTER = """ <pipe>
  <rasterrenderer type="{type}" band="1" opacity="1" alphaBand="-1" nodataColor="" {extent}>
   {renderer}
  </rasterrenderer>
 </pipe>"""
_SHADER = """<rastershader>
    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1">
     {items}
    </colorrampshader>
   </rastershader>"""
_PALETTE = """<colorPalette>
    {entries}
   </colorPalette>"""
_ENTRY = '<paletteEntry value="{value}" label="{label}" color="{colour}" alpha="{alpha}"/>'
_NAMES = """<PAMDataset>
  <PAMRasterBand band="1">
    <CategoryNames>
      {names}
    </CategoryNames>
  </PAMRasterBand>
</PAMDataset>
"""
_CATEGORIZED = """ <renderer-v2 type="categorizedSymbol" attr="{attribute}" symbollevels="0" forceraster="0">
  <categories>
   {categories}
  </categories>
  <symbols>
   {symbols}
  </symbols>
 </renderer-v2>"""
_SINGLE = """ <renderer-v2 type="singleSymbol" symbollevels="0" forceraster="0">
  <symbols>
   {symbols}
  </symbols>
 </renderer-v2>"""
_CATEGORY = '<category value="{name}" label="{name}" symbol="{number}" render="true"/>'
_SYMBOL = """<symbol name="{number}" type="fill" alpha="1" clip_to_extent="1" force_rhr="0">
    <layer class="SimpleFill" enabled="1" locked="0" pass="0">
     <Option type="Map">
      <Option name="color" type="QString" value="{fill}"/>
      <Option name="outline_color" type="QString" value="{line}"/>
      <Option name="outline_style" type="QString" value="{dash}"/>
      <Option name="outline_width" type="QString" value="0.4"/>
      <Option name="outline_width_unit" type="QString" value="MM"/>
      <Option name="style" type="QString" value="solid"/>
     </Option>
    </layer>
   </symbol>"""


def write(out: Path, *, buildings: bool, scale: Scale) -> None:
    """Write a style beside each raster of a map, and beside buildings.gpkg if the map has buildings.

    For a raster of levels, also write the names of the levels to a .aux.xml file, from which GDAL reads them.
    """
    items = "\n     ".join(_RAMP_ITEM.format(value=value, colour=colour, alpha=alpha) for value, colour, alpha in RAMP)
    shader = _raster(
        type="singlebandpseudocolor",
        extent='classificationMin="0" classificationMax="1"',
        renderer=_SHADER.format(items=items),
    )
    palette = _palette([("no damage found", "#ffffff"), ("damage", _DAMAGE)])
    styles = {PROBABILITY: shader, DECISION: palette}
    if scale.buildings:
        styles[CODES] = _palette([("ground", "#ffffff"), *zip(scale.levels, scale.colours, strict=True)])
        names = "\n      ".join(f"<Category>{name}</Category>" for name in scale.codes)
        write_whole(out / f"{CODES}.aux.xml", _NAMES.format(names=names))
    for name, style in styles.items():
        write_whole((out / name).with_suffix(".qml"), style)
    if buildings:
        of_buildings = _categorised(LEVEL, of_levels(scale)) if scale.buildings else _categorised(CLASS, CLASSES)
        write_whole(out / "buildings.qml", of_buildings)


def of_levels(scale: Scale) -> dict[str, str]:
    """Return the colours of buildings by level, the worst level first, then those of buildings without a level."""
    levels = zip(reversed(scale.levels), reversed(scale.colours), strict=True)
    return {**dict(levels), **{name: CLASSES[name] for name in (NOT_SEEN, TOO_SMALL)}}


def of_damage(scale: Scale) -> dict[str, str]:
    """Return the styles of the layers of damage.gpkg by name: damage, cells and, in a map of levels, levels."""
    looks = {"damage": (OUTLINE, "dash"), "cells": (CLASSES[NOT_SEEN], "solid")}
    styles = {
        name: _layer(_SINGLE.format(symbols=_symbol(0, colour, dash=dash))) for name, (colour, dash) in looks.items()
    }
    damaged = dict(zip(scale.levels[1:], scale.colours[1:], strict=True))
    return styles | ({"levels": _categorised(LEVEL, damaged)} if scale.buildings else {})


def _palette(entries: Sequence[tuple[str, str]]) -> str:
    """Return the style of a raster from the names and colours of its codes, which begin at 0; code 0 is transparent."""
    painted = "\n    ".join(
        _ENTRY.format(value=value, label=label, colour=colour, alpha=220 if value else 0)
        for value, (label, colour) in enumerate(entries)
    )
    return _raster(type="paletted", extent="", renderer=_PALETTE.format(entries=painted))


def _categorised(attribute: str, colours: dict[str, str]) -> str:
    names = "\n   ".join(_CATEGORY.format(name=name, number=number) for number, name in enumerate(colours))
    symbols = "\n   ".join(_symbol(number, colour, dash="solid") for number, colour in enumerate(colours.values()))
    return _layer(_CATEGORIZED.format(attribute=attribute, categories=names, symbols=symbols))


def table(styles: dict[str, str]) -> pd.DataFrame:
    """Return the table `STYLES` of a GeoPackage from the styles of its layers by name."""
    rows = [
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": layer,
            "f_geometry_column": "geom",  # as GDAL names it
            "styleName": layer,
            "styleQML": style,
            "styleSLD": "",
            "useAsDefault": True,
            "description": "",
            "owner": "",
            "ui": "",
            "update_time": datetime.now(UTC).replace(tzinfo=None),
        }
        for layer, style in styles.items()
    ]
    return pd.DataFrame(rows)


def rgba(colour: str, alpha: int) -> tuple[int, int, int, int]:
    """Return red, green and blue of a colour such as #bd0026, and the given opacity; all are 0..255."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue, alpha


def _raster(**parts: str) -> str:
    return _QML.format(categories="AllStyleCategories", content=_RASTER.format(**parts))


def _layer(renderer: str) -> str:
    return _QML.format(categories="Symbology", content=renderer)


def _symbol(number: int, colour: str, *, dash: str) -> str:
    fill, line = (",".join(map(str, rgba(colour, alpha))) for alpha in (40, 255))
    return _SYMBOL.format(number=number, fill=fill, line=line, dash=dash)
