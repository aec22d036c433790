"""Batches from disk: jaxcd's loader in each encoding, the paper's pipeline in PyTorch, and training on both ends."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.case import Case
from jaxcd.config import AugmentConfig, Config, DataConfig, TrainConfig
from jaxcd.feed.loader import reading_threads, train_batches, training_dataset
from jaxcd.store.dataset import TileDataset, open_or_build

_STRIDE = 32
_PNG = "png"
_DRAWS = 10**6  # more than any run takes
_TOWN = 2048  # side of the simulated scene, pixels


def batches(case: Case, encoding: str) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Give tiles of a dataset in some encoding as batches of bytes, one after the other and nothing read ahead."""
    dataset = _dataset(case, encoding)
    rows = range(len(dataset.samples))
    config = Config(
        data=_data(case, encoding),
        augment=AugmentConfig(flips=True),
        train=TrainConfig(batch=case.batch, steps=1),
    )
    source = training_dataset(dataset, rows, config, stride=_STRIDE)
    positions = itertools.count()

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            source[next(positions)]
        return time.perf_counter() - start

    records = map(dataset.read, rows)
    sizes = [len(record.pre[0]) + len(record.post[0]) + len(record.label[0]) for record in records]
    return run, {"bytes_per_pair": float(np.mean(sizes)), "tiles": len(sizes)}


def torch_batches(case: Case, *, augmented: bool) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Give the same tiles, PNG files, through OpenCV and albumentations as batches of float tensors.

    docs/method.md, Augmentation: all of it on the host, as in the paper; else flips and normalisation only.
    """
    import albumentations as A
    import cv2
    import torch
    from albumentations.pytorch import ToTensorV2
    from torch.utils.data import DataLoader, Dataset, RandomSampler

    from benchmarking.png_files import png_files

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    folder = png_files(_dataset(case, _PNG), Path(case.cache) / _PNG)
    names = sorted(path.name for path in (folder / "pre").iterdir())
    heavy = [
        A.OneOf([A.RandomBrightnessContrast(0.2, 0.2, p=1), A.RandomGamma((80, 120), p=1)], p=0.5),
        A.OneOf([A.GaussianBlur((3, 7), p=1), A.CLAHE(p=1)], p=0.5),
        A.OneOf([A.GaussNoise(p=1), A.ISONoise(p=1)], p=0.5),
        A.Affine(translate_percent=(-0.05, 0.05), scale=(0.95, 1.05), rotate=(-90, 90), p=0.5),
    ]
    flips: list[Any] = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
    chain = A.Compose(
        [*(heavy[:3] if augmented else []), *flips, *(heavy[3:] if augmented else []), A.Normalize(), ToTensorV2()],
        additional_targets={"post": "image"},
    )

    class Tiles(Dataset):
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, i: int) -> tuple[Any, Any, Any]:
            pre, post = (cv2.imread(str(folder / part / names[i]), cv2.IMREAD_COLOR_RGB) for part in ("pre", "post"))
            mask = cv2.imread(str(folder / "mask" / names[i]), cv2.IMREAD_GRAYSCALE)
            pre, post, mask = (image[: case.tile, : case.tile] for image in (pre, post, mask))
            transformed = chain(image=pre, post=post, mask=mask)
            return transformed["image"], transformed["post"], transformed["mask"]

    tiles = Tiles()
    draws = RandomSampler(tiles, replacement=True, num_samples=_DRAWS)
    endless = iter(DataLoader(tiles, batch_size=case.batch, sampler=draws))

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            next(endless)
        return time.perf_counter() - start

    versions = {"torch": torch.__version__, "albumentations": A.__version__, "opencv": cv2.__version__}
    return run, {"versions": versions}


def training(case: Case, *, loads: bool) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Give the training step with augmentation, on batches as they are loaded, or on one that is there already."""
    from benchmarking.jax_side import configuration
    from benchmarking.stepping import stepping
    from jaxcd import models

    config = configuration(case, data=_data(case, DataConfig().encoding))
    dataset = _dataset(case, config.data.encoding)
    loaded = train_batches(dataset, range(len(dataset.samples)), config, stride=models.describe(config.model).stride)
    return stepping(config, loaded, ahead=reading_threads() + 1 + config.data.prefetch, moves=loads), {}


def _data(case: Case, encoding: str) -> DataConfig:
    root = case.tiles or str(_simulated(case))
    return DataConfig(root=root, layout=case.layout, cache=case.cache, crop=case.tile, encoding=encoding)


def _simulated(case: Case) -> Path:
    """Cut a simulated town into tiles, once."""
    from jaxcd import simulator

    folder = Path(case.cache) / f"town-{case.tile}"
    if not folder.exists():
        scene = simulator.simulate(folder.with_name("scene"), seed=0, size=max(_TOWN, case.tile))
        simulator.cut_tiles(scene, folder, tile=case.tile)
    return folder


def _dataset(case: Case, encoding: str) -> TileDataset:
    return open_or_build(_data(case, encoding))
