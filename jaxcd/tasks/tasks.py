"""The tasks by name."""

from jaxcd.tasks.contrastive import Pretraining
from jaxcd.tasks.segmentation import Segmentation
from jaxcd.tasks.task import Task

# A new task is a file beside these, a line here, and one of this name in `jaxcd.learn.objectives.OBJECTIVES`.
TASKS: dict[str, type[Task]] = {"segmentation": Segmentation, "contrastive": Pretraining}
