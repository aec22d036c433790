"""The settings and places of a built dataset, in two files beside its records.

`dataset.json` is written last: if a folder holds it, the dataset is complete.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxcd.base import fingerprints
from jaxcd.base.errors import DatasetError
from jaxcd.base.files import write_whole
from jaxcd.base.scales import BINARY, SCALES, Scale
from jaxcd.base.types import Bounds
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.sources import layouts

MARKER = "dataset.json"
_PLACES = "places.json"
_FORMAT = 3
_REGISTER = "register"
DIGITS = 8
"""Hexadecimal digits of the digests in a dataset and in its name."""


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """Everything that decides the result of a build.

    Attributes:
        layout: layout of the source.
        source: folder of the source.
        files: digest of the names, sizes and times of the source's files; empty if there are no files (yet).
        incomplete: whether files without a counterpart are left out or refused.
        damage_levels: xBD levels that count as damage (scale `binary`).
        scaling: how 16-bit and float images become 8 bits.
        encoding: how images are encoded in records.
        scenes: how scenes become tiles (layout scenes), as plain values; empty for other layouts.
        format: version of the dataset's format.
        scale: scale of its labels.
        register: whether tiles of other layouts than scenes are registered; for scenes, `scenes` says it.
    """

    layout: str
    source: str
    files: str
    incomplete: str
    damage_levels: tuple[str, ...]
    scaling: str
    encoding: str
    scenes: dict = field(default_factory=dict, hash=False)
    format: int = _FORMAT
    scale: str = BINARY.name
    register: bool = False

    @classmethod
    def of(cls, data: DataConfig) -> "BuildSettings":
        """Return the settings of a configuration that a build depends on.

        Raises:
            ConfigError: labels of the layout, or the label settings of scenes, do not fit `data.scale`.
        """
        layouts.check(data.layout, data.scale)
        if data.layout == layouts.SCENES:  # also where the labels are wanted in another scale than a run's own
            data.scenes.check_together("config.data.scenes.", SCALES[data.scale])
        # If labels have no levels, `damage_levels` has no effect: a change of it must not build the dataset anew.
        has_levels = data.layout in layouts.LAYOUTS and layouts.LAYOUTS[data.layout].has_levels
        levels = tuple(sorted(data.damage_levels)) if has_levels and data.scale == BINARY.name else ()
        source = Path(data.root).resolve()
        files = layouts.listing(data.layout, source)
        if data.layout == layouts.SCENES:
            layers = [Path(name).resolve() for name in (data.scenes.labels, data.scenes.labelled_area) if name]
            files += [entry for layer in layers if layer.is_file() for entry in layouts.listing(layouts.SCENES, layer)]
        scenes = _scenes(data) if data.layout == layouts.SCENES else {}
        for name in ("label_unknown", "label_levels", "labelled_only"):
            if not scenes.get(name):
                scenes.pop(name, None)  # datasets built before this setting existed stay valid
        for name in ("labels", "labelled_area"):
            if scenes.get(name) not in (None, "", "none"):
                scenes[name] = str(Path(scenes[name]).resolve())
        return cls(
            layout=data.layout,
            source=str(source),
            files=fingerprints.digest(files, digits=DIGITS) if files else "",
            incomplete=data.incomplete,
            damage_levels=levels,
            scaling=data.scaling,
            encoding=data.encoding,
            scenes=scenes,
            scale=data.scale,
            register=data.register and data.layout != layouts.SCENES,
        )

    @property
    def registers(self) -> bool:
        """Whether what was taken after the event is registered to what was taken before."""
        return self.register or self.scenes.get(_REGISTER, False)

    @property
    def scenes_config(self) -> ScenesConfig:
        """The settings by which scenes become tiles."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in self.scenes.items()
            if name != _REGISTER
        }
        return ScenesConfig(**values)

    def fingerprint(self) -> str:
        """Return a digest of the settings without `files`, as hexadecimal digits."""
        values = dataclasses.asdict(self) | {"files": ""}
        if self.scale == BINARY.name:
            del values["scale"]  # datasets that were built before scales existed stay valid
        if not self.register:
            del values["register"]  # likewise
        return fingerprints.digest(values, digits=DIGITS)

    def difference(self, other: "BuildSettings") -> str | None:
        """Return a text on the first setting that differs from another build's, or None."""
        return fingerprints.difference(dataclasses.asdict(self), dataclasses.asdict(other))


def _scenes(data: DataConfig) -> dict[str, Any]:
    """Return the settings of scenes for JSON; registration is among them, as in datasets of before."""
    scenes: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(dataclasses.asdict(data.scenes))).items():
        if name == "match_histogram":  # its old place: the order is part of the fingerprint
            scenes[_REGISTER] = data.register
        scenes[name] = value
    return scenes


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """An image of a place: the stem of its file, and its date (text that sorts by time, or "")."""

    name: str
    date: str


