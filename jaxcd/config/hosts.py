"""The part of the configuration that says which processes work on a run together."""

from dataclasses import dataclass

from jaxcd.base.errors import ConfigError
from jaxcd.config.fields import Bound, at_least, setting

DETECT = "auto"


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return text in ("", DETECT) or (bool(host) and port.isdigit() and 0 < int(port) < 2**16)


@dataclass(kw_only=True, slots=True)
class HostsConfig:
    """Several processes of one run, on one machine or on many (docs/several_hosts.md); by default there is one."""

    coordinator: str = setting(
        "",
        "where the processes of a run meet: HOST:PORT of the first one, or auto: as Slurm, Open MPI, a TPU pod or GKE "
        "tells JAX; empty: one process",
        Bound(_is_address, "HOST:PORT, auto, or nothing"),
    )
    processes: int = setting(0, "number of processes; 0: as detected", at_least(0))
    index: int = setting(-1, "number of this process, from 0; -1: as detected", at_least(-1))
    timeout: float = setting(
        300.0, "seconds to wait until all processes are there", Bound(lambda seconds: seconds >= 1, "at least 1 second")
    )

    def check_together(self) -> None:
        """Check the values that depend on each other.

        Raises:
            ConfigError: processes without a coordinator, or an index that is none of theirs.
        """
        if not self.coordinator and (self.processes or self.index >= 0):
            raise ConfigError(
                "config.hosts.coordinator: expected HOST:PORT or auto where processes or index is given, got ''"
            )
        if self.processes and self.index >= self.processes:
            raise ConfigError(
                f"config.hosts.index: expected less than processes = {self.processes} (they count from 0), "
                f"got {self.index}"
            )
