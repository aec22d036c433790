"""One map, from scenes and a network to all its files."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd import __version__, models
from jaxcd.base.errors import ConfigError, SceneError
from jaxcd.base.fingerprints import file_digest
from jaxcd.base.folders import alone, check_folder
from jaxcd.base.scales import SCALES, Scale
from jaxcd.config import Config
from jaxcd.learn.objectives import check_maps
from jaxcd.mapping.decision import damage_from, threshold_for_share, threshold_of
from jaxcd.mapping.page import web_page
from jaxcd.mapping.predict import blocks, tiling, weights
from jaxcd.mapping.predict.network import WindowNetwork
from jaxcd.mapping.predict.scene_pair import Registered, ScenePair, open_pair, register_pair
from jaxcd.mapping.products import buildings, cells, layers, levels, rasters, styles, summary
from jaxcd.mapping.products.rasters import Rule
from jaxcd.mapping.products.summary import Area, LevelTotals, MapGrid, MapSummary, NetworkUsed, SceneFile, VectorFile
from jaxcd.mapping.settings import MapSettings
from jaxcd.runs import inference, run_folder
from jaxcd.scenes.registration import LARGEST
from jaxcd.scenes.windows import Grid

FILES = (
    rasters.PROBABILITY,
    rasters.DECISION,
    "damage_probability.qml",
    "damage.qml",
    layers.DAMAGE,
    layers.DAMAGE_DEGREES,
    layers.BUILDINGS,
    "buildings.qml",
    web_page.PAGE,
    summary.JSON,
    summary.MARKDOWN,
)
"""The files of a map's folder; those of buildings only where there are footprints."""
LEVEL_FILES = (rasters.CODES, "damage_levels.qml", f"{rasters.CODES}.aux.xml")
"""Further files of a map of levels; it always has those of buildings."""

# Files beside those of an older map: SQLite's would spoil a new GeoPackage, QGIS's hold the old raster's statistics.
_BESIDE = ("-wal", "-shm", "-journal", ".aux.xml")
_BLOCKS = ".blocks"
_SIMILAR = 1.5  # a note is made where pixels are larger or smaller than in training by this factor
_SPREAD = 4.0  # pixels; where estimates differ by more, one shift does not fit the whole scene


class Mapper(NamedTuple):
    """A run's network, ready to map scenes.

    Attributes:
        run: its folder.
        config: of the run.
        trained: its network.
        network: on the devices.
        weights: digest of its weights.
        metres: side of the pixels that it was trained on; 0 if the run doesn't record it.
    """

    run: Path
    config: Config
    trained: inference.Trained
    network: WindowNetwork
    weights: str
    metres: float

    @property
    def scale(self) -> Scale:
        """The scale of its levels of damage."""
        return SCALES[self.config.data.scale]


def load(run: Path, settings: MapSettings) -> Mapper:
    """Load the network of a run.

    Raises:
        RunError: no run, or a run without a checkpoint.
        ConfigError: the run's network maps no damage, doesn't know the wanted level, or wants larger windows.
    """
    config = run_folder.read_config(run)
    check_maps(config, str(run))
    damage_from(SCALES[config.data.scale], settings)
    least = tiling.least_window(models.describe(config.model))
    if settings.window and settings.window < least:
        raise ConfigError(f"--window: the {config.model.size} network wants at least {least}, got {settings.window}")
    trained = inference.load(config, run)
    return Mapper(
        run=run,
        config=config,
        trained=trained,
        network=WindowNetwork(config, trained, average=settings.average),
        weights=weights.digest(config.model, trained.params, trained.stats),
        metres=run_folder.read_metres(run),
    )


