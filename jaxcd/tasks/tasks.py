"""The tasks by name."""

from jaxcd.tasks.contrastive import Pretraining
from jaxcd.tasks.segmentation import Segmentation

# A new task is a file beside these and a line here.
TASKS: dict[str, type[Segmentation] | type[Pretraining]] = {"segmentation": Segmentation, "contrastive": Pretraining}
