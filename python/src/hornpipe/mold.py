"""The mold: the program is loaded once, and workers are forked from it on the broker's order.

What is said on the line is in docs/PROTOCOL.md, "Molds". A worker becomes the child of the broker's
parent process: it is forked by a process in between that ends at once, and the parent is the reaper of
orphans. So the parent has its exit status, and it outlives the mold."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional

from . import wire
from .app import APP
from .errors import UsageError
from .runner import work
from .version import VERSION

_LOG = logging.getLogger("hornpipe.mold")

_OFFER = "HORNPIPE_MOLD_FD"
_PACKET_LIMIT = wire.MAP_LIMIT
_PR_SET_PDEATHSIG = 1
#: The exit code of a worker that never ran, as the broker's own have it.
_NEVER_RAN = 127


def offered() -> Optional[Mold]:
    """The broker's offer to be a mold, if there is one. It is taken out of the environment."""
    number = os.environ.pop(_OFFER, None)
    if number is None:
        return None
    try:
        line = socket.socket(fileno=int(number))
    except (ValueError, OSError) as error:
        raise UsageError(f"{_OFFER}={number!r} is no open socket: {error}") from None
    line.set_inheritable(False)
    return Mold(line)


class Mold:
    """A process that has loaded the program, and forks."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._parent = os.getppid()
        self._alone_kib = 0

    def run(self, load: Callable[[], None]) -> int:
        """Loads the program, then forks workers until the broker closes the line. Gives the exit code."""
        # Those who want the broker to stop do not mean the mold.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)
        began = time.monotonic()
        load()
        APP.run_preload()
        refuse_threads()
        # What is garbage goes; what stays is no more looked at by the collector, whose marks would
        # make a copy of every page in every worker.
        gc.collect()
        gc.freeze()
        _LOG.info("mold ready in %.2f s", time.monotonic() - began)
        self._alone_kib = _footprint(os.getpid())[0]
        self._say({"say": "ready", "version": 1, "sdk": f"hornpipe-python/{VERSION}"})
        while True:
            order, descriptors = self._receive()
            if order is None:
                return 0
            try:
                self._obey(order, descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _say(self, values: dict[str, Any]) -> None:
        try:
            self._line.send(wire.pack_map(values))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the next receive finds the end

    def _receive(self) -> tuple[Optional[dict[str, Any]], list[int]]:
        try:
            packet, descriptors, _flags, _address = socket.recv_fds(self._line, _PACKET_LIMIT, 2)
        except ConnectionResetError:
            return None, []
        if not packet:
            return None, list(descriptors)
        try:
            return wire.unpack_map(packet), list(descriptors)
        except wire.WireError as error:
            _LOG.warning("an order cannot be read: %s", error)
            return {}, list(descriptors)

    def _obey(self, order: dict[str, Any], descriptors: list[int]) -> None:
        what, number = order.get("order"), order.get("number")
        if what == "fork" and len(descriptors) == 2:
            try:
                pid = self._fork(order, descriptors)
            except OSError as error:
                self._say({"say": "failed", "number": number, "why": f"cannot fork: {error.strerror}"})
            else:
                self._say({"say": "forked", "number": number, "pid": pid})
        elif what == "measure":
            pids = [pid for pid in order.get("pids", []) if isinstance(pid, int)]
            self._say({"say": "measured", "number": number, **self._measure(pids)})
        else:
            _LOG.warning("an order that is not known: %r", what)

    def _fork(self, order: dict[str, Any], descriptors: list[int]) -> int:
        told, tell = os.pipe2(os.O_CLOEXEC)
        try:
            between = os.fork()
            if between == 0:
                self._fork_again(order, descriptors, tell)
            os.close(tell)
            tell = -1
            said = os.read(told, 32)
            # When this returns, the worker has its new parent.
            os.waitpid(between, 0)
        finally:
            os.close(told)
            if tell >= 0:
                os.close(tell)
        pid = int(said or b"0")
        if pid <= 0:
            raise OSError(-pid or 11, os.strerror(-pid or 11))
        return pid

    def _fork_again(self, order: dict[str, Any], descriptors: list[int], tell: int) -> NoReturn:
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 11)
        if pid == 0:
            os.close(tell)
            self._become_worker(order, descriptors)
        os.write(tell, str(pid).encode())
        os._exit(0)

    def _become_worker(self, order: dict[str, Any], descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            output, gate = descriptors
            os.setpgid(0, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            self._line.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            # Opened when the router knows this process. By then its parent is the broker's.
            if not _passes(gate) or not _tie_life_to(self._parent):
                os._exit(_NEVER_RAN)
            for key in ("backend", "service", "slot", "incarnation", "generation"):
                os.environ[f"HORNPIPE_{key.upper()}"] = str(order.get(key, ""))
            code = work(APP, str(order.get("backend", "")))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except UsageError as error:
            _LOG.error("%s", error)
            code = 2
        except BaseException:
            _LOG.exception("the worker failed")
        finally:
            _flush()
            # Not through the interpreter's end: what is registered there is the mold's.
            os._exit(code)

    def _measure(self, pids: list[int]) -> dict[str, int]:
        shared, private = _footprint(os.getpid())[0], 0
        for pid in pids:
            pss, own = _footprint(pid)
            private += own
            shared += max(0, pss - own)
        return {"shared_kib": shared, "private_kib": private, "alone_kib": self._alone_kib}


def refuse_threads() -> None:
    """Only the thread that forks lives on in a worker, with the locks of all: so there may be no other."""
    ours = threading.get_native_id()
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    others = [int(entry) for entry in os.listdir("/proc/self/task") if int(entry) != ours]
    if not others:
        return
    names = ", ".join(sorted(named.get(number) or _comm(number) for number in others))
    raise UsageError(
        f"threads are alive after the program was loaded: {names}. A fork does not copy them. Start them in "
        "@on_start instead, or run without a mold: hornpipe serve --no-mold"
    )


def _comm(thread: int) -> str:
    try:
        return Path(f"/proc/self/task/{thread}/comm").read_text().strip()
    except OSError:
        return str(thread)


def _passes(gate: int) -> bool:
    try:
        return len(os.read(gate, 1)) == 1
    except OSError:
        return False
    finally:
        os.close(gate)


def _tie_life_to(parent: int) -> bool:
    """Lets the kernel kill this process when its parent ends. False if that has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        return False
    return os.getppid() == parent


def _footprint(pid: int) -> tuple[int, int]:
    """What a process holds, in KiB: its share of everything (PSS), and of that what is its own."""
    found = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0])
    return found["Pss"], found["Private_Clean"] + found["Private_Dirty"]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