def make(mapper: Mapper, pre: Sequence[str], post: Sequence[str], out: Path, settings: MapSettings) -> MapSummary:
    """Map scenes; a call with the folder of an earlier one continues where that one ended.

    Args:
        mapper: the network.
        pre: scenes before the event; the map's grid is the first one's, extended to cover all of them.
        post: scenes after the event, on any grid; where several have data, the first one counts.
        out: folder of the map; see `FILES`.
        settings: of the map.

    Returns:
        What is told of the map.

    Raises:
        RunError: the folder is in use, or holds other files.
        JaxcdError: the scenes or vector files can't be used, or there is no room; see `open_pair` and `compute`.
    """
    began = time.monotonic()
    pair = open_pair(pre, post, settings)
    notes = (*pair.notes, *_resolution(mapper, pair.grid.metres))
    cells.shape_of(pair.grid, settings.cell)
    registered: tuple[Registered, ...] = ()
    footprints = None
    if settings.footprints is not None:  # read now: an error in them must not come after hours of prediction
        footprints = buildings.read(pair.grid, settings, mapper.scale)
        notes += footprints.notes
    elif mapper.scale.buildings:
        notes += ("no footprints were given: buildings are outlined as the network sees them, those that touch as one",)
    with _claimed(out):
        if settings.register:
            pair, registered = register_pair(pair)
            notes += _disagreement(registered)
        predicted = _predict(mapper, pair, out, settings)
        found = layers.write(out, pair.grid, footprints, settings, predicted.levels)
        styles.write(out, buildings=found.buildings is not None, scale=mapper.scale)
        pixel = pair.grid.metres**2
        map_summary = MapSummary(
            name=out.resolve().name,
            area=Area(
                seen_km2=predicted.grown.seen * pixel / 1e6,
                damaged_m2=predicted.grown.damaged * pixel,
                damaged_share=predicted.grown.damaged / predicted.grown.seen,
            ),
            polygons=len(found.polygons),
            buildings={} if found.buildings is None else buildings.counts(found.buildings),
            agreement=found.agreement,
            levels=_levels_told(mapper.scale, predicted, found, pixel, settings),
            worst_cells=summary.worst_cells(found.cells),
            pre=tuple(map(SceneFile.of, pair.pre)),
            post=tuple(map(SceneFile.of, pair.post)),
            registration=summary.registration(registered),
            vectors=_vectors(settings),
            network=predicted.network,
            grid=_grid(pair.grid),
            settings=_plain(settings, mapper.scale),
            notes=notes,
            blocks=predicted.blocks,
            blocks_computed=predicted.computed,
            jaxcd=__version__,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
        )
        web_page.write(out, pair, found, map_summary)
        map_summary = dataclasses.replace(map_summary, seconds=time.monotonic() - began)
        summary.write(out, map_summary)
    return map_summary


class _Predicted(NamedTuple):
    """What the rasters hold, the network as it was used, how many blocks this call computed; levels, or None."""

    grown: rasters.Grown
    network: NetworkUsed
    blocks: int
    computed: int
    levels: levels.Levels | None


def _predict(mapper: Mapper, pair: ScenePair, out: Path, settings: MapSettings) -> _Predicted:
    """Make the rasters."""
    network = models.describe(mapper.config.model)
    most = settings.window or tiling.default_window(network)
    down, across = (tiling.cover(length, network, most=most) for length in pair.grid.shape)
    scale = mapper.scale
    level = damage_from(scale, settings)
    folder = out / _BLOCKS
    folder.mkdir(exist_ok=True)
    how = {"weights": mapper.weights, "average": settings.average, "bands": len(scale.levels)}
    planned = blocks.plan(pair, down, across, folder, **how)
    written = blocks.Written(planned)
    computed = 0
    if settings.expect:  # all probabilities must be there before one is chosen
        computed = blocks.compute(pair, planned, down, across, mapper.network, written)
        threshold = threshold_for_share(planned, pair.grid, level, settings.expect)
    else:
        threshold = threshold_of(mapper.trained, scale, settings)
    with rasters.growing(planned, written, pair.grid, out, rule=Rule(scale, level, threshold.value)) as growth:
        if not settings.expect:
            computed = blocks.compute(pair, planned, down, across, mapper.network, written)
        growth.result()
    _remove(out)  # no file of an earlier map may stay beside the new ones
    grown = rasters.finish(out, growth)
    if not grown.seen:
        _remove(out)
        raise SceneError(
            f"{pair.pre[0].location} and {pair.post[0].location}: no pixel is seen both before and after"
            f"{' in the area of interest' if pair.aoi is not None else ''}: one of them is empty where they overlap"
        )
    blocks.drop_others(folder, planned)
    model = mapper.config.model
    used = NetworkUsed(
        run=str(mapper.run),
        name=model.name,
        size=model.size,
        step=mapper.trained.step,
        weights_sha256=mapper.weights,
        average=settings.average,
        halo=tiling.halo(network),
        threshold=threshold.value,
        threshold_from=threshold.source,
        window=(down.window, across.window),
    )
    graded = levels.Levels(scale, blocks.as_raster(planned, pair.grid)) if scale.buildings else None
    return _Predicted(grown, used, len(planned), computed, graded)


