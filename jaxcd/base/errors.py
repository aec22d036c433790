"""Every error that a user can cause: one line that says what was given, what was expected, what to do.

An entry prints the message of a `JaxcdError` and ends with exit code 2; anything else is a defect of
jaxcd's own and keeps its traceback.
"""


class JaxcdError(Exception):
    """Base class of the errors that a user can cause."""


class ConfigError(JaxcdError):
    """An unknown field, a wrong type or an impossible value; the message names the field."""


class ImageError(JaxcdError):
    """An image that cannot be read or lies outside the input contract; the message names the file."""


class LabelError(JaxcdError):
    """A mask or label file that does not say what is damaged; the message names the file."""


class LayoutError(JaxcdError):
    """A source folder that does not have the given layout."""


class DatasetError(JaxcdError):
    """A built dataset that is missing, unfinished or of another kind."""


class SplitError(JaxcdError):
    """A split that holds nothing to learn from or to measure."""


class RunError(JaxcdError):
    """A run folder that is missing, incomplete, in use or of another configuration."""


class CheckpointError(JaxcdError):
    """A checkpoint or state dict that does not fit the network."""


class NonFiniteLossError(JaxcdError):
    """Training diverged; the message names the step and its tiles."""


class DeviceError(JaxcdError):
    """A device that was asked for and is not there."""


class HostsError(JaxcdError):
    """Processes of one run that can't meet, do not fit each other, or have ended."""


class DeviceMemoryError(JaxcdError):
    """The accelerator is too small for what was asked of it."""


class DiskFullError(JaxcdError):
    """No space left where something was to be written."""


class WriteError(JaxcdError):
    """A file that could not be written, though the disk has room; the message names it."""


class SceneError(JaxcdError):
    """A scene that cannot be placed, paired or read; the message names it."""
