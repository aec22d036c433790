import errno
import os
import subprocess
import sys

import pytest

from jaxcd import cli, train
from jaxcd.base import entry
from jaxcd.base.errors import RunError
from jaxcd.config import Config
from jaxcd.config.fields import settings_of


def test_errors_of_users_end_in_one_line_and_code_2(capsys):
    def raises(error):
        def main(argv):
            raise error

        return entry.guarded(main)

    assert raises(RunError("runs/x: not a run"))() == 2
    assert capsys.readouterr().err == "error: runs/x: not a run\n"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/log.jsonl")
    assert raises(full)() == 2
    assert capsys.readouterr().err.startswith("error: the disk is full: ")
    wrapped = ValueError(f'page one\nwriting "/d/f" failed: {os.strerror(errno.ENOSPC)} [x]\npage three')
    assert raises(wrapped)() == 2
    assert "the disk is full: could not write /d/f; free some space" in capsys.readouterr().err
    for number, message in (
        (errno.EACCES, "permission denied; check the permissions"),
        (errno.EROFS, "read-only file system; name a"),
    ):
        assert raises(OSError(number, os.strerror(number), "runs/x"))() == 2
        assert capsys.readouterr().err.startswith(f"error: runs/x: {message}")
    with pytest.raises(OSError):  # no file is named: not a user's to put right
        raises(OSError(errno.EBADF, os.strerror(errno.EBADF)))()
    assert raises(KeyboardInterrupt())() == 130
    with pytest.raises(ZeroDivisionError):
        raises(ZeroDivisionError())()


def test_device_is_said_and_an_unused_accelerator_warned_of(capsys, monkeypatch, tmp_path):
    # An nvidia-smi on the PATH is how a machine with a GPU looks to us.
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(entry.glob, "glob", lambda pattern: [])  # this machine's own devices, if it has any
    before = entry.unused_accelerator()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    entry.announce_device()
    printed = capsys.readouterr()
    assert printed.out.startswith("device: 2 x cpu (cpu), jax ")
    assert "this machine has an NVIDIA GPU, but JAX runs on the CPU" in printed.err and "jaxcd[cuda13]" in printed.err
    assert before is None


def test_what_was_compiled_is_kept_for_the_next_process(tmp_path):
    code = (
        "import logging; logging.basicConfig(level=logging.DEBUG); from jaxcd.base.entry import announce_device; "
        "announce_device(); import jax; jax.jit(lambda x: x @ x + 1)(jax.numpy.ones((64, 64)))"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    environment = {**inherited, "XDG_CACHE_HOME": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    first, second = (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, second.stderr
    assert len(list(tmp_path.glob("jaxcd/compiled/*/jit*"))) > 0
    name = "Persistent compilation cache hit for 'jit__lambda'"
    assert (name in first.stderr, name in second.stderr) == (False, True)


def test_the_help_of_training_lists_every_field_with_its_default_and_bounds(capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    for setting in settings_of(Config, "config"):
        assert f"--{setting.path} " in text and " ".join(setting.about.split()[:4]) in text, setting.path
    assert "side of the training crops in pixels; 0: whole tiles (default 256; 0 (whole tiles) or at least" in text
    assert "--config FILE" in text and "--workdir DIR" in text


def test_one_command_runs_every_entry_and_completes_its_flags(tmp_path):
    def jaxcd(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jaxcd.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    listed = jaxcd("--help")
    assert listed.returncode == 0 and all(f"  {name} " in listed.stdout for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert jaxcd(name, "--help").stdout.startswith(f"usage: python -m jaxcd.{name} ")
    wrong = jaxcd("paint")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: paint: no such command; there are prepare, train,")
    wrong = jaxcd("evaluate", "--out", str(tmp_path))
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: the following arguments are required: --run")
    script = jaxcd("completion", "bash").stdout
    (tmp_path / "jaxcd.bash").write_text(script)
    completed = (
        f"source {tmp_path / 'jaxcd.bash'}; COMP_WORDS=(jaxcd train --config.optim.le); COMP_CWORD=2; "
        "_shtab_jaxcd; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", completed], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "--config.optim.learning_rate", done.stderr


@pytest.mark.parametrize("name", ["train", "evaluate", "prepare", "predict", "label", "tune", "import_torch"])
def test_help_is_there_at_once(name):
    """Within half a second of CPU time, and without the libraries that take longer."""
    code = f"""
import resource, runpy, sys
sys.argv = ["jaxcd.{name}", "--help"]
try:
    runpy.run_module("jaxcd.{name}", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = {{"jax", "flax", "optax", "orbax", "numpy", "scipy", "matplotlib", "rasterio", "cv2"}}
heavy = (heavy | {{"tensorflow_datasets", "grain", "torch", "optuna"}}) & set(sys.modules)
print(used.ru_utime + used.ru_stime, *heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m jaxcd." + name), done.stderr
    seconds, *heavy = done.stdout.splitlines()[-1].split()
    assert float(seconds) <= 0.5 and not heavy


def test_the_former_place_of_an_entry_says_the_new_one():
    done = subprocess.run([sys.executable, "-m", "jaxcd.models.import_torch", "x.pth"], capture_output=True, text=True)
    assert done.returncode == 2 and "is now python -m jaxcd.import_torch" in done.stderr
