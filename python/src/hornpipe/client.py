"""The client: one request at a time, each to its end.

It is all of the Guide's Lazy Pirate: a time-out, and the same request again over a new connection,
to the next broker if there are several."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Optional, Union

import zmq

from . import asking, codecs, wire
from .asking import Reply, Request
from .codecs import Codec
from .endpoints import Endpoints, resolve
from .errors import ClosedError, StatusError
from .wire import Answer

__all__ = ["Client", "Reply"]


class Client:
    """Asks a broker, or the first of several that is there.

    `brokers` is a port of this machine (6660), `host:port`, `tcp://...`, or a list of them. `timeout`
    (seconds) is for a request with all its tries, of which there are at most `tries`. `codec` is
    `bytes`, `json` or `msgpack`.

    It connects with its first request. Threads may share it, and then wait for each other; a forked
    child makes connections of its own. Closing it never waits.
    """

    def __init__(
        self,
        brokers: Endpoints,
        *,
        timeout: float = asking.TIMEOUT,
        tries: int = asking.TRIES,
        codec: Union[str, Codec] = "bytes",
        service: Optional[str] = None,
    ) -> None:
        asking.check(timeout, tries)
        self._endpoints = resolve(brokers)
        self._timeout = timeout
        self._tries = tries
        self._codec = codecs.find(codec)
        self._service = service
        self._current = 0
        self._is_closed = False
        # What a parent process has opened is neither used nor closed here.
        self._left_alone: list[Any] = []
        self._socket: Any = None
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._prefix = asking.new_prefix()
        self._asked = 0
        self._lock = threading.Lock()

    def ask(self, body: Any, **how: Any) -> Any:
        """Asks, and returns the reply's value. `how` is as for `request`."""
        return self.request(body, **how).value

    def request(self, body: Any, *, timeout: Optional[float] = None, **how: Any) -> Reply:
        """Asks, and returns the reply with what is known of it.

        `timeout` is in seconds, over all tries. The other options are keys of the protocol's request map:
        `service`; `attempts`, how many workers may try it if they die; `headers`, a dictionary that the
        worker is given, and `trace`, a W3C traceparent; `key`, `exclusive`, `affinity`, `strict`,
        `priority`. Raises an `AskError` that says how the request ended.
        """
        with self._mine():
            request = self._prepare(body, timeout, how)
            parts: list[bytes] = []
            last = None
            for last in self._run(request):
                parts += last.frames
        assert last is not None
        return asking.to_reply(self._codec, last._replace(frames=parts))

    def stream(self, body: Any, *, timeout: Optional[float] = None, **how: Any) -> Iterator[Any]:
        """Asks, and gives the values of the reply's parts as they come.

        The options are those of `request`. It is not tried again once a part has come. Other
        requests of this client wait until the last part has come, or the iterator is closed.
        """
        with self._mine():
            request = self._prepare(body, timeout, {**how, "more": True})
            for answer in self._run(request):
                yield self._codec.decode(answer.frames)

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        if self._pid != os.getpid():
            self._left_alone.append(self._socket)
            self._socket = None
            self._begin()
        with self._lock:
            if self._is_closed:
                raise ClosedError("the client is closed")
            yield

    def _prepare(self, body: Any, timeout: Optional[float], how: dict[str, Any]) -> Request:
        self._asked += 1
        return Request(
            f"{self._prefix}-{self._asked:x}",
            self._codec.encode(body),
            asking.options(how, self._service),
            self._timeout if timeout is None else timeout,
            self._tries,
            len(self._endpoints),
        )

    def _run(self, request: Request) -> Iterator[Answer]:
        """The parts of the reply, of which the last says that no more follow."""
        is_over = False
        try:
            for answer in self._ask(request):
                is_over = not answer.more
                yield answer
        except StatusError:
            # The broker's last word.
            is_over = True
            raise
        finally:
            # Whatever was interrupted, no answer to it may come later.
            if request.sent and not is_over:
                self._take_back(request)

    def _ask(self, request: Request) -> Iterator[Answer]:
        while request.goes_on():
            if not self._connect().poll(_ms(request.connect_share()), zmq.POLLOUT):
                self._next_broker()
                continue
            share = time.monotonic() + request.share()
            with contextlib.suppress(zmq.Again):
                self._socket.send_multipart(request.message(), zmq.NOBLOCK)
                request.sent += 1
                answer = self._receive(request.name, share)
                good = request.read(answer) if answer is not None else None
                if good is not None:
                    yield good
                    if good.more:
                        yield from self._rest(request)
                    return
                if answer is None:
                    self._take_back(request)
            self._next_broker()
        raise request.failed()

    def _rest(self, request: Request) -> Iterator[Answer]:
        while True:
            answer = self._receive(request.name, time.monotonic() + request.left())
            if answer is None:
                raise request.failed()
            yield request.read_rest(answer)
            if not answer.more:
                return

    def _receive(self, name: str, until: float) -> Optional[Answer]:
        while True:
            left = until - time.monotonic()
            if left <= 0 or not self._socket.poll(_ms(left)):
                return None
            answer = wire.read_answer(self._socket.recv_multipart())
            if answer is not None and answer.id == name:
                return answer

    def _connect(self) -> Any:
        if self._socket is None:
            self._socket = asking.new_socket(zmq.Context.instance())
            self._socket.connect(self._endpoints[self._current])
        return self._socket

    def _next_broker(self) -> None:
        # Whatever comes over this connection from here on answers a request given up.
        self._disconnect()
        self._current = (self._current + 1) % len(self._endpoints)

    def _take_back(self, request: Request) -> None:
        """Nobody waits for this try any more. If the broker hears it, no worker has to either."""
        if self._socket is not None:
            with contextlib.suppress(zmq.ZMQError):
                self._socket.send_multipart(wire.take_back(request.name), zmq.NOBLOCK)
            self._socket.close(asking.FAREWELL_MS)
            self._socket = None

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def close(self) -> None:
        """Closes the connection. More than once does no harm."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._is_closed = True
            self._disconnect()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<hornpipe.Client {', '.join(self._endpoints)}>"


def _ms(seconds: float) -> int:
    # Rounded up, or the last millisecond would be spent asking for the time.
    return int(seconds * 1000) + 1
