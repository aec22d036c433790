"""One side of one case, in a process of its own.

The case comes as JSON in the only argument. Prints `{...}` when it is ready; then takes lines: a number runs that many
steps and answers with the seconds they took, `end` answers with the peak of memory and ends.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from benchmarking.bare import supply_jaxtyping  # noqa: E402
from benchmarking.case import BARE, COMPILED, DECODED, JAXCD, NETWORK, PAPER, PLAIN, STAGED, TORCH, Case  # noqa: E402
from jaxcd.base.processes import keep_freed_memory  # noqa: E402

Run = Callable[[int], float]
"""Runs steps until all of them are done; returns the seconds that took."""


def prepare(case: Case, side: str) -> tuple[Run, dict[str, Any]]:
    """Return how to run steps, and what there is to tell of this side."""
    if case.suite in ("loader", "prepare") and hasattr(os, "sched_setaffinity"):
        # The figure is per core. Set before anything starts threads.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if case.suite == "prepare":
        from benchmarking import preparing

        return preparing.bare(case) if side == BARE else preparing.tiles(case, side.partition(STAGED)[2])
    if case.suite == "predict":
        from benchmarking import predicting

        sides = {JAXCD: predicting.mapped, NETWORK: predicting.network, DECODED: predicting.decoded}
        return sides.get(side, predicting.tiled)(case)
    if case.suite == "loader":
        from benchmarking import loading

        if side in (PAPER, PLAIN):
            return loading.torch_batches(case, augmented=side == PAPER)
        return loading.batches(case, side.removeprefix(f"{JAXCD} "))
    if case.suite == "train":
        from benchmarking import loading

        return loading.training(case, loads=side == JAXCD)
    if case.suite == "array":
        from benchmarking import in_memory

        return in_memory.training(case, moves=side == JAXCD)
    if side in (TORCH, COMPILED):
        from benchmarking import torch_side

        return torch_side.prepare(case, compiled=side == COMPILED)
    from benchmarking import jax_side

    return jax_side.prepare(case)


def peak_bytes() -> int:
    """Peak of memory: of the device where there is one, else of this process."""
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    elif "jax" in sys.modules:
        import jax

        statistics = jax.devices()[0].memory_stats()
        if statistics:
            return int(statistics["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(answer: dict[str, Any]) -> None:
    print("\n" + json.dumps(answer), flush=True)


def main() -> None:
    """Answer until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    keep_freed_memory()  # as jaxcd's entries do
    supply_jaxtyping()
    given = json.loads(sys.argv[1])
    try:
        run, about = prepare(Case(**given["case"]), given["side"])
    except Exception as error:  # whatever stands in the way of this side is part of the report
        if isinstance(error, ModuleNotFoundError):
            _say({"failed": f"needs {error.name}"})
        else:
            _say({"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        return
    _say(about)
    for line in sys.stdin:
        if line.strip() == "end":
            _say({"peak_bytes": peak_bytes()})
            return
        try:
            seconds = run(int(line))
        except Exception as error:  # too little memory, say
            _say({"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"})
            return
        _say({"seconds": seconds})


if __name__ == "__main__":
    main()
