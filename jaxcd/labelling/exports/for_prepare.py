"""A store of labels as a source of jaxcd.prepare: its images, linked, and what is known of their pixels."""

import dataclasses
import glob
import json
import os
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import UInt8

from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.base.files import write_whole
from jaxcd.base.scales import INVALID, SCALES, Scale
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.labelling.exports.blind_split import Sample
from jaxcd.labelling.exports.masks import write_mask
from jaxcd.labelling.exports.truth import Shapes, codes_of, read_as, shapes_of
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import Store
from jaxcd.sources import labelled
from jaxcd.sources.layouts import LABELLED, SCENES

SOURCE, BLIND_SOURCE = "prepared", "prepared_blind"
"""Folders of the store in which the sources lie: that of all labels but the blind sample's, and that of these alone."""
_MASK = "labels"
_OF_LABELS = (
    *("event_date", "labels", "label_attribute", "label_values", "label_levels", "label_unknown", "outside"),
    *("labelled_area", "labelled_only", "positive_unlabelled"),
)
_BESIDE = (".tfw", ".tifw", ".pgw", ".jgw", ".wld", ".prj", ".ovr", ".msk", ".xml")


def source_of(data: DataConfig, *, blind: bool = False) -> tuple[DataConfig, list[str]]:
    """Lay out the labelled pairs of a store as a source; what has not changed since is left as it is.

    Args:
        data: `root` is the store's folder; `scale` and `scenes` count.
        blind: lay out the buildings of the blind sample, and nothing else; without, everything but these.

    Returns:
        The settings to build with: another root, of layout scenes for pairs with a place and `labelled` for others;
        tiles of which nothing is known are left out. And the ids of the pairs that nothing is known of.

    Raises:
        LabelError: no such store, no labels in it (or none of the blind sample), none but of unknown class, pairs of
            both kinds, or images that are no files.
        ConfigError: its levels cannot be told in the wanted scale.
    """
    store = Store.open(Path(data.root))
    try:
        return _laid_out(store, data, blind)
    finally:
        store.close()


def _laid_out(store: Store, data: DataConfig, blind: bool) -> tuple[DataConfig, list[str]]:
    wanted = SCALES[data.scale]
    if store.scale.read_as(wanted) is None:
        raise ConfigError(
            f"config.data.scale: {data.root} holds labels of the scale {store.scale.name}, which cannot be read as "
            f"{wanted.name}; give --scale {store.scale.name}"
        )
    sample = Sample(store)
    every = ((key, sample.shapes(key) if blind else shapes_of(store, key, sample.held(key))) for key in store.pairs)
    known = {key: shapes for key, shapes in every if shapes}
    pairs = [store.pairs[key] for key in known]
    if not pairs and blind:
        raise LabelError(f"{data.root}: holds no blind sample with a judged building; judge it on the page first")
    if not pairs:
        raise LabelError(f"{data.root}: nothing is labelled yet; label with jaxcd.label --store {data.root}")
    placed = [pair for pair in pairs if pair.epsg is not None]
    if placed and len(placed) < len(pairs):
        raise LabelError(f"{data.root}: holds labelled pairs with a place and without; label them in two stores")
    for pair in pairs:
        for location in (*pair.pre, *pair.post):
            if not Path(location).is_file():
                raise LabelError(
                    f"{location} of pair {pair.id}: no such file; open the store with the images once more"
                )
    _check_settings(data.scenes, placed=bool(placed))
    folder, made = Path(data.root) / sample.folder(BLIND_SOURCE if blind else SOURCE), set[Path]()
    for pair in pairs:
        read = read_as(known[pair.id], store.scale, wanted)
        assert read is not None
        codes = codes_of(read, pair, wanted)
        codes = codes if blind else sample.covered(codes, pair)
        if (codes == INVALID).all():
            del known[pair.id]
        elif placed:
            made |= _scenes(folder, pair, codes, wanted)
        else:
            made |= _tile(folder, pair, store, known[pair.id])
    if not known:
        raise LabelError(
            f"{data.root}: its labels say nothing in the scale {wanted.name}: clouds and unknown levels alone; label "
            "more with jaxcd.label"
        )
    _remove_others(folder, made)
    found = dataclasses.replace(data, root=str(folder), layout=SCENES if placed else LABELLED)
    if placed:
        found = dataclasses.replace(found, scenes=dataclasses.replace(data.scenes, labelled_only=True))
    return found, [key for key in store.pairs if key not in known]


