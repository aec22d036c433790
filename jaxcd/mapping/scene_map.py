"""Makes one map: from scenes and a trained network to all files of the map."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
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
from jaxcd.mapping import calibration
from jaxcd.mapping.decision import damage_from, needs_the_map, threshold_of, threshold_of_map
from jaxcd.mapping.page import web_page
from jaxcd.mapping.predict import adapted, blocks, tiling, weights
from jaxcd.mapping.predict.network import STEPS, WindowNetwork
from jaxcd.mapping.predict.scene_pair import Registered, ScenePair, open_pair, register_pair
from jaxcd.mapping.products import buildings, cells, layers, levels, rasters, styles, summary
from jaxcd.mapping.products.rasters import Rule
from jaxcd.mapping.products.summary import Area, LevelTotals, MapGrid, MapSummary, NetworkUsed, SceneFile, VectorFile
from jaxcd.mapping.products.thresholds import Ranked, at_thresholds
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
"""The files of a map's folder; the files of buildings exist only if the map has buildings."""
LEVEL_FILES = (rasters.CODES, "damage_levels.qml", f"{rasters.CODES}.aux.xml")
"""Further files of a map of levels of damage, which always has the files of buildings, too."""

# Endings of files beside those of an older map: SQLite's would damage a new GeoPackage, and QGIS's hold statistics of
# the old raster.
_BESIDE = ("-wal", "-shm", "-journal", ".aux.xml")
_BLOCKS = ".blocks"
_SIMILAR = 1.5  # a note says so if pixels are larger or smaller than in training by more than this factor
_LITTLE = 0.001  # share of the ground; of burnt Santa Rosa a run of that fire calls 0.014 damage
_SPREAD = 4.0  # pixels; if estimates of a shift differ by more, no single shift fits the whole scene


Measure = Callable[[Path, Grid, MapSettings], dict[str, Any]]
"""Returns `MapSummary.blind_sample` of a map whose rasters are written: given its folder, grid and settings."""


class Mapper(NamedTuple):
    """The network of a run, ready to map scenes.

    Attributes:
        run: the run's folder.
        config: the run's configuration.
        trained: the network as the run's checkpoint holds it.
        network: the network on the devices, which predicts windows.
        weights: digest of the weights.
        metres: side in metres of the pixels that it was trained on; 0 if the run does not record it.
    """

    run: Path
    config: Config
    trained: inference.Trained
    network: WindowNetwork
    weights: str
    metres: float

    @property
    def scale(self) -> Scale:
        """The scale of damage that the network was trained on."""
        return SCALES[self.config.data.scale]


def load(run: Path, settings: MapSettings) -> Mapper:
    """Load the network of a run.

    Raises:
        RunError: the folder holds no run, or the run has no checkpoint.
        ConfigError: the run's network maps no damage, its scale lacks the wanted level, or the window is too small.
    """
    config = run_folder.read_config(run)
    check_maps(config, str(run))
    damage_from(SCALES[config.data.scale], settings)
    least = tiling.least_window(models.describe(config.model))
    if settings.window and settings.window < least:
        raise ConfigError(
            f"--window: expected at least {least} pixels for the {config.model.size} network, got {settings.window}"
        )
    trained = inference.load(config, run)
    return Mapper(
        run=run,
        config=config,
        trained=trained,
        network=WindowNetwork(config, trained, average=settings.average),
        weights=weights.digest(config.model, trained.params, trained.stats),
        metres=run_folder.read_metres(run),
    )


