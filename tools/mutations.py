"""Does the default test suite notice a fault? Plants faults of one line, one by one, and runs the tests they concern.

    python tools/mutations.py [NAME ...]       all faults, or those of these names

Each fault goes into a copy of the checkout. A fault is found when a test fails that `sh tools/test` runs by default,
and passes without the fault. Prints a table and exits 1 when a fault was not found.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Fault(NamedTuple):
    """A line that is wrong.

    Attributes:
        name: what is wrong.
        file: of jaxcd.
        line: a part of the right line, of which the file has exactly one.
        wrong: what takes its place.
        tests: files or tests of which one has to fail.
    """

    name: str
    file: str
    line: str
    wrong: str
    tests: str


FAULTS = (
    Fault(
        "a run is evaluated by its raw weights, not by the averages",
        "runs/checkpoints.py",
        "averaged = (self.folder / str(step) / _AVERAGED).is_dir()",
        "averaged = False",
        "tests/runs/test_checkpoints.py",
    ),
    Fault(
        "validations see the raw weights, not the averages",
        "tasks/loop.py",
        "validated = self.validate(params, stats, self.step, self._watch)",
        "validated = self.validate(self.state.params, self.state.stats, self.step, self._watch)",
        "tests/test_train.py::test_the_averages_are_what_is_validated_kept_as_best_and_evaluated",
    ),
    Fault(
        "the averages of a run that begins with an encoder begin at a random one",
        "tasks/loop.py",
        "state.begun_with(*transfer.with_encoder(config, state.params, state.stats))",
        "state._replace(**dict(zip(('params', 'stats'), transfer.with_encoder(config, state.params, state.stats))))",
        "tests/test_pretrain.py::test_a_run_is_gone_on_with_before_and_after_its_thaw",
    ),
    Fault(
        "a validation as good as the best one renews the patience",
        "tasks/loop.py",
        "score > self.score",
        "score >= self.score",
        "tests/test_train.py::test_patience_ends_a_run_at_its_validation_and_the_count_survives_interruptions",
    ),
    Fault(
        "a crop's mask is not turned with its images",
        "feed/crops.py",
        "turns=turns), into)",
        "turns=turns * (image.ndim == 3)), into)",
        "tests/feed/test_loader.py",
    ),
    Fault(
        "a crop's mask is flipped the other way",
        "feed/crops.py",
        "_turned(crop, flips=(vertical, horizontal),",
        "_turned(crop, flips=(vertical, horizontal)[:: image.ndim * 2 - 5],",
        "tests/feed/test_loader.py",
    ),
    Fault(
        "the cross-entropy counts unknown pixels",
        "learn/losses.py",
        "parts = valid, valid * entropy,",
        "parts = valid, entropy,",
        "tests/learn/test_losses.py",
    ),
    Fault(
        "a loss divides by all pixels",
        "learn/losses.py",
        "total.cross_entropy / (total.valid + (total.valid == 0))",
        "total.cross_entropy / (total.valid + 1)",
        "tests/learn/test_losses.py",
    ),
    Fault(
        "a resumed run repeats its last batch",
        "feed/loader.py",
        "return read_ahead(batches[start:], config)",
        "return read_ahead(batches[max(start - 1, 0) :], config)",
        "tests/feed/test_loader.py",
    ),
    Fault(
        "a window of the map is cut at the wrong place",
        "mapping/predict/tiling.py",
        "edges = [0, *(start + margin for start in starts[1:]), length]",
        "edges = [0, *(start + margin - 1 for start in starts[1:]), length]",
        "tests/mapping/test_tiling.py",
    ),
    Fault(
        "windows overlap too little",
        "models/unet.py",
        "low, high = low - convolutions, high + convolutions\n        skips",
        "low, high = low - convolutions + 1, high + convolutions - 1\n        skips",
        "tests/models/test_description.py tests/mapping/test_seams.py",
    ),
    Fault(
        "a turned view of the map is not turned back",
        "learn/averaging.py",
        "jnp.rot90(maps, -(view % 4), axes=(1, 2))",
        "jnp.rot90(maps, view % 4, axes=(1, 2))",
        "tests/mapping/test_seams.py",
    ),
    Fault(
        "a file is not renamed into place",
        "base/files.py",
        "        partial.replace(path)\n",
        "        path.write_bytes(partial.read_bytes())\n",
        "tests/test_files.py",
    ),
    Fault(
        "a checkpoint set aside is not put back",
        "runs/checkpoints.py",
        "            aside.rename(self.folder / aside.name.removeprefix(_ASIDE))\n",
        "            shutil.rmtree(aside)\n",
        "tests/runs/test_checkpoints.py",
    ),
    Fault(
        "a validation cut short is not made up for",
        "tasks/loop.py",
        "            self.validation_due = True\n",
        "            self.validation_due = False\n",
        "tests/test_train.py::test_signal_before_a_validation_ends_it_and_the_next_start_makes_up_for_it",
    ),
    Fault(
        "each step augments and drops out alike",
        "learn/steps.py",
        "        key = jax.random.fold_in(key, state.step)\n",
        "",
        "tests/learn/test_steps.py",
    ),
    Fault(
        "micro-batches are summed, not averaged",
        "learn/steps.py",
        "lambda g: g / parts, total",
        "lambda g: g * 1.0, total",
        "tests/learn/test_steps.py",
    ),
    Fault(
        "a frozen encoder's statistics move",
        "learn/steps.py",
        "network.frozen if held else network.train",
        "network.train",
        "tests/runs/test_transfer.py",
    ),
    Fault(
        "BatchNorm keeps the biased variance",
        "models/blocks.py",
        "m * var[t] * (n / max(n - 1, 1))",
        "m * var[t]",
        "tests/models",
    ),
    Fault(
        "the second date does not move the statistics in turn",
        "models/blocks.py",
        "for t in range(self.streams):",
        "for t in range(1):",
        "tests/models",
    ),
    Fault(
        "a transposed convolution is not flipped",
        "models/blocks.py",
        "self.kernel[...][::-1, ::-1].transpose",
        "self.kernel[...].transpose",
        "tests/models",
    ),
    Fault(
        "the last of equal pixels takes pooling's gradient",
        "models/kernels.py",
        "larger = pixel > largest",
        "larger = pixel >= largest",
        "tests/models/test_kernels.py",
    ),
    Fault(
        "BatchNorm's gradient forgets that the variance depends on the pixels",
        "models/kernels.py",
        "- x * _wide(slope) + _wide(mean * slope",
        "+ _wide(0 * slope",
        "tests/models/test_kernels.py",
    ),
    Fault(
        "a threshold leaves its own bin out",
        "learn/metrics.py",
        "k = round(threshold * BINS)",
        "k = round(threshold * BINS) + 1",
        "tests/learn/test_metrics.py",
    ),
    Fault(
        "un-classified buildings count as intact",
        "sources/labels.py",
        "return codes | {_UNCLASSIFIED: INVALID}",
        "return codes | {_UNCLASSIFIED: INTACT}",
        "tests/sources/test_labels.py",
    ),
    Fault(
        "a shift is applied the other way",
        "scenes/registration.py",
        "power = np.conj(first_spectrum) * second_spectrum",
        "power = first_spectrum * np.conj(second_spectrum)",
        "tests/scenes/test_registration.py",
    ),
    Fault(
        "a changed source file is not noticed",
        "store/staging.py",
        "file_state(file, str(file)) for",
        "(str(file), 0, 0) for",
        "tests/store/test_build.py",
    ),
    Fault(
        "shards that a killed build has moved are lost",
        "store/build.py",
        "            records.take_back(out, staging)\n",
        "            shutil.rmtree(out / 'records', ignore_errors=True)\n",
        "tests/test_prepare.py",
    ),
    Fault(
        "the weight decay is forgotten",
        "learn/optimizer.py",
        "    return optax.adamw(rate, weight_decay=config.weight_decay)\n",
        "    return optax.adamw(rate, weight_decay=0.0)\n",
        "tests/learn/test_optimizer.py",
    ),
    Fault(
        "AirChange trains on columns of its test",
        "sources/airchange.py",
        '("right", "train", 0, right, height, width - right),',
        '("right", "train", 0, right - 8, height, width - right + 8),',
        "tests/sources/test_airchange.py",
    ),
    Fault(
        "overlapping tiles are split apart",
        "feed/splits.py",
        "if i < j and shared > _OVERLAP",
        "if i < j and shared > 2 + _OVERLAP",
        "tests/feed/test_splits.py",
    ),
    Fault(
        "padding of a tile counts as intact",
        "feed/loader.py",
        "    codes = np.full((batch, *size), INVALID, np.uint8)",
        "    codes = np.full((batch, *size), 0, np.uint8)",
        "tests/test_evaluate.py tests/feed/test_loader.py",
    ),
    Fault(
        "a run outlives its killed parent",
        "base/processes.py",
        "    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)\n",
        "",
        "tests/test_processes.py",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Plant the faults; returns 1 where one was not found, 2 where one can't be planted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a part of a fault's name (default: all faults)")
    wanted = parser.parse_args(argv).names
    faults = [fault for fault in FAULTS if not wanted or any(name in fault.name for name in wanted)]
    if not faults:
        print(f"error: no fault is named {' or '.join(wanted)}", file=sys.stderr)
        return 2
    missed = 0
    print("| fault | file | found by | s |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="jaxcd-fault-") as folder:
        copy = copied(Path(folder) / ROOT.name)
        for fault in faults:
            began = time.monotonic()
            try:
                found = found_by(fault, copy)
            except ValueError as error:
                print(f"error: {fault.name}: {error}", file=sys.stderr)
                return 2
            missed += found is None
            seconds = time.monotonic() - began
            print(f"| {fault.name} | {fault.file} | {found or '**nothing**'} | {seconds:.0f} |", flush=True)
    print(f"\n{len(faults) - missed} of {len(faults)} faults found")
    return 1 if missed else 0


def copied(copy: Path) -> Path:
    """Copy what the tests need of the checkout; the folder of compiled code is shared."""
    for name in ("jaxcd", "tests", "tools", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    (ROOT / ".compiled").mkdir(exist_ok=True)
    (copy / ".compiled").symlink_to(ROOT / ".compiled")
    return copy


def found_by(fault: Fault, copy: Path) -> str | None:
    """Plant a fault in a copy of the checkout, run its tests, and take the fault out again.

    Returns:
        The first test that fails, or None.

    Raises:
        ValueError: the file does not hold the right line once, a test can't be run, or it fails without the fault, too.
    """
    file = copy / "jaxcd" / fault.file
    source = file.read_text()
    if source.count(fault.line) != 1:
        raise ValueError(f"{fault.file} holds {fault.line!r} {source.count(fault.line)} times, not once")
    file.write_text(source.replace(fault.line, fault.wrong))
    try:
        failed = first_failure(copy, fault.tests.split())
    finally:
        file.write_text(source)
    if failed and first_failure(copy, [failed]):
        raise ValueError(f"{failed} fails without the fault, too")
    return failed


def first_failure(copy: Path, tests: Sequence[str]) -> str | None:
    """Run tests over a copy of the checkout; returns the first that fails, or None.

    Raises:
        ValueError: pytest can't run them.
    """
    command = [sys.executable, "-B", "-m", "pytest", "-m", "not slow", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # The copy's package goes before the installed one.
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    failed = re.search(r"^FAILED (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 0:
        return None
    if done.returncode != 1 or not failed:
        raise ValueError(f"pytest ended with code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}")
    return failed[1]


if __name__ == "__main__":
    raise SystemExit(main())
