"""Small real source folders, made on the spot."""

import json
from pathlib import Path

import cv2
import numpy as np


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them, with a seed of their own."""
    coarse = np.random.default_rng(seed).integers(1, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_rgb(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def rectangle(left: float, top: float, right: float, bottom: float) -> str:
    return f"POLYGON (({left} {top}, {right} {top}, {right} {bottom}, {left} {bottom}, {left} {top}))"


def to_degrees(x: float, y: float) -> tuple[float, float]:
    """A tile at 37 E, 36 N whose pixels have about half a metre."""
    return 37 + x * 5.5e-6, 36 - y * 4.5e-6


def xbd_label(buildings: list[tuple[tuple[float, float, float, float], str]], size: int = 64) -> dict:
    """An xBD label of rectangles (left, top, right, bottom) and their levels."""
    pixels, degrees = [], []
    for i, (box, level) in enumerate(buildings):
        properties = {"feature_type": "building", "subtype": level, "uid": f"b{i}"}
        pixels.append({"properties": properties, "wkt": rectangle(*box)})
        corners = (*to_degrees(box[0], box[1]), *to_degrees(box[2], box[3]))
        degrees.append({"properties": properties, "wkt": rectangle(*corners)})
    metadata = {"width": size, "height": size, "capture_date": "2023-02-08T08:00:00.000Z"}
    return {"features": {"xy": pixels, "lng_lat": degrees}, "metadata": metadata}


def write_folders(source: Path, count: int, *, size: int = 64, suffix: str = ".png") -> Path:
    """`count` places in the folders layout; place i has i + 1 damaged rows of its first 8 columns."""
    for i in range(count):
        write_rgb(source / "A" / f"p{i:03}{suffix}", picture(2 * i, size, size))
        write_rgb(source / "B" / f"p{i:03}{suffix}", picture(2 * i + 1, size, size))
        mask = np.zeros((size, size), np.uint8)
        mask[: i + 1, :8] = 255
        write_rgb(source / "label" / f"p{i:03}.png", mask)
    return source


def write_airchange(source: Path, name: str) -> Path:
    """Made-up pictures under the names of AirChange, of its size in one set; masks have 3 corners of 4, 8 and 16 px."""
    for kept, count in (("szada", 7), ("tiszadob", 5), ("archieve", 1)):
        height, width = (640, 952) if kept == name else (8, 8)
        mask = np.zeros((height, width), np.uint8)
        mask[:4, :4] = mask[:8, -8:] = mask[-16:, :16] = 255
        for i in range(1, count + 1):
            stem = "archieve" if kept == "archieve" else f"{kept}_{i}"
            write_rgb(source / "A" / f"{stem}.png", picture(2 * i, height, width))
            write_rgb(source / "B" / f"{stem}.png", picture(2 * i + 1, height, width))
            write_rgb(source / "label" / f"{stem}.png", mask)
    return source


def write_xbd(source: Path, name: str, label: dict, *, seed: int = 0, suffix: str = ".png") -> Path:
    write_rgb(source / "images" / f"{name}_pre_disaster{suffix}", picture(seed))
    write_rgb(source / "images" / f"{name}_post_disaster{suffix}", picture(seed + 1))
    (source / "labels").mkdir(exist_ok=True)
    (source / "labels" / f"{name}_post_disaster.json").write_text(json.dumps(label))
    return source


def write_paper(source: Path) -> Path:
    """Two places: one with two pre and two labelled posts, one with an unlabelled post beside a labelled one."""
    names = {
        "pre": ["03_2021-05-01_AA-visual_7", "03_2022-05-01_AB-visual_7", "12_2022-05-01_AB-visual_0"],
        "post": [
            "03_2023-02-07_AC-visual_7",
            "03_2023-02-09_AD-visual_7",
            "12_2023-02-07_AC-visual_0",
            "12_2023-02-09_AD-visual_0",
        ],
    }
    for folder, stems in names.items():
        for i, stem in enumerate(stems):
            write_rgb(source / folder / f"{stem}.png", picture(10 * len(folder) + i))
    for i, name in enumerate(names["post"][:3]):
        mask = np.zeros((64, 64), np.uint8)
        mask[0, : i + 1] = 1
        write_rgb(source / "masks" / f"{name}.png", mask)
    return source
