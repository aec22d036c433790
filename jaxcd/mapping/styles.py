"""Styles that QGIS takes up by itself: files named as the rasters, with the ending .qml."""

from pathlib import Path

from jaxcd.files import write_whole
from jaxcd.mapping.rasters import DECISION, PROBABILITY

RAMP = (
    (0.0, "#ffffb2", 0),
    (0.25, "#fecc5c", 120),
    (0.5, "#fd8d3c", 190),
    (0.75, "#f03b20", 230),
    (1.0, "#bd0026", 255),
)
"""Probability, colour, opacity (0..255): what is unlikely lets the image below show through."""
_DAMAGE = "#bd0026"
_RAMP_ITEM = '<item value="{value}" label="{value:.0%}" color="{colour}" alpha="{alpha}"/>'
_QML = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="AllStyleCategories">
 <pipe>
  <rasterrenderer type="{type}" band="1" opacity="1" alphaBand="-1" nodataColor="" {extent}>
   {renderer}
  </rasterrenderer>
 </pipe>
 <blendMode>0</blendMode>
</qgis>
"""
_SHADER = """<rastershader>
    <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1">
     {items}
    </colorrampshader>
   </rastershader>"""
_PALETTE = """<colorPalette>
    <paletteEntry value="0" label="no damage found" color="#ffffff" alpha="0"/>
    <paletteEntry value="1" label="damage" color="{colour}" alpha="220"/>
   </colorPalette>"""


def write(out: Path) -> None:
    """Write a style beside each raster of a map."""
    items = "\n     ".join(_RAMP_ITEM.format(value=value, colour=colour, alpha=alpha) for value, colour, alpha in RAMP)
    shader = _QML.format(
        type="singlebandpseudocolor",
        extent='classificationMin="0" classificationMax="1"',
        renderer=_SHADER.format(items=items),
    )
    palette = _QML.format(type="paletted", extent="", renderer=_PALETTE.format(colour=_DAMAGE))
    for name, style in ((PROBABILITY, shader), (DECISION, palette)):
        write_whole((out / name).with_suffix(".qml"), style)
