"""What is measured."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from jaxcd.base.scales import BINARY

COMPILE, LABEL = "compile", "label"
SUITES = ("step", "infer", "augment", "loader", "train", "prepare", "predict", LABEL, COMPILE)
DEFAULT_SUITES = SUITES[:-4]  # three write large scenes first; label and compile come alone
SCENE = 17408
"""Side of a scene as Maxar delivers it, in pixels."""
REFERENCES = ("fc_ef", "fc_siam_conc", "fc_siam_diff")
"""Networks of which there is a PyTorch reference."""
VARIANTS = ("plain", "augment", "frozen")
GRIDS = ("one grid", "warped")
DTYPES = ("bfloat16", "float32")
ENCODINGS = ("png", "jpeg", "webp", "zstd", "raw")
JAXCD, TORCH, COMPILED = "jaxcd", "PyTorch", "PyTorch compiled"
PAPER, PLAIN = "PyTorch, the paper's pipeline", "PyTorch, flips only"
BARE = "rasterio alone"
JUDGED, STAGED = f"{JAXCD}, read and judged", f"{JAXCD}, staged as "
RIVALS = (TORCH, COMPILED, PAPER, BARE)
STEP = "step alone"
NETWORK, DECODED = "network alone", "decoding alone"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured, by all sides of it.

    Attributes:
        suite: step, infer, augment, loader, train, prepare, predict; array (training on a synthetic array in host
            memory); or a ceiling of the hardware: matmul, copy, nothing.
        variant: of suite step: plain, augment (with the augmentation) or frozen (with a frozen encoder); of suite
            prepare: one grid, or warped (the second scene half a pixel off the grid of the first).
        model: network.
        size: of the network.
        batch: pairs.
        tile: side in pixels; of suite predict that of the scenes.
        dtype: float32 or bfloat16.
        scale: of damage, which the network has its outputs from.
        tiles: of suites loader and train: folder of tiles in layout `layout`.
        layout: of `tiles`.
        cache: folder for datasets that are built of `tiles`.
    """

    suite: str
    variant: str = ""
    model: str = ""
    size: str = ""
    batch: int = 0
    tile: int = 0
    dtype: str = "float32"
    scale: str = BINARY.name
    tiles: str = ""
    layout: str = ""
    cache: str = ""

    @property
    def sides(self) -> tuple[str, ...]:
        """Who takes part.

        Augmentation has no rival: the reference does it on the host, image by image. Nor have networks of a scale with
        levels.
        """
        if self.suite == "loader":
            return (*(f"{JAXCD} {encoding}" for encoding in ENCODINGS), PAPER, PLAIN)
        if self.suite in ("train", "array"):
            return JAXCD, STEP
        if self.suite == "prepare":
            return BARE, JUDGED, *(STAGED + encoding for encoding in ("zstd", "jpeg", "raw"))
        referred = self.model in REFERENCES and self.scale == BINARY.name
        if self.suite == "predict":
            return (JAXCD, NETWORK, DECODED, *((TORCH,) if referred else ()))
        if referred and (self.suite == "infer" or self.variant == "plain"):
            return JAXCD, TORCH, COMPILED
        return (JAXCD,)

    def __str__(self) -> str:
        """Name it in a line of the table."""
        what = f"{self.suite} {self.variant}".strip()
        scale = self.scale if self.model and self.scale != BINARY.name else ""
        parts = [what, self.model, self.size, scale, f"{self.batch} x {self.tile}²", self.dtype if self.model else ""]
        return ", ".join(part for part in parts if part)


def cases(suites: Sequence[str], models: Sequence[str], dtypes: Sequence[str], template: Case) -> Iterator[Case]:
    """Give the cases of some suites: those that know no network once, the others for each network and type.

    Args:
        suites: of `SUITES`.
        models: names of networks.
        dtypes: of `DTYPES`.
        template: what all cases have in common.
    """
    for suite in suites:
        if suite in ("augment", "loader"):
            yield replace(template, suite=suite, size="")
            continue
        if suite == "prepare":
            yield from (replace(template, suite=suite, variant=grid, size="", batch=1) for grid in GRIDS)
            continue
        if suite == "predict":
            template = replace(template, batch=1)
        for model, dtype in itertools.product(models, dtypes):
            for variant in VARIANTS if suite == "step" else ("",):
                yield replace(template, suite=suite, variant=variant, model=model, dtype=dtype)
