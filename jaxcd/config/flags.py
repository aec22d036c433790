"""Flags made from settings, and the flags of entries that take a configuration file.

--config FILE [--config.a.b=v ...] --workdir DIR
"""

import argparse
import ast
import dataclasses
import importlib.util
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxcd.base.errors import ConfigError
from jaxcd.config.fields import Setting, settings_of
from jaxcd.config.tree import Config, field_type

_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")
_PREFIX = "config"


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors as `ConfigError`, so that users see one line, as for all other errors."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise a `ConfigError`, which `guarded` turns into one line and exit code 2."""
        raise ConfigError(f"{message}; {self.prog} --help lists the flags")


def add_settings(group: Any, settings: Iterable[Setting], *, names: Sequence[str] = ()) -> None:
    """Add a flag for each setting; its help includes the default and the bounds.

    Args:
        group: a parser or a group of its flags.
        settings: as `settings_of` lists them.
        names: paths of the settings to add, in this order; empty: all.
    """
    found = {setting.path: setting for setting in settings}
    for path in names or found:
        setting = found[path]
        kind, how = _plain(setting.type), {"help": _help(setting), "default": setting.default}
        if kind is bool:
            group.add_argument(f"--{path}", action="store_true", **how)
            continue
        if isinstance(kind, types.GenericAlias):
            many, kind = kind.__args__[-1] is Ellipsis, kind.__args__[0]
            how["nargs"] = "+" if many else len(setting.type.__args__)
        group.add_argument(f"--{path}", metavar="VALUE", type=kind, **how)


def _add_overrides(group: Any, settings: Iterable[Setting]) -> None:
    """Add a flag that overrides each setting of a config file; parsed options hold the given flags only, as text."""
    for setting in settings:
        # `_value` converts the text later, and names the field in its error.
        how = {"nargs": "?", "const": "true"} if setting.type is bool else {}
        group.add_argument(
            f"--{setting.path}",
            metavar="VALUE",
            help=_help(setting),
            default=argparse.SUPPRESS,
            dest=setting.path,
            **how,
        )


def run_parser(module: str, about: str) -> Parser:
    """Make the parser of an entry that takes a configuration file.

    Args:
        module: the entry's module.
        about: one sentence for the help: what the entry does.
    """
    parser = Parser(prog=f"python -m {module}", description=about, usage=_usage(module))
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="config file: a file of configs/, or your own Python file with a function get_config()",
    )
    parser.add_argument(
        "--workdir", metavar="DIR", help="folder for the results; the same command continues what was interrupted"
    )
    fields = parser.add_argument_group("fields of the configuration; a flag overrides the value of the config file")
    _add_overrides(fields, settings_of(Config, _PREFIX))
    return parser


def read_run(parser: Parser, argv: Sequence[str] | None) -> tuple[Config, Path, argparse.Namespace]:
    """Read `--config FILE [--config.a.b=v ...] --workdir DIR`.

    Args:
        parser: the result of `run_parser`, perhaps with further flags.
        argv: arguments, or None for those of the command line.

    Returns:
        The validated configuration with absolute paths; the folder; all parsed flags.

    Raises:
        ConfigError: the config file is missing or unusable, a flag or field is unknown, or a value is wrong.
    """
    options, unknown = parser.parse_known_args(argv)
    for argument in unknown:
        if argument.startswith(f"--{_PREFIX}."):
            field_type(argument[2:].partition("=")[0])
        parser.error(f"unrecognized argument {argument}")
    if not options.config or not options.workdir:
        parser.error("--config FILE and --workdir DIR are required")
    config = read_python(Path(options.config))
    for setting in settings_of(Config, _PREFIX):
        if setting.path in vars(options):
            *groups, name = setting.path.split(".")[1:]
            node: Any = config
            for group in groups:
                node = getattr(node, group)
            setattr(node, name, _value(setting, getattr(options, setting.path)))
    config.validate()
    config.data.resolve()
    for name in ("encoder_from", "network_from"):
        if run := getattr(config.init, name):
            setattr(config.init, name, str(Path(run).resolve()))
    return config, Path(options.workdir), options


def read_python(file: Path) -> Config:
    """Return the configuration that a config file's `get_config()` returns.

    Raises:
        ConfigError: there is no such file, it is not Python, it raises an error, or it returns something else.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such config file; configs/ has some to begin with")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: expected a Python file, named .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except Exception as error:  # a user's code can raise anything
        raise ConfigError(f"{file}: {' '.join(str(error).split()) or type(error).__name__}") from error
    if not isinstance(config, Config):
        raise ConfigError(f"{file}: get_config() returned a {type(config).__name__}, expected a jaxcd.config.Config")
    return config


def settings_from(options: argparse.Namespace, kind: Any) -> Any:
    """Make a group of settings from the flags that `add_settings` added for it."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _plain(kind: Any) -> Any:
    """Return a type without its None: `Path` for `Path | None`; numbers or words are told apart by what is given."""
    if isinstance(kind, types.UnionType):
        options = [option for option in kind.__args__ if option is not types.NoneType]
        kind = options[0] if len(options) == 1 else _number_or_word
    return kind


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _help(setting: Setting) -> str:
    default = setting.default
    notes = [] if default in ("", (), None, False) else [f"default {_shown(default)}"]
    # Options that the help already lists are not repeated.
    options = setting.expected.removeprefix("one of ").split(", ")
    bounded = setting.expected and (setting.type is not str or setting.expected.startswith("one of "))
    if bounded and not all(option in setting.about for option in options):
        notes.append(setting.expected)
    text = setting.about + (f" ({'; '.join(notes)})" if notes else "")
    return text.replace("%", "%%")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(setting: Setting, text: str) -> Any:
    """Convert a flag's text to the type of its setting.

    Raises:
        ConfigError: the text does not fit the type.
    """
    kind = setting.type
    if isinstance(kind, types.GenericAlias):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = (text,)
        return tuple(value) if isinstance(value, list) else value
    if kind is bool and text.lower() in (*_YES, *_NO):
        return text.lower() in _YES
    if kind is str:
        return text
    try:
        return kind(text) if kind is not bool else ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"{setting.path}: expected {kind.__name__}, got {text!r}") from error


def _usage(module: str) -> str:
    return f"python -m {module} --config FILE [--config.group.field=value ...] --workdir DIR [...]"
