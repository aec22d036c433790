"""The command `jaxcd`: every entry as a sub-command, and completion for shells.

jaxcd train --config FILE --workdir RUN         the same as python -m jaxcd.train ...
jaxcd completion bash > FILE                    a script that completes commands and flags; zsh likewise
"""

import importlib
import sys
from collections.abc import Sequence

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError
from jaxcd.config.flags import Parser

COMMANDS = {
    "prepare": "build a tile dataset from image pairs and labels, or from scenes",
    "train": "train a network, or pretrain an encoder",
    "evaluate": "metrics and pictures of a run",
    "predict": "map damage of whole scenes",
    "label": "label damage in the browser",
    "tune": "search for good settings",
    "import_torch": "make a run of published PyTorch weights",
}
SHELLS = ("bash", "zsh", "tcsh")


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run an entry by its name; returns its exit code."""
    command, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "completion":
        return _complete(arguments)
    if command not in COMMANDS:
        raise ConfigError(f"{command}: no such command; there are {', '.join((*COMMANDS, 'completion'))}")
    return importlib.import_module(f"jaxcd.{command}").main(arguments)


def _help() -> str:
    lines = [f"  {name:<14}{about}" for name, about in (*COMMANDS.items(), ("completion", "complete flags in a shell"))]
    return "usage: jaxcd COMMAND [...]\n\n" + "\n".join(lines) + "\n\njaxcd COMMAND --help lists the flags of one"


def _complete(arguments: Sequence[str]) -> int:
    """Print the script that completes commands and flags in a shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise ConfigError(f"completion: expected one of {', '.join(SHELLS)}, got {' '.join(arguments)!r}")
    try:
        import shtab
    except ImportError as error:
        raise ConfigError("completion needs shtab: pip install shtab") from error
    whole = Parser(prog="jaxcd")
    commands = whole.add_subparsers()
    for name, about in COMMANDS.items():
        entry: Parser = importlib.import_module(f"jaxcd.{name}").parser()
        commands.add_parser(name, parents=[entry], add_help=False, help=about)
    print(shtab.complete(whole, arguments[0]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
