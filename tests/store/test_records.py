"""Pieces and their records: how places are cut, and that TFDS's own builder would write the same."""

import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxcd.config import DataConfig
from jaxcd.store import staging
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from jaxcd.store.staging import cut
from tests.sources.tile_sources import write_paper


class JaxcdTiles(tfds.core.GeneratorBasedBuilder):
    """The builder that wrote datasets before workers wrote the shards."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def __init__(self, *, records, **kwargs):
        self._records = records
        super().__init__(**kwargs)

    def _info(self):
        encoded = tfds.features.Scalar(np.object_)
        post = tfds.features.Sequence({"image": encoded, "label": encoded})
        features = {"id": tfds.features.Text(), "pre": tfds.features.Sequence({"image": encoded}), "post": post}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"places": self._generate_examples()}

    def _generate_examples(self):
        return enumerate(self._records)


def test_a_dataset_written_by_tfds_itself_is_read_alike(tmp_path, monkeypatch):
    """Datasets of before have no shard a piece, and TFDS's compression. There are several dates."""
    monkeypatch.setattr(staging, "_PIECE", 1)
    source = write_paper(tmp_path / "source")
    build(DataConfig(root=str(source), layout="paper"), tmp_path / "out")
    new = TileDataset.open(tmp_path / "out")
    records = []
    for row, sample in enumerate(new.samples):
        pre, post, label = new.read(row)
        posts = [{"image": image, "label": codes} for image, codes in zip(post, label, strict=True)]
        records.append({"id": sample.id, "pre": [{"image": image} for image in pre], "post": posts})
    assert max(len(record["pre"]) for record in records) == max(len(record["post"]) for record in records) == 2

    shutil.copytree(tmp_path / "out", tmp_path / "old", ignore=shutil.ignore_patterns("records"))
    builder = JaxcdTiles(records=records, data_dir=tmp_path / "old" / "records", file_format="array_record")
    builder.download_and_prepare()
    old = TileDataset.open(tmp_path / "old")
    assert [old.read(row) for row in range(len(records))] == [new.read(row) for row in range(len(records))]

    ours, theirs = (tmp_path / name / "records" / "jaxcd_tiles" / "1.0.0" for name in ("out", "old"))
    assert (ours / "features.json").read_text() == (theirs / "features.json").read_text()
    ours, theirs = (json.loads((folder / "dataset_info.json").read_text()) for folder in (ours, theirs))
    for info in (ours, theirs):
        (split,) = info["splits"]
        assert sum(map(int, split.pop("shardLengths"))) == len(records) and int(split.pop("numBytes")) > 0
    assert ours == {name: value for name, value in theirs.items() if name != "moduleName"}


@pytest.mark.parametrize(
    ("count", "size", "length"),
    [
        (60, 60 * 2**20, 16),  # 16 MiB
        (60, 61 * 2**20, 8),
        (60, 60 * 100, 131_072),  # all in one
        (60, 60 * 2**26, 1),
        (256, 256 * 2**26, 1),
        (257, 257 * 2**26, 2),  # no more than 256 shards
        (100_000, 100_000 * 2**22, 512),
    ],
)
def test_pieces_have_one_length_a_power_of_two(count, size, length):
    pieces = cut(range(count), size)
    assert [place for piece in pieces for place in piece] == list(range(count))
    assert {len(piece) for piece in pieces[:-1]} <= {length} and len(pieces[0]) == min(length, count)
    assert len(pieces) <= 256
