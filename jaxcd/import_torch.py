"""Make a run of published PyTorch weights: `python -m jaxcd.import_torch FILE.pth --out RUN`."""

from collections.abc import Sequence
from pathlib import Path

from jaxcd.base.entry import announce_device, guarded
from jaxcd.base.errors import CheckpointError, RunError
from jaxcd.config import Config
from jaxcd.config.flags import Parser


def parser() -> Parser:
    """Make the parser of the flags."""
    made = Parser(prog="python -m jaxcd.import_torch", description="Make a run folder from published PyTorch weights.")
    made.add_argument(
        "file", type=Path, help="a state dict saved with torch.save(model.state_dict(), FILE), or as .safetensors"
    )
    made.add_argument("--out", type=Path, required=True, help="run folder to create")
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code."""
    options = parser().parse_args(argv)
    announce_device()
    _write_run(options.file, options.out)
    return 0


def _write_run(path: Path, run: Path) -> None:
    import jax
    import jax.numpy as jnp

    from jaxcd import models
    from jaxcd.learn.steps import TrainState
    from jaxcd.models.torch_files import read_state_dict
    from jaxcd.runs import run_folder
    from jaxcd.runs.checkpoints import Checkpoints

    state_dict = read_state_dict(path)
    try:
        name, size = models.infer_architecture(state_dict)
        network, *shapes = models.build(lambda rngs: models.create(name, size=size, rngs=rngs), seed=0, weights=False)
        # Zeros, which the weights replace: drawing random ones would take seconds of compiling.
        model = models.merge(network.eval, *jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
        models.load_torch_state_dict(model, state_dict)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    config = Config()
    config.data.root = "."  # a run of weights alone: evaluate it with --data
    config.data.layout = "paper"
    config.model.name, config.model.size = name, size
    config.train.epochs = 100
    config.validate()
    _, params, stats = models.split(model)
    with run_folder.claim(run, config):
        checkpoints = Checkpoints(run, create=True)
        if checkpoints.latest() is not None:
            raise RunError(f"{run}: holds a checkpoint already; give a new folder with --out")
        state = TrainState(jnp.zeros((), jnp.int32), params, stats, {})
        checkpoints.save(state, meta={"batches": 0, "threshold": None, "validation_due": False}, score=None)
        checkpoints.close()
    print(
        f"{run}: {name} {size}; evaluate it with python -m jaxcd.evaluate --run {run} --data DIR --layout L --out OUT"
    )


if __name__ == "__main__":
    raise SystemExit(main())
