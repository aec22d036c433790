"""The TFDS builder: one ArrayRecord record per place, in order of id, images as encoded bytes.

TensorFlow is not needed: the features are plain byte strings, because `features.Image` encodes arrays through
TensorFlow only, and a uint8 tensor feature is stored as int64. Byte strings also let the loader decode in its own
threads, and decode only the pair of a place that a crop is taken from.
"""

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import file_adapters

_SPLIT = "places"
_FOLDER = "records"


class JaxcdTiles(tfds.core.GeneratorBasedBuilder):
    """Places with co-located image pairs and damage labels.

    A record holds `id`, `pre` (sequences `image`, encoded) and `post` (sequences `image`, encoded, and `label`,
    the codes of `jaxcd.base.types`). Dates and counts are in the sidecar `places.json`.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, and looking for checksums imports a package that TFDS 4.9.10 does not declare.
    url_infos = None

    def __init__(self, *, places: Sequence[Callable[[], dict]], on_beam: bool = False, **kwargs: Any):
        self._places, self._on_beam = places, on_beam
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        encoded = tfds.features.Scalar(np.object_)
        features = tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "pre": tfds.features.Sequence({"image": encoded}),
                "post": tfds.features.Sequence({"image": encoded, "label": encoded}),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {_SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Any:
        """Return an iterator over rows and records, or for Beam the transforms that give them."""
        if not self._on_beam:
            return ((row, load()) for row, load in enumerate(self._places))
        from jaxcd.store import beam

        return beam.loaded(self._places)


class _Uncompressed(file_adapters.ArrayRecordFileAdapter):
    """TFDS's writer without its compression: images are compressed already, or raw in order to be read fast.

    A record of two raw images of 1024 x 1024 pixels is read in a quarter of the time (benchmarks/NOTES.md).
    """

    @classmethod
    def write_examples(cls, path: Any, iterator: Iterable[tuple[Any, bytes]]) -> None:
        writer = file_adapters.array_record_module.ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        for _, example in iterator:
            writer.write(example)
        writer.close()


@contextlib.contextmanager
def _uncompressed() -> Iterator[None]:
    adapters, array_record = file_adapters.ADAPTER_FOR_FORMAT, file_adapters.FileFormat.ARRAY_RECORD
    before = adapters[array_record]
    adapters[array_record] = _Uncompressed
    try:
        yield
    finally:
        adapters[array_record] = before


def pack(folder: Path, places: Sequence[Callable[[], dict]], *, runner: Any = None, options: Any = None) -> None:
    """Write the records of a dataset, replacing what an earlier, killed attempt left.

    Args:
        folder: the dataset's folder.
        places: functions that give the records, in order of id: one record is in memory at a time.
        runner: Beam's, to write them through TFDS's own Beam path; None writes them here.
        options: Beam's.

    Raises:
        OSError: among others ENOSPC where the disk is full; nothing is left behind.
    """
    records = folder / _FOLDER
    shutil.rmtree(records, ignore_errors=True)
    # TFDS's progress bars repeat ours, and it prints to stdout, which belongs to our report.
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), _uncompressed():
            made = JaxcdTiles(places=places, on_beam=runner is not None, data_dir=records, file_format="array_record")
            how = tfds.download.DownloadConfig(beam_runner=runner, beam_options=options)
            made.download_and_prepare(download_config=how)
    except BaseException as error:
        shutil.rmtree(records, ignore_errors=True)
        # ArrayRecord's writer reports a full disk only in the text of its error.
        if isinstance(error, RuntimeError) and os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise
    shutil.rmtree(records / "downloads")  # TFDS makes this folder, and leaves it empty


def open_records(folder: Path) -> Sequence[dict]:
    """Open the records of a finished dataset for random access."""
    version = folder / _FOLDER / JaxcdTiles.name / str(JaxcdTiles.VERSION)
    reader: Any = tfds.builder_from_directory(version)  # its decorators hide the signatures
    return reader.as_data_source(_SPLIT)
