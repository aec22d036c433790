"""Has a run learned from the buildings that a blind sample is drawn from? Then figures of it would mean nothing."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import rasterio.warp

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES
from jaxcd.config import DataConfig
from jaxcd.labelling.exports.blind_split import Sample
from jaxcd.labelling.exports.for_prepare import SOURCE
from jaxcd.labelling.pairs import Box, Pair
from jaxcd.labelling.store import Store
from jaxcd.runs import run_folder
from jaxcd.sources import layouts
from jaxcd.store import manifest

_MOST_RUNS = 8  # runs that began with one another


def check_scale(run: Path, store: Store) -> None:
    """See that a run maps levels that a store's labels can teach.

    Raises:
        ConfigError: its scale is another.
        RunError: it is no run.
    """
    scale = SCALES[run_folder.read_config(run).data.scale]
    if store.scale.read_as(scale) is None:
        raise ConfigError(
            f"--run {run}: maps the scale {scale.name}, and labels are of the scale {store.scale.name}, which cannot "
            f"be read as {scale.name}; give another run"
        )


def seen_by(run: Path, store: Store) -> str | None:
    """Say in one line that a run has learned from a store's buildings; None: nothing tells that it has.

    A run that was trained on the store's own labels is fine if they were prepared without those of the sample that
    there is now. Any other run must not have been trained or validated on this ground, or on places of these names. The
    runs that its weights began with count, too.

    Raises:
        RunError: it is no run, or damaged.
        DatasetError: its dataset is damaged.
    """
    own = store.path.parent.resolve()
    fine = Sample(store).folder(SOURCE)
    for number, each in enumerate(_lineage(run)):
        data = run_folder.read_config(each).data
        what = f"{run}: " + (f"its weights began with {each}, which " if number else "")
        datasets = _datasets(data)
        for folder in datasets:
            source = Path(manifest.read_settings(folder).source)
            if source.is_relative_to(own) and source.name != fine:
                return f"{what}learned from labels of this store before the blind sample was drawn; train it anew"
            if not source.is_relative_to(own) and _overlaps(_learned(each, folder), store.pairs.values()):
                return f"{what}was trained on this ground: its figures here would mean nothing"
        same = [] if datasets else sorted(_places(each) & store.pairs.keys())
        if same:
            return f"{what}was trained on {same[0]}: its figures here would mean nothing"
    return None


def _lineage(run: Path) -> Iterator[Path]:
    """Yield a run and those that its weights began with."""
    for _ in range(_MOST_RUNS):
        yield run
        init = run_folder.read_config(run).init
        before = init.encoder_from or init.network_from
        if not before or not Path(before).is_dir():
            return
        run = Path(before)


def _places(run: Path) -> set[str]:
    """Return the ids of the places that a run was trained or validated on."""
    learned, _ = run_folder.learned_from(run)
    return learned | set(run_folder.read_splits(run)["validation"]) if learned else set()


def _datasets(data: DataConfig) -> list[Path]:
    """Return the built datasets of a configuration that are still there."""
    if data.layout == layouts.PREPARED:
        return [Path(root) for root in data.roots if manifest.is_complete(Path(root))]
    found = (
        folder
        for root in data.roots
        for folder in sorted(Path(data.cache).glob(f"{data.layout}-{Path(root).name}-*"))
        if manifest.is_complete(folder)
    )
    return list(found)


def _learned(run: Path, folder: Path) -> list[tuple[str, Box | None]]:
    """Return id and bounds in degrees of the places of a dataset that a run was trained or validated on."""
    known, samples = _places(run), manifest.read_samples(folder)
    return [(each.id, each.bounds) for each in samples if each.id in known or f"{folder.name}/{each.id}" in known]


def _overlaps(places: Iterable[tuple[str, Box | None]], pairs: Iterable[Pair]) -> bool:
    boxes = [(pair.id, _degrees(pair)) for pair in pairs]
    return any(key == name or _meet(box, other) for key, box in places for name, other in boxes)


def _meet(one: Box | None, other: Box | None) -> bool:
    if one is None or other is None:
        return False
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _degrees(pair: Pair) -> Box | None:
    if pair.epsg is None:
        return None
    return rasterio.warp.transform_bounds(f"EPSG:{pair.epsg}", "EPSG:4326", *pair.bounds)
