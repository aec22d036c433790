"""What an entry says of the network before it computes."""

import sys

import jax

from jaxcd.base.machine import cpu_has_bfloat16
from jaxcd.config import Config
from jaxcd.learn import steps


def announce_network(config: Config, *, trains: bool = False) -> None:
    """On a CPU, print what computes the convolutions; warn where bfloat16 is slower than float32 there.

    A training is warned on every CPU: only forward passes gain by bfloat16 (benchmarks/NOTES.md).

    Args:
        config: of the run.
        trains: whether it is trained here.
    """
    if jax.default_backend() != "cpu":
        return
    convolutions = steps.choose_convolutions(config)
    print(f"convolutions: {convolutions.why}", flush=True)
    fast = convolutions.onednn and cpu_has_bfloat16() and not trains
    if config.model.dtype == "bfloat16" and not fast:
        print(
            "WARNING: the network computes in bfloat16, which this CPU does more slowly than float32; "
            "train with --config.model.dtype=float32 here",
            file=sys.stderr,
            flush=True,
        )
