"""The GPU day: parts within their time, figures of one machine, and a rehearsal of all of it on a bare machine."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import gpu_day
import pytest
from benchmarking import bare
from benchmarking.gpu_day import batches, bound, day, parts, plots, profiling, tables
from benchmarking.gpu_day.record import Record

from jaxcd.base.errors import ConfigError
from jaxcd.base.files import locked
from tests.child_processes import await_end, children

ROOT = Path(__file__).resolve().parents[1]
H100 = "1 x NVIDIA H100 80GB HBM3"
MACHINE = {
    "date": "2026-11-27", "device": H100, "driver": "580", "cpu": "c", "cores": 2, "python": "3.12",
    "versions": {"jax": "1", "torch": "2"}, "environment": {}, "commit": "abc", "code": "d", "small": False,
}  # fmt: skip
STEP = {
    "case": "step plain, fc_siam_diff", "suite": "step", "variant": "plain", "model": "fc_siam_diff", "size": "large",
    "batch": 8, "tile": 1024, "dtype": "bfloat16", "side": "jaxcd", "seconds": 0.04, "quartiles": [0.03, 0.05],
    "pairs_per_second": 200.0, "peak_bytes": 8 * 10**9,
}  # fmt: skip
# What a machine with jax, flax, optax, orbax, numpy and torch lacks. Its finders find nothing of these names.
LACKING = ["rasterio", "grain", "tensorflow_datasets", "cv2", "tensorflow", "array_record", "shapely", "pyogrio"]
LACKING += ["geopandas", "matplotlib", "PIL", "tensorboard", "tqdm", "jaxtyping", "albumentations", "sklearn"]
LACKS = f"""
import sys


