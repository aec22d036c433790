"""The process that compiles for a card: it needs jax with its CUDA plugin, and no card.

The first argument is JSON: the card as XLA's text, the programs, and the folder for their texts. Prints a line of
JSON for each program as it is done.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
from jax.sharding import SingleDeviceSharding  # noqa: E402

from benchmarking.case import Case  # noqa: E402
from benchmarking.compiling.programs import program  # noqa: E402

_MEMORY = ("argument", "output", "alias", "temp")


def main() -> None:
    """Compile one program after the other."""
    given = json.loads(sys.argv[1])
    topology = topologies.get_topology_desc(
        platform="cuda", topology_name="card", target_config=given["card"], topology="1x1x1"
    )
    where = SingleDeviceSharding(topology.devices[0])
    for number, each in enumerate(given["programs"]):
        try:
            answer = _compiled(each, where, Path(given["folder"]) / f"{number}.txt")
        except Exception as error:  # what stands in the way of this program is part of the report
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print("\n" + json.dumps(answer), flush=True)


def _compiled(each: dict[str, Any], where: SingleDeviceSharding, text: Path) -> dict[str, Any]:
    function, arguments = program(Case(**each["case"]), accumulation=each["accumulation"], remat=each["remat"])
    placed = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), arguments)
    start = time.perf_counter()
    compiled = function.trace(*placed).lower(lowering_platforms=("cuda",)).compile()
    seconds, memory = time.perf_counter() - start, compiled.memory_analysis()
    text.write_text(compiled.as_text())
    return {
        "text": str(text),
        "compile_seconds": seconds,
        **{f"{name}_bytes": int(getattr(memory, f"{name}_size_in_bytes")) for name in _MEMORY},
    }


if __name__ == "__main__":
    main()