def make(
    mapper: Mapper,
    pre: Sequence[str],
    post: Sequence[str],
    out: Path,
    settings: MapSettings,
    *,
    measure: Measure | None = None,
) -> MapSummary:
    """Map scenes; a call with the folder of an interrupted map continues it.

    Args:
        mapper: the network.
        pre: scenes before the event; the map has the grid of the first one, extended to cover all of them.
        post: scenes after the event, on any grid; where several have data, the first one is used.
        out: folder of the map; `FILES` lists what it will hold.
        settings: settings of the map.
        measure: says how good the map is, once its rasters are there; None: nobody knows.

    Returns:
        The summary of the map.

    Raises:
        RunError: the folder is in use, or holds other files.
        JaxcdError: the scenes or vector files can't be used, or the disk is full; see `open_pair` and `compute`.
    """
    began = time.monotonic()
    pair = open_pair(pre, post, settings)
    notes = (*pair.notes, *_resolution(mapper, pair.grid.metres))
    cells.shape_of(pair.grid, settings.cell)
    registered: tuple[Registered, ...] = ()
    footprints = None
    if settings.footprints is not None:  # read first, because an error in them must not come after hours of prediction
        footprints = buildings.read(pair.grid, settings, mapper.scale)
        notes += footprints.notes
    elif mapper.scale.buildings:
        notes += (
            "no footprints were given, so buildings have the outlines that the network sees; buildings that touch "
            "are one",
        )
    labelled = None if settings.calibrate is None else calibration.read(pair.grid, settings)
    if settings.adapt:
        notes += ("the network's BatchNorm statistics were computed anew on these scenes (--adapt bn)",)
    with _claimed(out):
        if settings.register:
            pair, registered = register_pair(pair)
            notes += _disagreement(registered)
        predicted = _predict(mapper, pair, out, settings, labelled)
        notes += _little(predicted.grown, settings)
        map_layers = layers.write(out, pair.grid, footprints, settings, predicted.levels)
        styles.write(out, buildings=map_layers.buildings is not None, scale=mapper.scale)
        pixel = pair.grid.metres**2
        map_summary = MapSummary(
            name=out.resolve().name,
            area=Area(
                seen_km2=predicted.grown.seen * pixel / 1e6,
                damaged_m2=predicted.grown.damaged * pixel,
                damaged_share=predicted.grown.damaged / predicted.grown.seen,
            ),
            polygons=len(map_layers.polygons),
            buildings={} if map_layers.buildings is None else buildings.counts(map_layers.buildings),
            agreement=map_layers.agreement,
            levels=_level_totals(mapper.scale, predicted, map_layers, pixel, settings),
            worst_cells=summary.worst_cells(map_layers.cells),
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
            blind_sample=None if measure is None else measure(out, pair.grid, settings),
        )
        truth = None if footprints is None else footprints.truth
        at = at_thresholds(predicted.ranked, pair.grid, map_layers.cells, map_layers.buildings, truth, settings)
        web_page.write(out, pair, map_layers, map_summary, at)
        map_summary = dataclasses.replace(map_summary, seconds=time.monotonic() - began)
        summary.write(out, map_summary)
    return map_summary


class _Predicted(NamedTuple):
    """Result of the prediction: pixel counts, the network, probabilities, numbers of blocks; levels, or None."""

    grown: rasters.Grown
    network: NetworkUsed
    ranked: Ranked
    blocks: int
    computed: int
    levels: levels.Levels | None


def _predict(
    mapper: Mapper, pair: ScenePair, out: Path, settings: MapSettings, labelled: calibration.Labelled | None
) -> _Predicted:
    """Predict all blocks of a map, and write its rasters."""
    network = models.describe(mapper.config.model)
    most = settings.window or tiling.default_window(network)
    down, across = (tiling.cover(length, network, most=most) for length in pair.grid.shape)
    scale = mapper.scale
    level = damage_from(scale, settings)
    folder = out / _BLOCKS
    folder.mkdir(exist_ok=True)
    network_used, digest = mapper.network, mapper.weights
    if settings.adapt:
        stats = adapted.fitted(mapper.config, mapper.trained, mapper.weights, pair, out)
        network_used = mapper.network.with_stats(stats)
        digest = weights.digest(mapper.config.model, mapper.trained.params, stats)
    else:
        (out / adapted.FILE).unlink(missing_ok=True)
    how = {"weights": digest, "average": settings.average, "bands": len(scale.levels)}
    planned = blocks.plan(pair, down, across, folder, **how)
    written = blocks.Written(planned)
    computed = 0
    if needs_the_map(settings):
        computed = blocks.compute(pair, planned, down, across, network_used, written)
        threshold = threshold_of_map(planned, pair.grid, level, settings, labelled)
    else:
        threshold = threshold_of(mapper.trained, scale, settings)
    with rasters.growing(planned, written, pair.grid, out, rule=Rule(scale, level, threshold.value)) as growth:
        if not needs_the_map(settings):
            computed = blocks.compute(pair, planned, down, across, network_used, written)
        growth.result()
    _remove(out)  # no file of an earlier map may stay beside the new ones
    grown = rasters.finish(out, growth)
    if not grown.seen:
        _remove(out)
        raise SceneError(
            f"{pair.pre[0].location} and {pair.post[0].location}: no pixel has data both before and after"
            f"{' in the area of interest' if pair.aoi is not None else ''}: one scene is empty where they overlap; "
            f"give "
            "other scenes"
        )
    blocks.drop_others(folder, planned)
    model = mapper.config.model
    used = NetworkUsed(
        run=str(mapper.run),
        name=model.name,
        size=model.size,
        step=mapper.trained.step,
        weights_sha256=digest,
        average=settings.average,
        halo=tiling.halo(network),
        threshold=threshold.value,
        threshold_from=threshold.source,
        threshold_interval=threshold.interval,
        window=(down.window, across.window),
    )
    raster = blocks.as_raster(planned, pair.grid)
    graded = levels.Levels(scale, raster) if scale.buildings else None
    ranked = Ranked.of(raster, level, STEPS, threshold.value)
    return _Predicted(grown, used, ranked, len(planned), computed, graded)