def _levels_told(
    scale: Scale, predicted: _Predicted, found: layers.Layers, pixel: float, settings: MapSettings
) -> LevelTotals | None:
    """Say what a map tells of levels; `pixel` is the area of one, in square metres."""
    if not scale.buildings or found.buildings is None:
        return None
    return LevelTotals(
        scale=scale.name,
        damage_from=scale.codes[damage_from(scale, settings)],
        area_m2={name: n * pixel for name, n in zip(scale.levels, predicted.grown.by_level, strict=True)},
        buildings=levels.counts(found.buildings, scale),
        agreement=found.level_agreement,
    )


def _vectors(settings: MapSettings) -> dict[str, VectorFile]:
    """Describe the files of polygons that were given, each with the digest of its content."""
    given = {"footprints": settings.footprints, "aoi": settings.aoi}
    return {
        name: VectorFile(location=str(path), sha256=file_digest(path) if path.is_file() else None)
        for name, path in given.items()
        if path is not None
    }


def _grid(grid: Grid) -> MapGrid:
    return MapGrid(
        crs=grid.crs.to_string(),
        transform=tuple(grid.transform)[:6],
        height=grid.height,
        width=grid.width,
        metres_per_pixel=grid.metres,
    )


def _resolution(mapper: Mapper, metres: float) -> tuple[str, ...]:
    """Note where objects have another size in pixels than in training."""
    there = mapper.metres
    if not there or 1 / _SIMILAR <= metres / there <= _SIMILAR:
        return ()
    return (
        f"pixels of {metres:.3g} m, and the network has learned from pixels of {there:.3g} m: buildings look "
        f"{there / metres:.2g} times as large to it; map in its own size with --gsd",
    )


def _disagreement(registered: Sequence[Registered]) -> tuple[str, ...]:
    notes = []
    for scene in registered:
        if not scene.believed:
            notes.append(
                f"{scene.location}: no shift of up to {LARGEST} pixels could be estimated; it is read unshifted"
            )
        elif scene.spread > _SPREAD:
            notes.append(
                f"{scene.location}: estimates of its shift differ by {scene.spread:.1f} pixels over the scene, one "
                "shift does not fit all of it"
            )
    return tuple(notes)


def _plain(settings: MapSettings, scale: Scale) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(settings).items()
        if name != "level" or scale.buildings  # without levels there is no choice
    }


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Claim the folder for this map, and keep other processes out while the context lasts."""
    check_folder(out, _BLOCKS, holds="map")
    with alone(out, working="mapping into it"):
        for partial in (*out.glob(".partial-*"), *(out / _BLOCKS).glob(".partial-*")):
            partial.unlink()  # left by a killed process
        yield


def _remove(out: Path) -> None:
    """Delete the files of a map, and what QGIS wrote beside them; its blocks stay."""
    for name in (*FILES, *LEVEL_FILES):
        for ending in ("", *_BESIDE):
            (out / f"{name}{ending}").unlink(missing_ok=True)
