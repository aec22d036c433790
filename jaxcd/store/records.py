"""The records of a dataset: shards of ArrayRecord, which workers write, and the metadata by which TFDS reads them.

A record holds `id`, `pre` (sequences `image`, encoded) and `post` (sequences `image`, encoded, and `label`, the codes
of `jaxcd.base.scales`). Dates and counts are in the sidecar `places.json`.

Images and labels are stored as plain byte strings, so TensorFlow is not needed: `features.Image` encodes arrays through
TensorFlow only, and a uint8 tensor feature is stored as int64. With byte strings, the loader can also decode in its own
threads, and decode only the pair that a crop is taken from.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tensorflow_datasets.core.naming import ShardedFileTemplate

from jaxcd.base.files import replacing, write_whole

SUFFIX = ".array_record"
_FOLDER = "records"
_NAME, _VERSION, _SPLIT = "jaxcd_tiles", "1.0.0", "places"
_MOVED = "moved.json"
# ArrayRecord does not compress: images are compressed already, or raw in order to be read fast. A record of two raw
# images of 1024 x 1024 pixels is read in a quarter of the time that it would take with ArrayRecord's own compression
# (benchmarks/NOTES.md).
_WRITER_OPTIONS = "group_size:1,uncompressed"


class Shard(NamedTuple):
    """A file of records: its path and its number of records."""

    path: Path
    length: int


def write_shard(path: Path, records: Iterable[dict]) -> None:
    """Write records to a file, whole or not at all. The same records give the same bytes.

    Args:
        path: the file.
        records: the records; one of them is in memory at a time.

    Raises:
        DiskFullError: the disk is full; the partial file is deleted.
    """
    features = _features()
    specs: Any = features.get_serialized_info()
    serializer = ExampleSerializer(specs)
    with replacing(path) as partial:
        writer = ArrayRecordWriter(os.fspath(partial), _WRITER_OPTIONS)
        try:
            for record in records:
                example = serializer.get_tf_example(features.encode_example(record))
                # Without `deterministic`, the order of fields differs between processes.
                writer.write(example.SerializeToString(deterministic=True))
            writer.close()
        except BaseException as error:
            with contextlib.suppress(Exception):
                writer.close()
            # ArrayRecord's writer reports a full disk only in the text of its error.
            if isinstance(error, RuntimeError) and os.strerror(errno.ENOSPC) in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise


def publish(folder: Path, staging: Path, shards: Sequence[Shard]) -> None:
    """Move shards to where TFDS finds them, and write its metadata.

    Args:
        folder: the dataset's folder.
        staging: the folder in which the shards lie; `take_back` can move them back to it.
        shards: in order of their records.

    Raises:
        OSError: a file could not be moved or written (ENOSPC: the disk is full); the shards are in `staging` again.
    """
    version = _version_folder(folder)
    template = ShardedFileTemplate(
        data_dir=epath.Path(version), dataset_name=_NAME, split=_SPLIT, filetype_suffix=SUFFIX.removeprefix(".")
    )
    shards = [shard for shard in shards if shard.length]
    size = sum(shard.path.stat().st_size for shard in shards)
    names = [path.name for path in template.sharded_filepaths(len(shards))]
    split = tfds.core.SplitInfo(
        name=_SPLIT,
        shard_lengths=[shard.length for shard in shards],
        num_bytes=size,
        filename_template=template,
    )
    try:
        write_whole(
            staging / _MOVED, json.dumps({name: shard.path.name for name, shard in zip(names, shards, strict=True)})
        )
        version.mkdir(parents=True)
        for name, shard in zip(names, shards, strict=True):
            shard.path.rename(version / name)
        tfds.folder_dataset.write_metadata(
            data_dir=version, features=_features(), split_infos=[split], disable_shuffling=True, check_data=False
        )
    except BaseException:
        take_back(folder, staging)
        raise


def take_back(folder: Path, staging: Path) -> None:
    """Undo a `publish` that was killed or failed: move its shards back, and delete its other files."""
    version, moved = _version_folder(folder), staging / _MOVED
    if moved.is_file():
        for name, staged in json.loads(moved.read_text()).items():
            if (version / name).exists():
                (version / name).rename(staging / staged)
        moved.unlink()
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


def open_records(folder: Path) -> Sequence[dict]:
    """Open the records of a finished dataset for random access."""
    reader: Any = tfds.builder_from_directory(_version_folder(folder))  # decorators of TFDS hide the types
    return reader.as_data_source(_SPLIT)


def _version_folder(folder: Path) -> Path:
    return folder / _FOLDER / _NAME / _VERSION


def _features() -> tfds.features.FeaturesDict:
    encoded = tfds.features.Scalar(np.object_)
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "pre": tfds.features.Sequence({"image": encoded}),
            "post": tfds.features.Sequence({"image": encoded, "label": encoded}),
        }
    )
