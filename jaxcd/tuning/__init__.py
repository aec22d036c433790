"""Search for good settings of a run, with Optuna."""
