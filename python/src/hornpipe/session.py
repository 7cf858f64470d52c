"""A worker's connection to its broker, on a thread of its own: so a worker that is deep in a request
hears a cancel, and a router that was restarted hears of the worker.

What a request means is not known here; see runner.py."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from typing import Any, Callable, Optional

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import wire
from .context import Context
from .errors import UsageError
from .version import VERSION
from .wire import Bytes

_LOG = logging.getLogger("hornpipe.worker")

#: An idle worker says again that it is, so often (ms): the router may be another one.
_REPEAT_MS = 1000
#: What is still to be sent when the worker ends has so long (ms).
_LINGER_MS = 1000


class Session:
    """The connection. `deliver` is called on its thread for each request, `ended` once at the end."""

    def __init__(
        self,
        endpoint: str,
        deliver: Callable[[Context], None],
        ended: Callable[[], None],
        announcement: dict[str, Any],
    ) -> None:
        self._endpoint = endpoint
        self._deliver = deliver
        self._ended = ended
        # `seen` stays away: it counts one connection's jobs, and where a connection ends is not told
        # in order with its messages. Who leaves it away is never misunderstood. `instance` promises
        # that replies to jobs with a key are kept.
        self._announcement = {
            "version": 1,
            "sdk": f"hornpipe-python/{VERSION}",
            "instance": secrets.token_hex(16),
            **announcement,
        }
        self._map = wire.pack_map(self._announcement)
        self._held: dict[bytes, Context] = {}
        # Jobs of an earlier connection: a reply to one of these makes nobody ready.
        self._stale: set[bytes] = set()
        # The last replies to jobs with a key: a router that dies may not have read them.
        self._kept: deque[list[Bytes]] = deque()
        credits = announcement.get("credits", 1)
        self._credits = credits if isinstance(credits, int) else 1
        self._outbox: deque[tuple[bytes, list[Bytes], bool]] = deque()
        self._stopping: Optional[str] = None
        self._malformed = 0
        self._is_up = False
        self._has_been_up = False
        self._said = 0.0
        self._wake_lock = threading.RLock()
        self._is_closed = False
        self._wake_in, self._wake_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._context = zmq.Context()
        self._socket = self._open()
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._close()
            raise UsageError(
                f"cannot connect to {endpoint!r}: {error}; it looks like tcp://HOST:PORT"
            ) from None
        self._thread = threading.Thread(target=self._run, name="hornpipe session", daemon=True)

    def start(self) -> None:
        """Connects, and says `waiting`."""
        self._thread.start()

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until everything is sent."""
        self._thread.join(timeout)

    def reply(self, context: Context, frames: list[Bytes]) -> None:
        """Replies to a request. From any thread."""
        self._outbox.append((context._job.token, frames, True))
        self._wake()

    def reply_part(self, context: Context, frames: list[Bytes]) -> None:
        """Sends a part of a reply, as many as the broker allows. From any thread."""
        self._outbox.append((context._job.token, frames, False))
        self._wake()

    def stop(self, reason: str) -> None:
        """Takes nothing more, finishes what is in hand, says `exiting`. Also from a signal's handler."""
        if self._stopping is None:
            self._stopping = reason
        self._wake()

    def is_any_cancelled(self) -> bool:
        """Whether the broker waits for a reply that nobody wants."""
        return any(context.cancelled for context in list(self._held.values()))

    def _wake(self) -> None:
        # Reentrant, because a signal's handler may come in between.
        with self._wake_lock:
            if self._is_closed:
                return
            try:
                os.write(self._wake_out, b"w")
            except BlockingIOError:
                pass  # full of wakes already

    def _open(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, _LINGER_MS)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        # A broker's machine that vanished would otherwise be waited for for ever.
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, 3)
        return socket

    def _run(self) -> None:
        try:
            self._announce("waiting")
            while not self._is_done():
                self._turn()
            self._leave()
        except zmq.ZMQError:
            _LOG.exception("the connection to the broker fails")
        finally:
            self._close()
            self._ended()

    def _is_done(self) -> bool:
        return self._stopping is not None and not self._held and not self._outbox

    def _turn(self) -> None:
        interest = zmq.POLLIN | (zmq.POLLOUT if self._outbox else 0)
        items: list[Any] = [
            (self._socket, interest),
            (self._monitor, zmq.POLLIN),
            (self._wake_in, zmq.POLLIN),
        ]
        zmq.zmq_poll(items, self._patience())
        self._drain_wakes()
        events = []
        while self._monitor.poll(0):
            events.append(recv_monitor_message(self._monitor)["event"])
        # Jobs of the connection that is gone come first: whoever says `waiting` has none of them.
        self._read()
        for event in events:
            self._note_connection(event)
        self._write()
        if self._repeats() and time.monotonic() - self._said >= _REPEAT_MS / 1000:
            self._announce("waiting")

    def _repeats(self) -> bool:
        return self._is_up and not self._held and self._stopping is None

    def _patience(self) -> int:
        if not self._repeats():
            return -1
        spent = int((time.monotonic() - self._said) * 1000)
        return max(0, _REPEAT_MS - spent) + 1

    def _drain_wakes(self) -> None:
        try:
            while len(os.read(self._wake_in, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _note_connection(self, event: int) -> None:
        self._is_up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        if not self._is_up:
            return
        if not self._has_been_up:
            self._has_been_up = True
            return
        # Another router, who knows nothing of us.
        _LOG.debug("connected again")
        self._outbox.extendleft((b"", frames, False) for frames in reversed(self._kept))
        self._write()
        if self._held:
            self._stale = set(self._held)
            self._announce("processing")
        elif self._stopping is None:
            self._announce("waiting")

    def _read(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._accept(frames)

    def _accept(self, frames: list[bytes]) -> None:
        try:
            message = wire.read_broker(frames)
        except wire.WireError as error:
            self._malformed += 1
            if self._malformed & (self._malformed - 1) == 0:
                _LOG.warning("a message of the broker cannot be read (%d so far): %s", self._malformed, error)
            return
        if isinstance(message, wire.Stop):
            self.stop("stop")
        elif isinstance(message, wire.Cancel):
            context = self._held.get(message.token)
            if context is not None:
                context.cancel()
        elif isinstance(message, wire.More):
            context = self._held.get(message.token)
            if context is not None:
                context.allow_more(message.parts)
        else:
            context = Context(message, time.monotonic())
            self._held[message.token] = context
            self._forget_kept()
            self._announce("processing")
            self._deliver(context)

    def _write(self) -> None:
        while self._outbox:
            token, frames, is_last = self._outbox[0]
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                return
            self._outbox.popleft()
            if not is_last:
                continue
            context = self._held.pop(token, None)
            if context is not None and context.key:
                self._kept.append(frames)
                while len(self._kept) > self._credits:
                    self._kept.popleft()
            self._said = time.monotonic()
            if token in self._stale:
                self._stale.discard(token)
                if not self._stale and self._stopping is None:
                    self._announce("waiting")

    def _forget_kept(self) -> None:
        # The broker gives no more jobs than there is room for, so of what was replied it has read
        # all but these.
        in_hand = len(self._held) - len(self._stale)
        while len(self._kept) > max(0, self._credits - in_hand):
            self._kept.popleft()

    def _announce(self, word: str) -> None:
        self._said = time.monotonic()
        try:
            self._socket.send_multipart(wire.state(word, self._map), zmq.NOBLOCK)
        except zmq.Again:
            # The broker is away for long: when it is back it is told anew.
            _LOG.debug("no room to say %s", word)

    def _leave(self) -> None:
        self._map = wire.pack_map({**self._announcement, "reason": wire.shorten(self._stopping or "")[:200]})
        self._announce("exiting")

    def _close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(_LINGER_MS)
        self._context.term()
        with self._wake_lock:
            self._is_closed = True
            os.close(self._wake_in)
            os.close(self._wake_out)
