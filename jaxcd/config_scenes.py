"""The part of the configuration that says how large scenes become tiles."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class ScenesConfig:
    """How large scenes become tiles (layout = scenes)."""

    event_date: str = ""
    """YYYY-MM-DD, by which scenes are told apart as pre and post where no folder does."""
    only: tuple[str, ...] = ()
    """Beginnings of the places' names to take; none: all."""
    min_overlap: float = 0.01
    """Least share of a place's pre scene that a post scene has to cover."""
    max_clouds: float = 100.0
    """Percent; scenes of a catalogue with more are left out."""
    max_off_nadir: float = 90.0
    """Degrees; scenes of a catalogue that look from further aside are left out."""
    crs: str = ""
    """Reference system of the tiles, such as EPSG:32637; empty: that of each place's pre scene."""
    gsd: float = 0.0
    """Side of a pixel in units of the reference system; 0: that of each place's pre scene."""
    tile: int = 1024
    """Side of a tile in pixels."""
    edges: str = "pad"
    """The last tiles of a scene: pad (with pixels of unknown class), or shift (inward, over those before)."""
    register: bool = False
    """Estimate by how much each post tile is shifted, and read it there."""
    match_histogram: bool = False
    """Give post tiles the distribution of colours of the pre tile."""
    black: float = 0.05
    """Tiles with a larger share of black pixels are dropped (METHOD, Data processing)."""
    snow: float = 500.0
    """Tiles with a larger mean of R + G + B are dropped."""
    variance: float = 2601.0
    """Tiles with a smaller variance of the grey value are dropped."""
    valid: float = 0.5
    """Tiles of which a smaller share is seen both before and after are dropped."""
    labels: str = ""
    """File of damage polygons or mask raster for all places; empty: the file beside each; none: unlabelled tiles."""
    label_attribute: str = ""
    """Attribute of the polygons that tells damage from other classes; empty: every polygon is damage."""
    label_values: tuple[str, ...] = ()
    """Values of the attribute that mean damage."""
    outside: str = "intact"
    """What lies outside of all polygons: intact, or unlabelled (of unknown class)."""
    labelled_area: str = ""
    """File of polygons outside of which nobody has looked for damage; empty: everywhere somebody has."""
    positive_unlabelled: bool = False
    """Much damage has no polygon: evaluation then reports recall and flagged area, and no precision."""
