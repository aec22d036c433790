"""The simulator of a damaged town: `town` lays it out, `render` paints it, `scene` writes the files."""

from jaxcd.simulator.scene import SimulatedScene, cut_tiles, simulate

__all__ = ["SimulatedScene", "cut_tiles", "simulate"]
