"""A map of two scenes, end to end, and its parts alone: decoding both files, the network on as many pixels."""

import contextlib
import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window as RasterWindow

from benchmarking.case import Case
from benchmarking.jax_side import configuration
from benchmarking.large_scenes import large_pair

_TILE = 1024  # of the sides that work without overlap; they leave out the rest of a scene
_BANDS = (1, 2, 3)
_DAMAGED = 0.02  # share of the ground that is called damage

Run = tuple[Callable[[int], float], dict[str, Any]]


def mapped(case: Case) -> Run:
    """Make the whole map, as `jaxcd.predict` does, into a new folder each time."""
    from jaxcd import models
    from jaxcd.learn import steps
    from jaxcd.mapping import scene_map
    from jaxcd.mapping.predict import tiling
    from jaxcd.mapping.predict.network import STEPS
    from jaxcd.mapping.settings import MapSettings
    from jaxcd.runs.inference import Trained

    config, settings = configuration(case), MapSettings()
    pre, post = map(str, _pair(case))
    trained = Trained(*steps.build_network(config), 0, None)
    network = scene_map.WindowNetwork(config, trained, average=False)
    # Random weights: the threshold is that from which they call a fiftieth of the ground damage.
    sample = network.fetch(network(*(_corner(path)[None] for path in (pre, post))))
    trained = trained._replace(threshold=float(np.quantile(sample, 1 - _DAMAGED)) / STEPS)
    mapper = scene_map.Mapper(
        run=Path("none"), config=config, trained=trained, network=network, weights="random", metres=0.0
    )
    out = Path(case.cache) / f"map-{case}"

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            shutil.rmtree(out, ignore_errors=True)
            with contextlib.redirect_stderr(io.StringIO()):
                scene_map.make(mapper, [pre], [post], out, settings)
        return time.perf_counter() - start

    described = models.describe(config.model)
    axis = tiling.cover(case.tile, described, most=tiling.default_window(described))
    work = (axis.window * len(axis.spans) / case.tile) ** 2
    return run, {"window": axis.window, "work_of_halos": work}


def decoded(case: Case) -> Run:
    """Read both scenes, block row by block row, and do nothing with them."""
    pair = _pair(case)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            for path in pair:
                with rasterio.open(path) as scene:  # anew: GDAL keeps what an open file has decoded
                    for top in range(0, scene.height, 512):
                        scene.read(_BANDS, window=((top, min(top + 512, scene.height)), (0, scene.width)))
        return time.perf_counter() - start

    return run, {}


def network(case: Case) -> Run:
    """Run the network on as many pixels as the scenes have, in tiles without overlap that lie in memory."""
    from jaxcd.learn import steps
    from jaxcd.mapping.predict.network import WindowNetwork
    from jaxcd.runs.inference import Trained

    config = configuration(case)
    predict = WindowNetwork(config, Trained(*steps.build_network(config), 0, None), average=False)
    pre, post = np.random.default_rng(0).integers(0, 256, (2, predict.batch, _TILE, _TILE, 3), dtype=np.uint8)
    tiles = case.tile**2 / _TILE**2

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(round(count * tiles / predict.batch)):
            predict.fetch(predict(pre, post))
        return time.perf_counter() - start

    return run, {}


def tiled(case: Case) -> Run:
    """Predict with PyTorch as a plain script does: tiles beside each other, read, predicted, written, one by one."""
    import torch
    from torch_reference import build

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model: Any = build(case.model, case.size).to(device)
    model = model.to(memory_format=torch.channels_last).eval()
    mean = torch.tensor((0.485, 0.456, 0.406), device=device).view(1, 3, 1, 1)
    deviation = torch.tensor((0.229, 0.224, 0.225), device=device).view(1, 3, 1, 1)
    pair, out = _pair(case), Path(case.cache) / "torch.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "tiled": True, "compress": "deflate"}

    def ready(scene: Any, window: Any) -> torch.Tensor:
        values = torch.from_numpy(scene.read(_BANDS, window=window))[None].to(device)
        return ((values.float() / 255 - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            with contextlib.ExitStack() as stack:
                pre, post = (stack.enter_context(rasterio.open(path)) for path in pair)
                place = {"height": pre.height, "width": pre.width, "crs": pre.crs, "transform": pre.transform}
                target = stack.enter_context(rasterio.open(out, "w", **profile, **place))
                stack.enter_context(torch.inference_mode())
                for top in range(0, pre.height - _TILE + 1, _TILE):
                    for left in range(0, pre.width - _TILE + 1, _TILE):
                        window: Any = RasterWindow(left, top, _TILE, _TILE)  # pyright: ignore
                        with torch.autocast(device.type, torch.bfloat16, enabled=case.dtype == "bfloat16"):
                            logits = model(ready(pre, window), ready(post, window))
                        found = (logits.float().sigmoid() * 254).round().to(torch.uint8)
                        target.write(found.reshape(_TILE, _TILE).cpu().numpy(), 1, window=window)
        return time.perf_counter() - start

    return run, {"device": str(device)}


def _corner(path: str) -> np.ndarray:
    with rasterio.open(path) as scene:
        return scene.read(_BANDS, window=((0, _TILE), (0, _TILE))).transpose(1, 2, 0)


def _pair(case: Case) -> tuple[Path, Path]:
    folder = Path(case.cache) / f"scenes-{case.tile}"
    folder.mkdir(exist_ok=True)
    return large_pair(folder, side=case.tile)