def _level_totals(
    scale: Scale, predicted: _Predicted, map_layers: layers.Layers, pixel: float, settings: MapSettings
) -> LevelTotals | None:
    """Return areas and buildings by level, or None for a map of damage alone; `pixel` is a pixel's area in m²."""
    if not scale.buildings or map_layers.buildings is None:
        return None
    return LevelTotals(
        scale=scale.name,
        damage_from=scale.codes[damage_from(scale, settings)],
        area_m2={name: n * pixel for name, n in zip(scale.levels, predicted.grown.by_level, strict=True)},
        buildings=levels.counts(map_layers.buildings, scale),
        agreement=map_layers.level_agreement,
    )


def _vectors(settings: MapSettings) -> dict[str, VectorFile]:
    """Describe the given files of polygons: location and digest."""
    given = {"footprints": settings.footprints, "aoi": settings.aoi, "calibrate": settings.calibrate}
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
    """Return a note if objects have another size in pixels than in training."""
    there = mapper.metres
    if not there or 1 / _SIMILAR <= metres / there <= _SIMILAR:
        return ()
    return (
        f"the map has pixels of {metres:.3g} m, but the network was trained on pixels of {there:.3g} m: buildings look "
        f"{there / metres:.2g} times as large as in training; set the size of pixels with --gsd",
    )


def _little(grown: rasters.Grown, settings: MapSettings) -> tuple[str, ...]:
    """Return a note if the run's own threshold calls hardly any ground damage: it may be too high for this disaster."""
    share = grown.damaged / grown.seen
    if settings.threshold is not None or needs_the_map(settings) or share >= _LITTLE:
        return ()
    return (
        f"the run's own threshold calls {share:.2%} of the seen ground damage. For a disaster that the network was not "
        "trained on, it is often too high: move the slider on the page, or choose another threshold "
        "(docs/maps.md, Threshold)",
    )


def _disagreement(registered: Sequence[Registered]) -> tuple[str, ...]:
    notes = []
    for scene in registered:
        if not scene.believed:
            notes.append(
                f"{scene.location}: found no reliable shift of up to {LARGEST} pixels; the scene is read unshifted"
            )
        elif scene.spread > _SPREAD:
            notes.append(
                f"{scene.location}: estimates of its shift differ by {scene.spread:.1f} pixels, so that no single "
                "shift fits the whole scene"
            )
    return tuple(notes)


def _plain(settings: MapSettings, scale: Scale) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(settings).items()
        if name != "level" or scale.buildings  # the scale `binary` has no levels to choose from
    }


@contextlib.contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Check the map's folder, and lock it against other processes while the context lasts."""
    check_folder(out, _BLOCKS, holds="map")
    with alone(out, working="mapping into it"):
        for partial in (*out.glob(".partial-*"), *(out / _BLOCKS).glob(".partial-*")):
            partial.unlink()  # left by a killed process
        yield


def _remove(out: Path) -> None:
    """Delete the files of a map, and files that QGIS wrote beside them, but not the blocks."""
    for name in (*FILES, *LEVEL_FILES):
        for ending in ("", *_BESIDE):
            (out / f"{name}{ending}").unlink(missing_ok=True)
