"""A process that learns 20 steps of a network with others: `python -m tests.hosts.steps_together FILE CASE`.

HOSTS in the environment: ADDRESS COUNT INDEX, or nothing for one process. FILE gets the state after the last step.
"""

import dataclasses
import os
import sys

from jaxcd.base import hosts
from jaxcd.config import AugmentConfig, Config

STEPS = 20
PAIRS = 8
CASES = {
    **{name: {"model.name": name} for name in ("fc_ef", "fc_siam_conc", "fc_siam_diff")},
    **{name: {"model.name": name} for name in ("siam_lite0", "siam_resnet18", "siam_resnet34", "siam_resnet50")},
    "accumulated": {"train.accumulation": 2, "optim.ema": 0.9, "model.dropout": 0.2, "augment": AugmentConfig()},
    "frozen": {"freeze.encoder": True},
    "levels": {"data.scale": "xbd"},
    "contrastive": {"task": "contrastive"},
    "contrastive_fc_ef": {"task": "contrastive", "model.name": "fc_ef"},
}


def case(name: str) -> Config:
    """The configuration of a case."""
    from tests.learn.batches import small_config

    config = small_config(batch=PAIRS, steps=STEPS)
    for path, value in CASES[name].items():
        *groups, field = path.split(".")
        node = config
        for group in groups:
            node = getattr(node, group)
        setattr(node, field, value)
    return dataclasses.replace(config)


def learn(name: str) -> list:
    """Return the arrays of the state after the last step, what it reports, and the losses of all steps."""
    import jax
    import numpy as np

    from jaxcd.base.types import Batch
    from jaxcd.feed.loader import own_share
    from jaxcd.learn import sharding, steps
    from jaxcd.learn.objectives import pairs_an_element
    from tests.learn.batches import random_batch

    config = case(name)
    _, state, step = steps.initial_state(config, steps=STEPS)
    mesh = sharding.training_mesh(config)
    state, key = (sharding.replicate(tree, mesh) for tree in (state, jax.random.key(config.seed, impl="rbg")))
    sharding.any_of(mesh)
    progress, losses = None, []
    for k in range(STEPS):
        pairs = PAIRS * pairs_an_element(config)
        whole = random_batch(pairs, seed=k)
        if config.task == "contrastive":  # every other pair shows no damage
            whole = whole._replace(labels=whole.labels * (np.arange(pairs) % 2).astype(np.uint8)[:, None, None])
        own = own_share(pairs, hosts.index(), hosts.count())
        state, progress = step(state, sharding.shard_batch(Batch(*(x[own] for x in whole)), mesh), key)
        losses.append(float(progress.loss))
    found = (state.params, state.stats, state.averaged, progress, np.array(losses))
    return [np.asarray(x) for x in jax.tree.leaves(found)]


def main() -> int:
    """Learn the case and write down what it gives."""
    import numpy as np

    file, name = sys.argv[1:]
    found = learn(name)
    if hosts.is_first():
        np.savez(file, **{f"{i:03}": x for i, x in enumerate(found)})
    return 0


if __name__ == "__main__":
    address, count, index = (os.environ.get("HOSTS") or ". 1 0").split()
    if int(count) == 1:
        raise SystemExit(main())
    raise SystemExit(hosts.run(main, coordinator=address, processes=int(count), index=int(index), timeout=120))
