"""What an entry says of the network before it computes."""

import sys

import jax

from jaxcd.base.machine import cpu_has_bfloat16
from jaxcd.config import Config
from jaxcd.learn import steps


def announce_network(config: Config) -> None:
    """On a CPU, print what computes the convolutions; warn where that is slower in the network's type than in float32.

    The warning is a training's, too, on a CPU that multiplies bfloat16 itself: only forward passes gain by it
    (benchmarks/NOTES.md).
    """
    if jax.default_backend() != "cpu":
        return
    convolutions = steps.choose_convolutions(config)
    print(f"convolutions: {convolutions.why}", flush=True)
    if config.model.dtype == "bfloat16" and not (convolutions.onednn and cpu_has_bfloat16()):
        print(
            "WARNING: the network computes in bfloat16, which this CPU does more slowly than float32; "
            "train with --config.model.dtype=float32 here",
            file=sys.stderr,
            flush=True,
        )
