"""Begin a run with the network of another run, with its encoder alone, or with ImageNet weights."""

import sys
from pathlib import Path
from typing import Any

from jaxcd.base.errors import CheckpointError, RunError
from jaxcd.config import Config
from jaxcd.models import ENCODER, Pretrained, load_pretrained
from jaxcd.runs import checkpoints, inference, run_folder
from jaxcd.runs.checkpoints import shapes


def check_weights(config: Config, run: Path) -> None:
    """Check that the ImageNet weights that a run begins with can be read; one that has begun needs none.

    Raises:
        ConfigError: the network has no such encoder, or a package is missing.
        CheckpointError: the file is missing, damaged or of another network.
    """
    if config.init.pretrained and not checkpoints.exist(run):
        load_pretrained(config.model, config.init.pretrained)


def with_pretrained(
    config: Config, params: dict[str, Any], stats: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], Pretrained]:
    """Replace the encoder of a new network by one with the ImageNet weights `config.init.pretrained`.

    Args:
        config: of the new run.
        params: its parameters.
        stats: its BatchNorm statistics.

    Returns:
        Both with the encoder's part replaced, and where it comes from.

    Raises:
        ConfigError, CheckpointError: as `check_weights`.
    """
    weights = load_pretrained(config.model, config.init.pretrained)
    return params | {ENCODER: weights.params}, stats | {ENCODER: weights.stats}, weights


def check_places(config: Config, places: dict[str, list[str]], *, labels: str) -> set[str]:
    """Check that the initial encoder or network has not learned from places that this run holds out.

    A layout that cuts images names their parts `IMAGE_PART` (`jaxcd.sources.places.SourcePlace.part`): in other data, a
    part of a learned image counts as learned, and an image of which a part is learned.

    Args:
        config: of the new run.
        places: ids of its places by split.
        labels: digest of its dataset.

    Returns:
        Places that it has learned from, in its own run or in one that this run began with.

    Raises:
        RunError: it has, on this dataset or an earlier state of it. For other data, whose places may have the same
            names by chance, a warning is printed instead. The same files in another layout are other data.
    """
    field = "encoder_from" if config.init.encoder_from else "network_from"
    if not getattr(config.init, field):
        return set()
    source = Path(getattr(config.init, field))
    learned, theirs = run_folder.learned_from(source)
    known = learned | {_image(place) for place in learned}
    held = [place for part in ("validation", "test") for place in places[part]]
    equal = [place for place in held if place in learned]
    shared = [place for place in held if place in known or _image(place) in learned]
    if not shared:
        return learned
    data = run_folder.read_config(source).data
    same = data.layout == config.data.layout and bool({*data.roots} & {*config.data.roots})
    other = theirs != labels and not same
    seen = shared if other else equal
    if not seen:
        return learned
    message = (
        f"config.init.{field}: {source} was trained on {len(seen)} places that this run holds out, {seen[0]} among them"
    )
    if not other:
        raise RunError(
            f"{message}; give both the same data and the same config.data.places, split, split_seed, split_shares and "
            "block_size"
        )
    print(f"WARNING: {message}; see that these are not the same places", file=sys.stderr)
    return learned


def _image(place: str) -> str:
    """Return the image that a place is a part of, if its id says so."""
    return place.rpartition("_")[0]


def with_encoder(
    config: Config, params: dict[str, Any], stats: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replace the encoder of a new network by that of the run `config.init.encoder_from`.

    Args:
        config: of the new run.
        params: its parameters.
        stats: its BatchNorm statistics.

    Returns:
        Both, with the encoder's part taken over exactly.

    Raises:
        RunError: no such run, or no checkpoint in it.
        CheckpointError: its encoder has other shapes.
    """
    source = Path(config.init.encoder_from)
    source_config = run_folder.read_config(source)
    trained = inference.load(source_config, source)
    what = f"config.init.encoder_from: the encoder of {source}"
    _check_shapes(what, config, source_config, params[ENCODER], trained.params[ENCODER])
    own = {name: tree for name, tree in trained.stats.items() if name == ENCODER}  # none without BatchNorm
    return params | {ENCODER: trained.params[ENCODER]}, stats | own


def with_network(config: Config, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters and BatchNorm statistics of the run `config.init.network_from`, all of them.

    Args:
        config: of the new run.
        params: its parameters, for their shapes.

    Raises:
        RunError: no such run, or no checkpoint in it.
        CheckpointError: its network has other shapes, or learned another scale.
    """
    source = Path(config.init.network_from)
    source_config = run_folder.read_config(source)
    here, there = config.data.scale, source_config.data.scale
    if here != there:
        raise CheckpointError(
            f"config.init.network_from: the network of {source} learned the scale {there}, and this run learns {here}; "
            "begin with its encoder alone: config.init.encoder_from"
        )
    trained = inference.load(source_config, source)
    _check_shapes(f"config.init.network_from: the network of {source}", config, source_config, params, trained.params)
    return trained.params, trained.stats


def _check_shapes(what: str, config: Config, source: Config, params: dict[str, Any], others: dict[str, Any]) -> None:
    here, there = shapes(params), shapes(others)
    for path in sorted(set(here) | set(there)):
        if here.get(path) != there.get(path):
            raise CheckpointError(
                f"{what} ({source.model.name} {source.model.size}) does not fit "
                f"{config.model.name} {config.model.size}: {path} is {there.get(path, 'absent')} there and "
                f"{here.get(path, 'absent')} here"
            )
