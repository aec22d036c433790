"""A simulated town, made on first use; its tiles then lie in layout folders."""

from pathlib import Path

from jaxcd.base.errors import LayoutError
from jaxcd.base.files import locked

TILES = "tiles"
_SCENE = {"seed": 7, "size": 2048}
_TILE = 256
_OWN = ("scene", "tiles.partial", ".lock")


def simulate_once(source: Path) -> None:
    """Make the town in a folder of its own, unless its tiles exist.

    Raises:
        LayoutError: the folder holds something else.
    """
    tiles = source / TILES
    if tiles.is_dir():
        return
    from jaxcd import simulator  # imported here because it loads GeoPandas

    foreign = [path.name for path in source.iterdir() if path.name not in _OWN] if source.is_dir() else []
    if foreign:
        raise LayoutError(
            f"{source}: holds {foreign[0]!r}, and layout simulated makes a town in a folder of its own; set "
            "config.data.layout (--layout) to that of your tiles, or name a new folder"
        )
    source.mkdir(parents=True, exist_ok=True)
    with locked(source / ".lock", waiting=f"{source}: another process is simulating here; waiting for it"):
        if tiles.is_dir():
            return
        print(f"Simulating a scene of {_SCENE['size']} x {_SCENE['size']} pixels into {source}", flush=True)
        scene = simulator.simulate(source / "scene", **_SCENE)
        simulator.cut_tiles(scene, tiles, tile=_TILE)
