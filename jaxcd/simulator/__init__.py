"""The simulator of a damaged town: `town` lays it out, `render` paints it, `scene` writes the files."""

from jaxcd.simulator.scene import Scene, cut_tiles, simulate

__all__ = ["Scene", "cut_tiles", "simulate"]
