"""How an acquisition looks: sun, view, season, sensor; and the canvas that things are painted on."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

Colour = tuple[float, float, float]
_FRACTION = 4  # bits of a pixel that OpenCV's drawing keeps


@dataclass(frozen=True, kw_only=True)
class Look:
    """Light, season and sensor of one image; colours are RGB 0..255.

    Attributes:
        sun_azimuth: degrees clockwise from north.
        sun_elevation: degrees above the horizon.
        view: shift of a roof per metre of height, in metres to the east and south.
        offset: misregistration in pixels, x and y.
        post: whether this is the image after the event.
        leaves: share of leaves on trees that shed them.
        soil, grass, leaf, evergreen, asphalt: colours of the season.
        crops: colours of fields.
        dust: how much dust lies on the streets, 0..1.
        gain: of the three bands.
        haze: added to all bands.
        gamma: exponent of the tone curve.
        blur: standard deviation of the sensor's blur in pixels.
        noise: standard deviation of the sensor's noise.
    """

    sun_azimuth: float
    sun_elevation: float
    view: tuple[float, float]
    offset: tuple[float, float]
    post: bool
    leaves: float
    soil: Colour
    grass: Colour
    leaf: Colour
    evergreen: Colour
    asphalt: Colour
    crops: tuple[Colour, ...]
    dust: float
    gain: Colour
    haze: float
    gamma: float
    blur: float
    noise: float

    def shadow(self, height: float) -> Float[np.ndarray, "2"]:
        """Where the tip of something `height` metres tall casts its shadow, in metres east and south."""
        azimuth, length = np.radians(self.sun_azimuth), height / np.tan(np.radians(self.sun_elevation))
        return np.array([-np.sin(azimuth), np.cos(azimuth)]) * length

    def lean(self, height: float) -> Float[np.ndarray, "2"]:
        """How far the view shifts something `height` metres above ground, in metres east and south."""
        return np.array(self.view) * height

    def shade(self, facing: Float[np.ndarray, "2"], slope: float) -> float:
        """Brightness, relative to level ground, of a surface that falls towards `facing` by `slope` radians."""
        azimuth, elevation = np.radians(self.sun_azimuth), np.radians(self.sun_elevation)
        sun = np.array([np.sin(azimuth), -np.cos(azimuth)]) * np.cos(elevation)
        lit = np.cos(slope) * np.sin(elevation) + np.sin(slope) * float(facing @ sun)
        return float(0.4 + 0.6 * max(0.0, lit) / np.sin(elevation))


def summer(rng: np.random.Generator) -> Look:
    """A high sun, green trees and dry ground: the image before the event."""
    tilt, towards = rng.uniform(0, 0.035), rng.uniform(0, 2 * np.pi)
    return Look(
        sun_azimuth=rng.uniform(120, 165),
        sun_elevation=rng.uniform(54, 66),
        view=(tilt * np.cos(towards), tilt * np.sin(towards)),
        offset=(0.0, 0.0),
        post=False,
        leaves=1.0,
        soil=(172, 148, 116),
        grass=(98, 112, 62),
        leaf=(58, 82, 44),
        evergreen=(42, 62, 40),
        asphalt=(126, 122, 118),
        crops=((196, 172, 116), (112, 126, 66), (150, 122, 92), (184, 160, 120), (128, 132, 78)),
        dust=0.25,
        gain=(1.04, 1.0, 0.95),
        haze=2.0,
        gamma=0.98,
        blur=rng.uniform(0.55, 0.65),
        noise=2.2,
    )


def winter(rng: np.random.Generator) -> Look:
    """A low sun, bare trees, damp ground and a slanted view: the image after the event."""
    tilt, towards = rng.uniform(0.1, 0.2), rng.uniform(0, 2 * np.pi)
    drift, direction = rng.uniform(1.0, 2.4), rng.uniform(0, 2 * np.pi)
    return replace(
        summer(rng),
        sun_azimuth=rng.uniform(145, 205),
        sun_elevation=rng.uniform(29, 38),
        view=(tilt * np.cos(towards), tilt * np.sin(towards)),
        offset=(drift * np.cos(direction), drift * np.sin(direction)),
        post=True,
        leaves=rng.uniform(0.0, 0.15),
        soil=(142, 122, 98),
        grass=(112, 108, 72),
        leaf=(110, 98, 82),
        evergreen=(48, 60, 44),
        asphalt=(120, 114, 106),
        crops=((92, 118, 62), (120, 98, 76), (134, 112, 88), (104, 116, 66), (150, 130, 102)),
        dust=0.6,
        gain=(rng.uniform(0.93, 1.05), rng.uniform(0.9, 0.99), rng.uniform(0.82, 0.95)),
        haze=rng.uniform(4, 10),
        gamma=rng.uniform(0.92, 1.08),
        blur=rng.uniform(0.6, 0.75),
        noise=2.8,
    )


class Canvas:
    """A uint8 image with smooth drawing in metres; a rim of `margin` pixels around the scene is cut off at the end."""

    def __init__(self, extent: float, *, gsd: float, margin: int, bands: int):
        self.gsd, self.margin = gsd, margin
        side = round(extent / gsd) + 2 * margin
        self.pixels: UInt8[np.ndarray, "h w c"] = np.zeros((side, side, bands), np.uint8)

    def to_pixels(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Metres to pixel centres."""
        return points / self.gsd + self.margin - 0.5

    def polygon(self, points: Float[np.ndarray, "n 2"], colour: Colour | float) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], _colour(colour), cv2.LINE_AA, _FRACTION)

    def hull(self, points: Float[np.ndarray, "n 2"], colour: Colour | float) -> None:
        """Fill the convex hull of points."""
        hull = cv2.convexHull(self._fixed(points))
        cv2.fillConvexPoly(self.pixels, hull, _colour(colour), cv2.LINE_AA, _FRACTION)

    def line(self, points: Float[np.ndarray, "n 2"], width: float, colour: Colour | float) -> None:
        """Draw a line of `width` metres."""
        thick = max(1, round(width / self.gsd))
        cv2.polylines(self.pixels, [self._fixed(points)], False, _colour(colour), thick, cv2.LINE_AA, _FRACTION)

    def circle(self, centre: Float[np.ndarray, "2"], radius: float, colour: Colour | float) -> None:
        """Fill a circle of `radius` metres."""
        x, y = self._fixed(centre[None])[0].tolist()
        size = round(radius / self.gsd * 2**_FRACTION)
        cv2.circle(self.pixels, (x, y), size, _colour(colour), -1, cv2.LINE_AA, _FRACTION)

    def _fixed(self, points: Float[np.ndarray, "n 2"]) -> np.ndarray:
        return np.rint(self.to_pixels(points) * 2**_FRACTION).astype(np.int32)


def tinted(colour: Colour, factor: float) -> Colour:
    """A colour made brighter or darker."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def noise_field(rng: np.random.Generator, side: int, scales: tuple[float, ...]) -> Float32[np.ndarray, "side side"]:
    """Smooth noise of mean 0 and deviation 1 with equal shares of the given grain sizes in pixels."""
    field = np.zeros((side, side), np.float32)
    for scale in scales:
        count = max(4, int(side / scale) + 3)
        coarse = rng.standard_normal((count, count), np.float32)
        grown = round(count * scale)
        big = cv2.resize(coarse, (max(grown, side), max(grown, side)), interpolation=cv2.INTER_CUBIC)
        field += big[:side, :side] / max(float(big.std()), 1e-6)
    return field / np.float32(np.sqrt(len(scales)))


def _colour(colour: Colour | float) -> Colour | float:
    if isinstance(colour, tuple):
        return min(colour[0], 255.0), min(colour[1], 255.0), min(colour[2], 255.0)
    return colour