@dataclass(frozen=True, kw_only=True)
class LabelledAcquisition(Acquisition):
    """A labelled image, with its numbers of pixels.

    Attributes:
        valid: pixels of known class.
        damaged: pixels of damage.
        codes: pixels of each code of the scale, then those of buildings of unknown level; empty in the scale `binary`.
    """

    valid: int
    damaged: int
    codes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A place with all facts that splits and batches need before images are decoded.

    Attributes:
        id: unique in the dataset.
        block: spatial block given by the layout, or None.
        bounds: where it lies, or None if unknown.
        height: pixels, the same for all images of the place.
        width: pixels.
        pre: images before the event, oldest first.
        post: labelled images after the event, oldest first.
        split: train, validation or test where the source has a published split, or None.
        origin: name of its dataset if several are joined, else empty.
        event: the disaster that hit it, if known (`TileDataset.join`, `jaxcd.store.events`), else empty. It is not
            stored with the dataset.
    """

    id: str
    block: str | None
    bounds: Bounds | None
    height: int
    width: int
    pre: tuple[Acquisition, ...]
    post: tuple[LabelledAcquisition, ...]
    split: str | None = None
    origin: str = ""
    event: str = ""

    @property
    def damaged(self) -> int:
        """Damaged pixels over all labelled images."""
        return sum(post.damaged for post in self.post)

    def read_as(self, reading: UInt8[np.ndarray, "256"], scale: Scale) -> "Sample":
        """Return the place with its counts in a coarser scale than that of its dataset.

        Args:
            reading: table with the coarser scale's code for each code of the dataset.
            scale: the coarser scale. In `binary`, the class of a building of unknown level is unknown.
        """
        return dataclasses.replace(self, post=tuple(_read_as(image, reading, scale) for image in self.post))

    def as_dict(self) -> dict:
        """Return values for JSON. Empty fields that older datasets lack are left out, so that digests stay the same."""
        values = dataclasses.asdict(self)
        del values["event"]
        if not self.origin:
            del values["origin"]
        for image in values["post"]:
            if not image["codes"]:
                del image["codes"]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Sample":
        """Return the place of which `as_dict` returned the values."""
        return cls(
            **values
            | {
                "bounds": None if values["bounds"] is None else tuple(values["bounds"]),
                "pre": tuple(Acquisition(**image) for image in values["pre"]),
                "post": tuple(
                    LabelledAcquisition(**image | {"codes": tuple(image.get("codes", ()))}) for image in values["post"]
                ),
            }
        )


def _read_as(image: LabelledAcquisition, reading: UInt8[np.ndarray, "256"], scale: Scale) -> LabelledAcquisition:
    *known, unknown = image.codes
    if not scale.buildings:
        return dataclasses.replace(image, valid=image.valid - unknown, codes=())
    counts = np.bincount(reading[: len(known)], weights=known, minlength=len(scale.codes)).astype(int)
    return dataclasses.replace(image, codes=(*counts.tolist(), unknown))


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def write(folder: Path, settings: BuildSettings, samples: tuple[Sample, ...]) -> None:
    """Declare a dataset complete: write its places, then its marker."""
    write_json(folder / _PLACES, [sample.as_dict() for sample in samples])
    write_json(folder / MARKER, dataclasses.asdict(settings))


def is_complete(folder: Path) -> bool:
    """Return whether a folder holds a finished dataset."""
    return (folder / MARKER).is_file()


def read_settings(folder: Path) -> BuildSettings:
    """Read the settings of a finished dataset.

    Raises:
        DatasetError: the marker is damaged, or was written by another version of the format.
    """
    values = read_json(folder / MARKER)
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise DatasetError(f"{folder / MARKER}: not a dataset of this version (format {_FORMAT}); build it anew")
    values["damage_levels"] = tuple(values["damage_levels"])
    return BuildSettings(**values)


def read_samples(folder: Path) -> tuple[Sample, ...]:
    """Read the places of a finished dataset, by id.

    Raises:
        DatasetError: the file is missing or damaged.
    """
    try:
        return tuple(Sample.from_dict(values) for values in read_json(folder / _PLACES))
    except (TypeError, KeyError) as error:
        raise DatasetError(f"{folder / _PLACES}: damaged ({error}); delete the folder and build it anew") from error


def read_json(path: Path) -> Any:
    """Read a JSON file of a dataset.

    Raises:
        DatasetError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); delete the folder and build it anew") from error
