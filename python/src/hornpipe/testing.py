"""A broker for tests: the real one, with a handler of the test's own process as its worker.

With pytest, the fixture `hornpipe_serve` is there by itself; see pytest_plugin.py."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, Union

from .app import App
from .client import Client
from .codecs import Codec
from .errors import HornpipeError
from .runner import Runner

_SCREEN = re.compile(r"frontend (tcp://\S+)\s+backend (tcp://\S+)")
_END_SECONDS = 10.0


class NoBrokerError(HornpipeError):
    """The program `hornpipe` cannot be found or started."""


def find_broker() -> str:
    """The program: what PYTEST_HORNPIPE names, or `hornpipe` in PATH."""
    program = os.environ.get("PYTEST_HORNPIPE") or shutil.which("hornpipe")
    if not program:
        raise NoBrokerError("no `hornpipe` in PATH: install the broker, or name it in PYTEST_HORNPIPE")
    return program


class Broker:
    """A running `hornpipe serve` on free ports of this machine, with the options that are given.

    What it starts and logs is in `log_path`. Leave it by `stop`, or use it as a context manager.
    """

    def __init__(self, *options: str, workers: int = 0, environment: Optional[dict[str, str]] = None) -> None:
        self._directory = tempfile.mkdtemp(prefix="hornpipe-test-")
        self.log_path = Path(self._directory) / "log"
        self.control = str(Path(self._directory) / "control.sock")
        # HORNPIPE_ variables of whoever runs the tests are meant for another broker.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HORNPIPE_")}
        command = [find_broker(), "serve", "0", "0", "-n", str(workers), "--control", self.control, *options]
        with open(self.log_path, "w") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**inherited, **(environment or {})},
            )
        self.pid = self._process.pid
        try:
            self.frontend, self.backend = self._read_screen()
        except BaseException:
            self.stop()
            raise
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self.screen: list[str] = []
        self._reader.start()

    def _read_screen(self) -> tuple[str, str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = _SCREEN.search(line)
            if found:
                return found.group(1), found.group(2)
        code = self._process.wait()
        raise NoBrokerError(f"the broker ended with exit code {code}: {self.log().strip()}")

    def _drain(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self.screen.append(line.rstrip("\n"))

    def client(self, **how: Any) -> Client:
        """A client of this broker. Its arguments are those of `Client`."""
        return Client(self.frontend, **how)

    def log(self) -> str:
        """Everything that it has logged so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self) -> int:
        """Stops it, and returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            reader = getattr(self, "_reader", None)
            if reader is not None:
                reader.join(_END_SECONDS)
            self._process.stdout.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        return code

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.stop()


class Served:
    """A handler of this process, served by a broker of its own. `client` asks it."""

    def __init__(
        self, handler: Callable[..., Any], codec: Union[str, Codec] = "bytes", credits: int = 1, *options: str
    ) -> None:
        app = App()
        app.set_handler(handler, codec, credits)
        self.broker = Broker(*options)
        self.client = self.broker.client(timeout=10.0, codec=codec)
        self._runner = Runner(app, self.broker.backend)
        self._failure: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._work, name="hornpipe test worker", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._runner.run()
        except BaseException as error:
            self._failure = error

    def ask(self, body: Any, **how: Any) -> Any:
        """Asks the handler."""
        return self.client.ask(body, **how)

    def stop(self) -> None:
        """Ends worker, client and broker."""
        self.client.close()
        self._runner.stop("the test is over")
        self._thread.join(_END_SECONDS)
        self.broker.stop()
        if self._failure is not None:
            raise self._failure
