"""The mold: the program is loaded once, and workers are forked from it on the broker's order.

What is said on the line is in docs/PROTOCOL.md, "Molds". A worker becomes the child of the broker's
parent process: it is forked by a process in between that ends at once, and the parent is the reaper of
orphans. So the parent has its exit status, and it outlives the mold."""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional

from . import pages, wire
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
#: Seconds without an order before a worker is made ahead.
_QUIET = 0.1
#: Seconds that loading may take longer for the sake of forks.
_COLLAPSING = 2.0


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
        # A process that is forked already and waits to be told who it is.
        self._spare: Optional[tuple[int, socket.socket]] = None

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
        huge = pages.collapse(_COLLAPSING)
        _LOG.info(
            "mold ready in %.2f s, %d MB of it in huge pages", time.monotonic() - began, huge // 1_000_000
        )
        self._alone_kib = _footprint(os.getpid())[0]
        self._say({"say": "ready", "version": 1, "sdk": f"hornpipe-python/{VERSION}"})
        while True:
            # Made ahead, when there is nothing else to do: then a start costs no fork at all. Not at
            # once: it would take the processor from the worker that has just got the last one.
            if self._spare is None and not select.select([self._line], [], [], _QUIET)[0]:
                self._make_spare()
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
                pid = self._take_spare(order, descriptors)
                if pid is None:
                    pid = self._fork(lambda: self._become_worker(order, descriptors))
            except OSError as error:
                self._say({"say": "failed", "number": number, "why": f"cannot fork: {error.strerror}"})
            else:
                self._say({"say": "forked", "number": number, "pid": pid})
        elif what == "measure":
            pids = [pid for pid in order.get("pids", []) if isinstance(pid, int)]
            self._say({"say": "measured", "number": number, **self._measure(pids)})
        else:
            _LOG.warning("an order that is not known: %r", what)

    def _make_spare(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = self._fork(lambda: self._wait_as_spare(ours, theirs))
        except OSError as error:
            # It is tried again after the next order.
            _LOG.warning("no worker made ahead: %s", error)
            ours.close()
        else:
            self._spare = (pid, ours)
        finally:
            theirs.close()

    def _take_spare(self, order: dict[str, Any], descriptors: list[int]) -> Optional[int]:
        if self._spare is None:
            return None
        pid, line = self._spare
        self._spare = None
        with line:
            try:
                socket.send_fds(line, [wire.pack_map(order)], descriptors)
            except OSError:
                return None  # somebody has killed it
            return pid

    def _wait_as_spare(self, mold: socket.socket, line: socket.socket) -> NoReturn:
        mold.close()
        self._line.close()
        packet, descriptors, _flags, _address = socket.recv_fds(line, _PACKET_LIMIT, 2)
        line.close()
        # Without a word the mold has ended, and this was not needed.
        if len(descriptors) != 2:
            os._exit(0)
        self._become_worker(wire.unpack_map(packet), list(descriptors))

    def _fork(self, become: Callable[[], NoReturn]) -> int:
        told, tell = os.pipe2(os.O_CLOEXEC)
        try:
            between = os.fork()
            if between == 0:
                _fork_again(become, tell)
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
            number = -pid or errno.EAGAIN
            raise OSError(number, os.strerror(number))
        return pid

    def _become_worker(self, order: dict[str, Any], descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            output, gate = descriptors
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
        if self._spare is not None:
            shared += _footprint(self._spare[0])[0]
        for pid in pids:
            pss, own = _footprint(pid)
            private += own
            shared += max(0, pss - own)
        return {"shared_kib": shared, "private_kib": private, "alone_kib": self._alone_kib}


def _fork_again(become: Callable[[], NoReturn], tell: int) -> NoReturn:
    """In between: forks the worker, says its pid, and leaves it to the broker's parent."""
    try:
        pid = os.fork()
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    if pid == 0:
        try:
            os.close(tell)
            os.setpgid(0, 0)
            become()
        finally:
            os._exit(_NEVER_RAN)
    os.write(tell, str(pid).encode())
    os._exit(0)


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
