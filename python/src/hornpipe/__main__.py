"""`python3 -m hornpipe app.py`: loads a program and serves its `@worker`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import logging
import os
import sys
from pathlib import Path
from typing import Optional

from . import mold
from .app import APP
from .errors import UsageError
from .runner import work
from .version import VERSION

_DESCRIPTION = """\
Loads a program with a @worker and serves requests with it:

    # app.py
    from hornpipe import worker

    @worker
    def shout(body: bytes) -> bytes:
        return body.upper()

    hornpipe serve 6660 6661 -n 8 -- python3 -m hornpipe app.py
    hornpipe req 6660 hello

Started by `hornpipe serve`, the program is loaded once, in a mold, and workers are forked from it:
what it has loaded is in memory once. `hornpipe serve --no-mold` loads it in each worker.
"""

_EPILOG = """\
From elsewhere, without a mold, one worker for each start:
    HORNPIPE_BACKEND=tcp://127.0.0.1:6661 python3 -m hornpipe app.py

exit codes: 0 told to stop, 1 the program failed, 2 usage
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m hornpipe",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "app",
        metavar="APP",
        help="a file (app.py) or a module (package.module); with :NAME, that function is the handler "
        "and needs no decorator (app.py:shout)",
    )
    parser.add_argument(
        "--backend",
        metavar="ENDPOINT",
        default=os.environ.get("HORNPIPE_BACKEND"),
        help="the broker's backend, as tcp://HOST:PORT [HORNPIPE_BACKEND, which `hornpipe serve` sets]",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="of what is logged to standard error: debug, info, warning, error [info]",
    )
    parser.add_argument("--check", action="store_true", help="load it, say what it is, and end")
    parser.add_argument("--version", action="version", version=f"hornpipe-python {VERSION}")
    return parser.parse_args()


def load(app: str) -> None:
    """Imports the program, which registers its handler and hooks."""
    place, _, name = app.partition(":")
    path = Path(place)
    if place.endswith(".py") or os.sep in place:
        module = _load_file(path)
    else:
        sys.path.insert(0, str(Path.cwd()))
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise UsageError(f"there is no module {place!r} here; a file is named with its .py") from None
    if name:
        handler = getattr(module, name, None)
        if handler is None:
            raise UsageError(f"{place} has no {name!r}")
        if APP.handler is None:
            APP.set_handler(handler)
        elif APP.handler is not handler:
            raise UsageError(f"{place} has another @worker than {name!r}")
    if APP.handler is None:
        raise UsageError(f"{place} has no @worker: decorate the function that answers requests")


def _load_file(path: Path) -> object:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    sys.path.insert(0, str(path.resolve().parent))
    # A file may be called like a module that is there already, and must not take its place.
    name = f"hornpipe_app_{path.stem}" if path.stem in sys.modules else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python program")
    module = importlib.util.module_from_spec(spec)
    # Under its name, for those who import it, and for whatever looks a class up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _describe() -> None:
    handler = APP.handler
    kind = "async def" if APP.is_async else "def"
    print(  # noqa: T201 - what was asked for
        f"{getattr(handler, '__qualname__', handler)}: {kind}, codec {APP.codec.name}, "
        f"{APP.credits} at once, service {APP.service or 'default'}; "
        f"hooks: {len(APP.preload_hooks)} preload, {len(APP.start_hooks)} on_start, "
        f"{len(APP.stop_hooks)} on_stop"
    )


def _log_lines() -> None:
    # What a handler prints is wanted in the broker's log when it is printed.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")


def _serve(arguments: argparse.Namespace, offer: Optional[mold.Mold]) -> int:
    if offer is not None:
        return offer.run(lambda: load(arguments.app))
    if not arguments.check and not arguments.backend:
        raise UsageError(
            "no broker: start this under `hornpipe serve 6660 6661 -- python3 -m hornpipe APP`, "
            "or name a broker's backend, as in --backend tcp://127.0.0.1:6661"
        )
    load(arguments.app)
    if arguments.check:
        _describe()
        return 0
    APP.run_preload()
    return work(APP, arguments.backend)


def main() -> int:
    """The program."""
    arguments = _arguments()
    _log_lines()
    logging.basicConfig(
        level=arguments.log_level.upper(), format="%(levelname)s %(message)s", stream=sys.stderr
    )
    offer = None if arguments.check else mold.offered()
    try:
        return _serve(arguments, offer)
    except UsageError as error:
        print(f"hornpipe: {error}", file=sys.stderr)  # noqa: T201 - the operator reads it
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
