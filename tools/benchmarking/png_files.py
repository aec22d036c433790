"""A dataset's images as PNG files, as the paper's pipeline reads them."""

from pathlib import Path

import cv2

from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode


def png_files(dataset: TileDataset, folder: Path) -> Path:
    """Write `pre/`, `post/` and `mask/` with a file a place, each at most once; returns `folder`."""
    for part in ("pre", "post", "mask"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for row, sample in enumerate(dataset.samples):
        if (folder / "mask" / f"{sample.id}.png").exists():
            continue
        record = dataset.read(row)
        # A PNG dataset holds the bytes of PNG files.
        (folder / "pre" / f"{sample.id}.png").write_bytes(record.pre[0])
        (folder / "post" / f"{sample.id}.png").write_bytes(record.post[0])
        cv2.imwrite(str(folder / "mask" / f"{sample.id}.png"), decode(record.label[0]))
    return folder