class Lacks:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name in {LACKING!r} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Lacks(finder) for finder in sys.meta_path]
"""


def today(folder: Path) -> day.Day:
    return day.Day(Record(folder, MACHINE), parts.SMALL, str(folder))


def part(measured: list[str], **seconds: float) -> day.Part:
    """A part whose pieces take so many seconds."""

    def work(key: str) -> day.Work:
        def measure() -> list[dict]:
            measured.append(key)
            time.sleep(seconds[key])
            return [{**STEP, "case": key}]

        return day.Work(key=key, measure=measure)

    return day.Part(number=1, name="paper", what="tests", works=lambda _: map(work, seconds))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a folder for the figures"),
        (["OUT", "lunch"], "part 'lunch': expected a number or name of 1 paper, 2 profile, "),
        ([str(ROOT / "README.md")], "README.md: is a file; give a folder"),
        (["OUT"], "JAX finds no GPU here (1 x cpu); --small rehearses with small sizes"),
        (["OUT", "--limit", "481"], "expected seconds from 1 to 480, got '481'"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_day, "about_side", lambda *_: {"backend": "cpu", "device": "1 x cpu"})
    try:
        code = gpu_day.main(arguments)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_parts_are_listed_and_chosen_by_number_or_name(capsys):
    assert gpu_day.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [[str(each.number), each.name] for each in parts.PARTS]
    assert [each.name for each in parts.chosen(["float32", "1"])] == ["paper", "float32"]
    assert parts.chosen([]) == list(parts.PARTS) and set(tables._TABLES) == {each.name for each in parts.PARTS}


def test_a_part_ends_in_time_and_the_next_call_goes_on(tmp_path, capsys):
    measured: list[str] = []
    given = part(measured, first=0.4, second=0.1, third=0.0)
    assert day.run(today(tmp_path), given, 0.5) == ["second", "third"]  # less is left than half of what the first took
    assert "left for the next call: second; third" in capsys.readouterr().out
    assert day.run(today(tmp_path), given, 0.5) == [] and measured == ["first", "second", "third"]
    assert day.run(today(tmp_path), given, 0.5) == [] and len(measured) == 3
    assert "ran already, skipped" in capsys.readouterr().out
    assert [each["key"] for each in json.loads((tmp_path / "figures.json").read_text())["figures"]] == measured


def test_a_piece_that_is_cut_comes_last_and_is_given_up_when_it_had_the_whole_time_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(day, "_WHOLE", 0.7)  # for slow machines
    measured: list[str] = []
    given = part(measured, first=0.2, second=5.0, third=0.0)
    assert day.run(today(tmp_path), given, 0.5) == ["second", "third"]
    assert day.run(today(tmp_path), given, 0.5) == ["second"] and measured[2:] == ["third", "second"]
    assert day.run(today(tmp_path), given, 0.5) == [] and measured[4:] == ["second"]
    said = "took longer than 0.5 s; give a larger --limit"
    kept = today(tmp_path)
    assert kept.record.rows("paper", "second") == [
        {"case": "second", "side": "all sides", "failed": said, "given_up": 0.5}
    ]
    assert f"second: given up, {said}" in capsys.readouterr().out
    assert f"second, all sides: not measured ({said})" in (tmp_path / "rows.md").read_text()
    assert day.run(kept, given, 0.5) == [] and len(measured) == 5
    monkeypatch.setattr(day, "LIMIT", 0.6)  # then there is no larger one
    assert [day.run(kept, given, 0.6) for _ in range(3)] == [["second"], [], []] and len(measured) == 7
    assert kept.record.rows("paper", "second")[0]["failed"] == "took longer than 0.6 s"


def test_a_piece_that_was_cut_waits_for_the_whole_time(tmp_path):
    measured: list[str] = []
    kept = today(tmp_path)
    kept.record.cut("paper", "second", 0.9)
    assert day.run(kept, part(measured, second=0.0, first=0.2), 1.0) == ["second"] and measured == ["first"]
    assert day.run(kept, part(measured, second=0.0, first=0.2), 1.0) == [] and measured == ["first", "second"]


def test_a_next_call_tries_again_what_failed_but_not_where_memory_ended(tmp_path):
    tries: list[str] = []
    good, torch = dict(STEP), {"case": STEP["case"], "side": "PyTorch"}
    ended = {**STEP, "failed": "OutOfMemoryError", "out_of_memory": True}
    gives = {
        "passing": [[good, {**torch, "failed": "CUDA error"}], [{**STEP, "failed": "CUDA error"}, torch]],
        "memory": [[ended]],
    }

    def works(now: day.Day):
        def work(key: str) -> day.Work:
            return day.Work(key=key, measure=lambda: (tries.append(key), gives[key].pop(0))[1])

        yield work("passing")
        yield work("memory")
        if (rows := now.record.rows("paper", "passing")) and "failed" not in rows[-1]:
            gives.setdefault("following", [[good]])
            yield work("following")

    given = day.Part(number=1, name="paper", what="tests", works=works)
    assert [day.run(today(tmp_path), given, 60) for _ in range(3)] == [[]] * 3
    assert tries == ["passing", "memory", "passing", "following"]
    kept = today(tmp_path).record
    assert [each["key"] for each in kept.figures] == ["passing", "memory", "following"]
    assert kept.rows("paper", "passing") == [torch, good]  # what was measured at first is not lost


def test_a_call_reads_the_record_within_the_lock_and_writes_its_tables_anew(tmp_path, monkeypatch):
    kept = Record(tmp_path, MACHINE)
    kept.add("paper", "step", [STEP])
    (tmp_path / "rows.md").write_text("stale")

    def read(folder: Path, _: object) -> Record:
        with pytest.raises(BlockingIOError), locked(folder / "gpu_day.lock"):
            pass
        return Record(folder, MACHINE)

    monkeypatch.setattr(gpu_day, "about_side", lambda *_: {"backend": "cpu", "device": "1 x cpu"})
    monkeypatch.setattr(gpu_day.record, "Record", read)
    monkeypatch.setattr(gpu_day.day, "run", lambda *_: [])
    monkeypatch.setattr(gpu_day.plots, "plot", lambda _: "")
    assert gpu_day.main([str(tmp_path), "paper", "--small"]) == 0
    assert (tmp_path / "rows.md").read_text() == tables.text(kept)


def test_figures_of_another_machine_commit_or_size_are_refused(tmp_path):
    Record(tmp_path, MACHINE).write()
    others = {"device": "1 x NVIDIA H200", "cores": 16, "commit": "def", "code": "e", "small": True}
    for name, other in {**others, "environment": {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}}.items():
        said = rf"holds a GPU day of other settings: {name}(\.XLA_FLAGS)? is .* give a new folder"
        with pytest.raises(ConfigError, match=said):
            Record(tmp_path, {**MACHINE, name: other})
    assert Record(tmp_path, {**MACHINE, "date": "2026-11-28"}).machine["date"] == "2026-11-27"
    (tmp_path / "figures.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"figures.json: no figures of a GPU day; give a new folder"):
        Record(tmp_path, MACHINE)


def test_counted_bytes_over_time_are_compared_with_card_and_model():
    counted = bound.recorded(STEP)
    assert counted is not None
    row = bound.compared(STEP, H100, 2.5e12)
    assert row["moved_bytes_per_second"] == pytest.approx(200 * counted["bytes_per_pair"])
    assert row["share_of_bandwidth"] == pytest.approx(200 * counted["bytes_per_pair"] / 3e12)
    assert row["share_of_measured_copy"] == pytest.approx(row["moved_bytes_per_second"] / 2.5e12)
    assert row["share_of_bound"] == pytest.approx(counted["bound_seconds"] / 0.04)
    assert "of the model's bound" in bound.line(row)
    elsewhere = bound.compared(STEP, "1 x NVIDIA H200", 4e12)  # no such target: its own copy alone
    assert "share_of_bandwidth" not in elsewhere and "share_of_measured_copy" in elsewhere
    assert bound.compared({**STEP, "size": "small"}, H100, 1e12) == {**STEP, "size": "small"}


def test_memory_that_ends_is_a_result_beside_what_was_foretold(tmp_path, monkeypatch):
    counted = bound.recorded(STEP)
    assert counted is not None
    fits = batches.judged({**STEP, "batch": 16})
    assert fits["predicted_bytes"] == pytest.approx(2 * counted["needed_bytes"] + 2 * 16 * 8 * 1024**2)
    ended = batches.judged({**STEP, "failed": "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory"})
    assert ended[
        "out_of_memory"
    ] and f"out of memory, foretold {ended['predicted_bytes'] / 1e9:.2f} GB" in batches.line(ended)
    torch = batches.judged({**STEP, "side": "PyTorch", "failed": "OutOfMemoryError: CUDA out of memory."})
    assert torch["out_of_memory"] and "predicted_bytes" not in torch
    assert not batches.judged({**STEP, "failed": "needs torch"})["out_of_memory"]
    kept = today(tmp_path)
    kept.record.ceilings["bfloat16"] = {"flops_per_second": 8e14, "bytes_per_second": 2.5e12}
    monkeypatch.setattr(day.figures, "rows", lambda *_, **__: [{**STEP, "side": "PyTorch", "failed": "out of memory"}])
    assert [row["out_of_memory"] for row in kept.measured(kept.case("step", "plain"))] == [True]  # in every part


def test_a_batch_is_doubled_until_one_fails(tmp_path):
    kept = today(tmp_path)
    seen = []
    for work in parts.PARTS[3].works(kept):
        seen.append(work.key)
        failed = {"failed": "out of memory"} if "step" in work.key and "4 x" in work.key else {}
        kept.record.add("batches", work.key, [{**STEP, **failed}])
    assert [key.split(", ")[3] for key in seen] == ["2 x 32²", "4 x 32²"] * 4
    (tmp_path / "other").mkdir()
    kept = today(tmp_path / "other")  # nothing measured: only the first batch of each is known
    assert [work.side for work in parts.PARTS[3].works(kept)] == ["jaxcd", "PyTorch"] * 2


def test_traces_too_large_for_the_archive_are_left_out(tmp_path):
    for name, size in (("a.xplane.pb", 1000), ("a.trace.json.gz", 200_000), ("b.trace.json.gz", 1000)):
        (tmp_path / "traces").mkdir(exist_ok=True)
        (tmp_path / "traces" / name).write_bytes(os.urandom(size))
    packed, left = profiling.pack(tmp_path / "traces", tmp_path / "p.tar.gz", most=50_000)
    assert (packed, left) == (["a.xplane.pb", "b.trace.json.gz"], ["a.trace.json.gz"])
    with tarfile.open(tmp_path / "p.tar.gz") as archive:
        assert archive.getnames() == packed


def test_tables_and_plots_show_the_figures(tmp_path):
    kept = Record(tmp_path, MACHINE)
    kept.ceilings["bfloat16"] = {"flops_per_second": 8e14, "bytes_per_second": 2.5e12}
    torch = {**STEP, "side": "PyTorch", "seconds": 0.05}
    row = bound.compared({**STEP, "times_rival": 1.25}, H100, 2.5e12)
    kept.add("paper", "step", [row, torch])
    ended = {key: value for key, value in STEP.items() if key not in ("seconds", "quartiles", "pairs_per_second")}
    for tried in (STEP, {**ended, "batch": 128, "failed": "out of memory"}):
        kept.add("batches", str(tried["batch"]), [batches.judged(dict(tried))])
    predicted, text = batches.predicted(STEP), tables.text(kept)
    assert predicted
    assert "\n| step plain, fc_siam_diff | 40.00 | 30.00 to 50.00 | 200.00 | 50.00 | – | 1.25 | 8.00 |\n" in text
    moved = f"{row['counted_bytes_per_pair'] / 1e9:.2f} | {row['moved_bytes_per_second'] / 1e9:.0f}"
    assert f"\n| step plain, fc_siam_diff | {moved} | {row['share_of_bandwidth']:.0%}".replace("%", " % |") in text
    assert "    sh tools/gpu_day OUT paper\n" in text and f"Commit: `abc`. Machine: {H100}, driver 580" in text
    assert f"| jaxcd | 200.00 | {predicted / 1e9:.2f} | 8.00 |" in text and "| out of memory |" in text
    assert plots.plot(kept) == f", {tmp_path / 'speed.png'}, {tmp_path / 'batches.png'}"
    assert (tmp_path / "batches.png").stat().st_size > 10_000


def test_where_jaxtyping_is_missing_annotations_say_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxtyping", None)
    bare.supply_jaxtyping()
    from jaxtyping import Array, Float, Key

    assert Float[Array, "b h w"] | None and Key[Array, ""]  # type: ignore[truthy-function]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_all_processes_and_leaves_what_was_measured(tmp_path, number, code):
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHON": sys.executable}
    command = ["sh", str(ROOT / "tools" / "gpu_day"), str(out), "training", "--small"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert any(line.startswith("== part 7 training") for line in process.stdout)
        deadline = time.monotonic() + 60
        while not (sides := children(process.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) == code
    finally:
        process.kill()
        process.communicate()
    await_end(sides)
    assert not list(temporary.iterdir())
    assert json.loads((out / "figures.json").read_text())["figures"] == []


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_rehearsal_of_all_parts_on_a_bare_machine(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKS)
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHON": sys.executable}

    def call(*arguments: str) -> tuple[int, str]:
        command = ["sh", str(ROOT / "tools" / "gpu_day"), str(out), *arguments, "--small"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2000)
        return done.returncode, done.stdout + done.stderr

    code, said = call()
    assert code in (0, 1), said
    if code:  # a slow machine: what was left goes on
        code, said = call()
    assert code == 0, said
    figures = json.loads((out / "figures.json").read_text())["figures"]
    pieces = {part.name: sum(each["part"] == part.name for each in figures) for part in parts.PARTS}
    assert pieces == {"paper": 2, "profile": 1, "networks": 2, "batches": 8, "float32": 2} | {
        "augmentation": 3, "training": 1, "loader": 1,
    }  # fmt: skip
    failed = {(each["part"], row["failed"]) for each in figures for row in each["rows"] if "failed" in row}
    assert failed == {("loader", "skipped: no grain")}
    assert all(row["operations"] for each in figures if each["part"] == "profile" for row in each["rows"])
    assert (out / "profile.tar.gz").stat().st_size < 16 * 10**6 and len(list(out.iterdir())) <= 8
    assert "needs matplotlib" in said and all(
        f"\n## {part.name}\n" in (out / "rows.md").read_text() for part in parts.PARTS
    )
    before = (out / "figures.json").read_text()
    code, said = call()
    assert code == 0 and said.count("ran already, skipped") == len(parts.PARTS) - 1
    assert "  skipped: no grain\npart 8 loader: done" in said  # tried again, as grain might have come
    assert (out / "figures.json").read_text() == before
