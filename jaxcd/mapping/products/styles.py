"""How a map looks: its colours, on the page as in QGIS, and the styles that QGIS loads by itself.

The styles of rasters and buildings lie beside them, in .qml files of the same name. The styles of damage.gpkg's layers
lie within it, in a table that QGIS knows, because damage.qml is that of the raster damage.tif.
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from jaxcd.base.files import write_whole
from jaxcd.mapping.products.buildings import CLASS, DAMAGED, INTACT, NOT_SEEN, POSSIBLY, TOO_SMALL
from jaxcd.mapping.products.rasters import DECISION, PROBABILITY

RAMP = (
    (0.0, "#ffffb2", 0),
    (0.25, "#fecc5c", 120),
    (0.5, "#fd8d3c", 190),
    (0.75, "#f03b20", 230),
    (1.0, "#bd0026", 255),
)
"""Probability, colour, opacity (0..255): where damage is unlikely, the image below shows through."""
CLASSES = {DAMAGED: "#d55e00", POSSIBLY: "#f0e442", INTACT: "#56b4e9", NOT_SEEN: "#bbbbbb", TOO_SMALL: "#cc79a7"}
"""Colours of buildings by class, told apart by eyes that see no red or no green, too (Okabe and Ito's palette)."""
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
    <paletteEntry value="0" label="no damage found" color="#ffffff" alpha="0"/>
    <paletteEntry value="1" label="damage" color="{colour}" alpha="220"/>
   </colorPalette>"""
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


def write(out: Path, *, buildings: bool) -> None:
    """Write a style beside each raster of a map, and beside its buildings, where there are some."""
    items = "\n     ".join(_RAMP_ITEM.format(value=value, colour=colour, alpha=alpha) for value, colour, alpha in RAMP)
    shader = _raster(
        type="singlebandpseudocolor",
        extent='classificationMin="0" classificationMax="1"',
        renderer=_SHADER.format(items=items),
    )
    palette = _raster(type="paletted", extent="", renderer=_PALETTE.format(colour=_DAMAGE))
    for name, style in ((PROBABILITY, shader), (DECISION, palette)):
        write_whole((out / name).with_suffix(".qml"), style)
    if buildings:
        write_whole(out / "buildings.qml", _of_classes())


def of_damage() -> dict[str, str]:
    """Return the styles of the layers of damage polygons and of cells, by name."""
    looks = {"damage": (OUTLINE, "dash"), "cells": (CLASSES[NOT_SEEN], "solid")}
    return {
        name: _layer(_SINGLE.format(symbols=_symbol(0, colour, dash=dash))) for name, (colour, dash) in looks.items()
    }


def _of_classes() -> str:
    names = "\n   ".join(_CATEGORY.format(name=name, number=number) for number, name in enumerate(CLASSES))
    symbols = "\n   ".join(_symbol(number, colour, dash="solid") for number, colour in enumerate(CLASSES.values()))
    return _layer(_CATEGORIZED.format(attribute=CLASS, categories=names, symbols=symbols))


def table(styles: dict[str, str]) -> pd.DataFrame:
    """Return the table `STYLES` of a GeoPackage, of the styles of its layers by name."""
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
    """Split a colour like #bd0026 into red, green and blue, and add an opacity; all 0..255."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue, alpha


def _raster(**parts: str) -> str:
    return _QML.format(categories="AllStyleCategories", content=_RASTER.format(**parts))


def _layer(renderer: str) -> str:
    return _QML.format(categories="Symbology", content=renderer)


def _symbol(number: int, colour: str, *, dash: str) -> str:
    fill, line = (",".join(map(str, rgba(colour, alpha))) for alpha in (40, 255))
    return _SYMBOL.format(number=number, fill=fill, line=line, dash=dash)
