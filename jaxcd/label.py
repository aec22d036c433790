"""Label damage in the browser: `python -m jaxcd.label --pre PRE.tif --post POST.tif --store DIR [...]`."""

import argparse
import importlib.util
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES
from jaxcd.config.fields import settings_of
from jaxcd.config.flags import Parser, add_settings, settings_from
from jaxcd.labelling.learning.tuning import Progress, TuneSettings
from jaxcd.labelling.settings import FORMATS, LabelSettings
from jaxcd.sources import layouts
from jaxcd.sources.image_pairs import NAMES

_PACKAGES = ("fastapi", "uvicorn", "rio_tiler", "python_multipart")
_PATIENCE = 3  # seconds that requests get to end when the server is stopped
_WAITING = 128  # connections that may wait to be taken


def parser() -> Parser:
    """Make the parser of the flags."""
    made = Parser(
        prog="python -m jaxcd.label",
        description="Label damage in the browser: a page on this machine, every change on disk at once.",
    )
    add = made.add_argument
    add("--store", type=Path, required=True, metavar="DIR", help="folder of the labels; the same command goes on in it")
    add("--pre", nargs="+", metavar="SCENE", help="GeoTIFFs or URLs of before; the first one's grid is the labels'")
    add("--post", nargs="+", metavar="SCENE", help="of after, on any grid; where several have data, the first counts")
    pairs = "many pairs: a CSV file with the columns name, pre, post (several scenes: separated by spaces) and, where "
    add("--pairs", type=Path, metavar="LIST", help=f"{pairs}there are some, footprints")
    add("--source", type=Path, metavar="DIR", help="folder of tiles or scenes, as jaxcd.prepare takes it")
    add("--layout", choices=(*NAMES, layouts.SCENES), help="how images lie in --source; labels need not be there")
    settings = list(settings_of(LabelSettings, ""))
    served = ("read_only", "host", "port")
    add_settings(made, settings, names=[each.path for each in settings if each.path not in served])
    add_settings(made.add_argument_group("server"), settings, names=served)
    tuned = made.add_argument_group("fine-tuning of --run, or of ImageNet's weights, on the labels; without a server")
    tuned.add_argument("--fine_tune", action="store_true", help="fine-tune on the labels of --store, map it, and end")
    add_settings(tuned, settings_of(TuneSettings, ""))
    out = made.add_argument_group("labels to a file, without a server").add_argument
    out("--export", choices=FORMATS, metavar="FORMAT", help=f"{', '.join(FORMATS)}; goes with --out")
    out("--out", type=Path, metavar="PATH", help="file that is written")
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C)."""
    options = parser().parse_args(argv)
    settings: LabelSettings = settings_from(options, LabelSettings)
    settings.validate()
    if bool(options.export) != bool(options.out):
        raise ConfigError("--export and --out go together: a format, and the file to write")
    ways = [bool(options.pre or options.post), bool(options.pairs), bool(options.source)]
    if options.export:
        if any(ways):
            raise ConfigError("--export: takes the labels of --store; leave out the scenes")
        return _export(options.store, options.export, options.out)
    if options.fine_tune:
        if any(ways):
            raise ConfigError("--fine_tune: takes labels and scenes of --store; leave out the scenes")
        return _fine_tune(options.store, settings, settings_from(options, TuneSettings))
    if sum(ways) != 1 or bool(options.pre) != bool(options.post):
        raise ConfigError("give --pre and --post, --pairs LIST, or --source DIR with --layout")
    if bool(options.source) != bool(options.layout):
        raise ConfigError("--layout: goes with --source, and --source with it")
    placed = [name for name in ("footprints", "register", "cells") if getattr(settings, name)]
    if options.source and options.layout != layouts.SCENES and placed:
        raise ConfigError(f"--{placed[0]}: goes with scenes; tiles in layout {options.layout} have no place")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"jaxcd.label needs {', '.join(missing)}: pip install 'jaxcd[label]'")
    signal.signal(signal.SIGTERM, _ended)
    with _listening(settings) as door:  # before all that takes time
        return _serve(options, settings, door)


def _serve(options: argparse.Namespace, settings: LabelSettings, door: socket.socket) -> int:
    import uvicorn

    from jaxcd.base.entry import quiet_libraries
    from jaxcd.labelling import workspace
    from jaxcd.labelling.server import app
    from jaxcd.labelling.server.security import read_secrets
    from jaxcd.labelling.store import Store
    from jaxcd.labelling.visible import seen_of

    quiet_libraries()
    given = {name: getattr(options, name) or () for name in ("pre", "post")}
    wanted = workspace.named(
        **given, pairs=options.pairs, source=options.source, layout=options.layout or "", settings=settings
    )
    opened = workspace.open_all(wanted, settings, options.store)
    seen = {each.pair.id: seen_of(each) for each in opened if each.scenes is not None}
    pairs = [each.pair for each in opened]
    store = Store.create_or_open(options.store, SCALES[settings.scale], pairs, seen, settings.cells)
    if settings.run is not None:
        from jaxcd.labelling.learning.leaks import check_scale

        check_scale(settings.run, store)
    secrets = read_secrets(options.store)
    made = app.create_app(opened, store, settings, secrets)
    _tell(settings, door, len(opened), options.store, secrets.token)
    config = uvicorn.Config(
        app.guarded(made, settings, secrets),
        log_level="warning",
        access_log=False,  # it would tell the token
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=_PATIENCE,
    )
    server = uvicorn.Server(config)
    try:
        if not settings.read_only and made.state.tuner.resume():
            print("going on with the fine-tuning that was interrupted", flush=True)
        server.run(sockets=[door])
    finally:
        made.state.tuner.close()
        store.close()
    return 0


def _listening(settings: LabelSettings) -> socket.socket:
    """Take the port.

    Raises:
        ConfigError: it is taken, or the address is not this machine's.
    """
    where = f"--host {settings.host} --port {settings.port}"
    door = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        door = socket.socket(family, kind)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(address)
        door.listen(_WAITING)
    except OSError as error:
        if door is not None:
            door.close()
        raise ConfigError(f"{where}: cannot listen there ({error.strerror}); give another --port or --host") from error
    return door


def _tell(settings: LabelSettings, door: socket.socket, pairs: int, store: Path, token: str) -> None:
    port = door.getsockname()[1]
    name = settings.host if not settings.private else "localhost" if ":" not in settings.host else settings.host
    if name in ("0.0.0.0", "::", ""):
        name = socket.gethostname()
    link = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    print(f"{pairs} pair{'s' * (pairs != 1)}; labels are kept in {store}", flush=True)
    if settings.private:
        print(f"open {link} (Ctrl-C ends the server)", flush=True)
        return
    print(
        "NOTE: what goes over the network is not encrypted here; TLS is the business of a proxy before this server "
        "(docs/labelling.md, Safety)",
        file=sys.stderr,
        flush=True,
    )
    print(f"open {link}?token={token} (give it only to people who may label; Ctrl-C ends the server)", flush=True)


def _export(store: Path, kind: str, out: Path) -> int:
    from jaxcd.labelling import exports
    from jaxcd.labelling.store import Store

    opened = Store.open(store)
    try:
        exports.write(opened, kind, out)
    finally:
        opened.close()
    print(f"{out}: written")
    return 0


def _fine_tune(store: Path, settings: LabelSettings, how: TuneSettings) -> int:
    from jaxcd.base.processes import Stopped
    from jaxcd.labelling.learning.tuning_steps import fine_tune, plan

    how.validate()
    try:
        folder = fine_tune(store, plan(store, settings.run, settings.scaling, how), tell=_tell_progress)
    except Stopped as stopped:
        print("stopped, all saved; the same command goes on from there", file=sys.stderr)
        return 128 + stopped.number
    print(f"{folder}: maps are in {folder / 'maps'}; the labelling page shows what they say")
    return 0


def _tell_progress(progress: Progress) -> None:
    steps = f" step {progress.step} of {progress.steps}" if progress.state == "training" else ""
    print(f"{progress.state}{steps}{f': {progress.message}' if progress.message else ''}", flush=True)


def _ended(number: int, _: object) -> None:
    print("stopped; all labels are on disk", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
