"""The part of the configuration that says how training makes the two dates of a pair differ."""

from dataclasses import dataclass

from jaxcd.config.fields import SHARE, Bound, one_of, setting

_PIXELS = Bound(lambda pixels: 0 <= pixels <= 64, "pixels between 0 and 64")


@dataclass(kw_only=True, slots=True)
class DatesConfig:
    """What differs between two images that is no damage; zero switches an operation off.

    `jaxcd.learn.augmentation.dates` says what each number means.
    """

    tone: float = setting(0.0, "largest change of each band's gain, offset and gamma, for each date by itself", SHARE)
    haze: float = setting(0.0, "largest share of haze over an image, for each date by itself", SHARE)
    shade: float = setting(0.0, "largest darkening towards one side of an image, for each date by itself", SHARE)
    blur: float = setting(
        0.0,
        "standard deviation of the largest Gaussian blur in pixels, for each date by itself",
        Bound(lambda pixels: 0 <= pixels <= 4, "pixels between 0 and 4"),
    )
    moved: str = setting(
        "pre",
        "which image of a pair is moved (shift, turn, stretch, parallax): the one that the labels were not drawn on",
        one_of("pre", "post"),
    )
    shift: float = setting(0.0, "largest shift of one image against the other, in pixels", _PIXELS)
    turn: float = setting(
        0.0,
        "largest turn of one image against the other, in degrees",
        Bound(lambda degrees: 0 <= degrees <= 45, "degrees between 0 and 45"),
    )
    stretch: float = setting(0.0, "largest change of scale of one image, as a share", SHARE)
    parallax: float = setting(
        0.0, "largest shift of the buildings alone in one image, in pixels (not with data.scale = binary)", _PIXELS
    )
    swap: float = setting(0.0, "share of crops without damage whose two images change places", SHARE)
