"""Small stores of labels: pairs with footprints on a UTM grid, and pictures without a place."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from jaxcd.base.scales import XBD, Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import Edit, Store

EPSG = 32637
WEST, SOUTH = 432_000.0, 4_178_000.0
# A network of seconds on what was labelled, in levels: the programs of tests/test_graded.py, which are compiled once.
_CONFIG = """
from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config():
    return Config(
        data=DataConfig(root={root!r}, layout="prepared", scale="xbd", crop=32),
        model=ModelConfig(name="fc_siam_diff", size="small", onednn="off"),
        loss=LossConfig(dice=1.0, bce=1.0, level_weights=(1.0, 1.0, 2.0, 2.0, 1.0)),
        augment=AugmentConfig.off(),
        optim=OptimConfig(learning_rate=1e-3),
        train=TrainConfig(batch=4, steps=8, validate_every=4, best_by="xview2", log_every=1, devices=1),
    )
"""


def squares(count: int, *, apart: float = 10.0, side: float = 5.0) -> list[shapely.Polygon]:
    """Footprints in a row."""
    return [shapely.box(WEST + apart * i, SOUTH + 2, WEST + apart * i + side, SOUTH + 2 + side) for i in range(count)]


def write_footprints(path: Path, outlines: Sequence[shapely.Polygon], epsg: int = EPSG) -> Path:
    gpd.GeoDataFrame(geometry=list(outlines), crs=EPSG).to_crs(epsg).to_file(path)
    return path


def placed_pair(footprints: Path | None = None, *, name: str = "town", width: int = 400, height: int = 100) -> Pair:
    """A pair with pixels of half a metre; its images do not exist."""
    return Pair(
        id=name,
        title=name,
        pre=("pre.tif",),
        post=("post.tif",),
        footprints=str(footprints) if footprints else None,
        epsg=EPSG,
        bounds=(WEST, SOUTH, WEST + width / 2, SOUTH + height / 2),
        width=width,
        height=height,
    )


def picture_pair(name: str = "tile", side: int = 64, pre: str = "pre.png", post: str = "post.png") -> Pair:
    bounds = (0.0, -float(side), float(side), 0.0)
    return Pair(
        id=name,
        title=name,
        pre=(pre,),
        post=(post,),
        footprints=None,
        epsg=None,
        bounds=bounds,
        width=side,
        height=side,
    )


def town(folder: Path, buildings: int = 20, scale: Scale = XBD) -> Store:
    """A store of one pair with footprints f0, f1, ..."""
    file = folder / "footprints.gpkg"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_footprints(file, squares(buildings))
    return Store.create_or_open(folder / "store", scale, [placed_pair(file)])


def new_id() -> str:
    return str(uuid.uuid4())


def drawn_id() -> str:
    return f"d-{uuid.uuid4()}"


def judge(store: Store, person: int, levels: dict[str, str | None], pair: str = "town") -> None:
    """Save levels of objects, each upon the version that the person sees."""
    seen = {label.object: label.version for label in store.labels(pair, viewer=person, ids=levels)}
    edits = [Edit(object=key, base=seen[key], level=level) for key, level in levels.items()]
    store.save(pair, new_id(), person, edits)


def draw(store: Store, person: int, outline: shapely.Geometry, level: str | None, pair: str = "town") -> str:
    name = drawn_id()
    store.save(pair, new_id(), person, [Edit(object=name, base=0, level=level, geometry=outline)])
    return name


def levels_of(store: Store, pair: str = "town", viewer: int | None = None) -> dict[str, str | None]:
    return {label.object: label.level for label in store.labels(pair, viewer=viewer)}


def write_config(path: Path, dataset: Path) -> Path:
    """Write the settings of a training that takes seconds."""
    path.write_text(_CONFIG.format(root=str(dataset)))
    return path


def changes_of(store: Store) -> dict[str, int]:
    with store.reading() as db:
        return dict(db.execute("SELECT id, seq FROM change").fetchall())


def circle(vertices: int) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    return shapely.Polygon(np.stack([WEST + 20 + 9 * np.cos(angle), SOUTH + 20 + 9 * np.sin(angle)], axis=1))
