from pathlib import Path

import pytest

from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from tests.sources.tile_sources import write_folders


@pytest.fixture(scope="session")
def folders_dataset(tmp_path_factory: pytest.TempPathFactory) -> TileDataset:
    """Twelve places of 64 x 64 pixels; see `write_folders`."""
    folder = tmp_path_factory.mktemp("folders")
    build(DataConfig(root=str(write_folders(folder / "source", 12)), layout="folders"), folder / "out")
    return TileDataset.open(folder / "out")


@pytest.fixture
def config() -> Config:
    data = DataConfig(root="unused", crop=32, damage_share=0.5)
    config = Config(seed=3, data=data, train=TrainConfig(batch=4, steps=10))
    config.validate()
    return config


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six places in the folders layout, to be spoilt."""
    return write_folders(tmp_path / "source", 6)