def _check_settings(scenes: ScenesConfig, *, placed: bool) -> None:
    """Refuse settings of scenes that say what the store says, or that tiles do not have."""
    for field in dataclasses.fields(scenes):
        if getattr(scenes, field.name) == getattr(ScenesConfig(), field.name):
            continue
        if not placed:
            raise ConfigError(f"--{field.name}: is of scenes, and the pairs of this store are tiles without a place")
        if field.name in _OF_LABELS:
            raise ConfigError(f"--{field.name}: goes with --layout scenes; with --layout labelled the store says it")


def _scenes(folder: Path, pair: Pair, codes: UInt8[np.ndarray, "h w"], wanted: Scale) -> set[Path]:
    """Make the folder of a place: links to its scenes, and the mask of its labels; returns the files."""
    place = folder / pair.id
    place.mkdir(parents=True, exist_ok=True)
    new = write_mask(place, dataclasses.replace(pair, id=_MASK), codes, wanted, prefix=".new-")
    made = {_kept(new, place / f"{_MASK}.tif")}
    for when, locations in (("pre", pair.pre), ("post", pair.post)):
        # Numbered: scenes of different folders may have one name, and of several the first one counts.
        for number, location in enumerate(locations):
            made |= _linked(Path(location), place, f"{when}_{number:03d}_{Path(location).stem}")
    return made


def _tile(folder: Path, pair: Pair, store: Store, shapes: Shapes) -> set[Path]:
    """Make the links to a tile's images, and the file of its outlines; returns the files."""
    content = {
        "scale": store.scale.name,
        "height": pair.height,
        "width": pair.width,
        "shapes": [[code, shapely.to_wkb(outline, hex=True)] for outline, code in shapes],
    }
    for name in (labelled.PRE, labelled.POST, labelled.OUTLINES):
        (folder / name).mkdir(parents=True, exist_ok=True)
    new = folder / labelled.OUTLINES / f".new-{pair.id}.json"
    write_whole(new, json.dumps(content))
    made = {_kept(new, folder / labelled.OUTLINES / f"{pair.id}.json")}
    for name, location in ((labelled.PRE, pair.pre[-1]), (labelled.POST, pair.post[0])):
        made |= _linked(Path(location), folder / name, pair.id)
    return made


def _kept(new: Path, there: Path) -> Path:
    """Replace a file unless it has the same content: a build tells changed sources by the time of their change."""
    if there.is_file() and there.read_bytes() == new.read_bytes():
        new.unlink()
    else:
        new.replace(there)
    return there


def _linked(file: Path, folder: Path, stem: str) -> set[Path]:
    """Link an image, and the files beside it that belong to it (overviews, masks, world files)."""
    file, made = file.absolute(), set[Path]()
    beside = [part for part in file.parent.glob(f"{glob.escape(file.stem)}.*") if part.suffix.lower() in _BESIDE]
    for part in (file, *(part for part in beside if part != file)):
        target = folder / (stem + part.name[len(file.stem) :])
        if not (target.is_symlink() and Path(os.readlink(target)) == part):
            target.unlink(missing_ok=True)
            target.symlink_to(part)
        made.add(target)
    return made


def _remove_others(folder: Path, made: set[Path]) -> None:
    """Remove what an earlier call made, of pairs that are not labelled any more or images that moved."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in made:
            path.unlink()
