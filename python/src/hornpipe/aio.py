"""The client for asyncio: any number of requests at once over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Optional, Union

import zmq
import zmq.asyncio

from . import asking, codecs, wire
from .asking import Reply, Request
from .codecs import Codec
from .endpoints import Endpoints, resolve
from .errors import ClosedError
from .wire import Answer


class AsyncClient:
    """Asks a broker, or the first of several that is there, without blocking the event loop.

    Its arguments are those of `Client`. It belongs to the event loop of its first request, and to the
    process: in a forked child it raises `ClosedError`.
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
        self._prefix = asking.new_prefix()
        self._asked = 0
        self._current = 0
        self._pid = os.getpid()
        self._is_closed = False
        self._wire: Optional[_Wire] = None
        # Given up for new requests, while others still wait for their answers on them.
        self._old_wires: set[_Wire] = set()

    async def ask(self, body: Any, **how: Any) -> Any:
        """Asks, and returns the reply's value. `how` is as for `request`."""
        return (await self.request(body, **how)).value

    async def request(self, body: Any, *, timeout: Optional[float] = None, **how: Any) -> Reply:
        """Asks, and returns the reply with what is known of it. As `Client.request`."""
        parts: list[bytes] = []
        last = None
        async for last in self._run(self._prepare(body, timeout, how)):
            parts += last.frames
        assert last is not None
        return asking.to_reply(self._codec, last._replace(frames=parts))

    async def stream(self, body: Any, *, timeout: Optional[float] = None, **how: Any) -> AsyncIterator[Any]:
        """Asks, and gives the values of the reply's parts as they come. As `Client.stream`."""
        request = self._prepare(body, timeout, {**how, "more": True})
        async for answer in self._run(request):
            yield self._codec.decode(answer.frames)

    def _prepare(self, body: Any, timeout: Optional[float], how: dict[str, Any]) -> Request:
        if self._pid != os.getpid():
            raise ClosedError("this client belongs to the process that forked this one: make another")
        if self._is_closed:
            raise ClosedError("the client is closed")
        self._asked += 1
        return Request(
            f"{self._prefix}-{self._asked:x}",
            self._codec.encode(body),
            asking.options(how, self._service),
            self._timeout if timeout is None else timeout,
            self._tries,
            len(self._endpoints),
        )

    async def _run(self, request: Request) -> AsyncIterator[Answer]:
        while request.goes_on():
            used = self._connect()
            if not await used.is_up(request.connect_share()):
                self._give_up(used)
                continue
            answers = used.expect(request)
            is_over = False
            try:
                share = request.share()
                request.sent += 1
                await used.send(request, share)
                answer = await _next(answers, share)
                is_over = answer is not None and not answer.more
                good = request.read(answer) if answer is not None else None
                while good is not None:
                    yield good
                    if is_over:
                        return
                    answer = await _next(answers, request.left())
                    if answer is None:
                        raise request.failed()
                    is_over = not answer.more
                    good = request.read_rest(answer)
            finally:
                used.leave(request)
                if not is_over:
                    used.take_back(request)
            self._give_up(used)
        raise request.failed()

    def _connect(self) -> _Wire:
        if self._is_closed:
            raise ClosedError("the client was closed while it was asking")
        if self._wire is None:
            self._wire = _Wire(self._endpoints[self._current])
        return self._wire

    def _give_up(self, used: _Wire) -> None:
        if self._wire is used:
            self._wire = None
            self._current = (self._current + 1) % len(self._endpoints)
            self._old_wires.add(used)
        for old in [old for old in self._old_wires if not old.users]:
            self._old_wires.discard(old)
            old.close()

    async def close(self) -> None:
        """Closes the connection; requests under way end with `ClosedError`. It never waits for a broker."""
        self._is_closed = True
        if self._pid != os.getpid():
            return
        for wire_ in [*self._old_wires, *([self._wire] if self._wire else [])]:
            wire_.close()
        self._old_wires.clear()
        self._wire = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<hornpipe.AsyncClient {', '.join(self._endpoints)}>"


#: What comes for one request; None when the client is closed.
_Answers = asyncio.Queue[Optional[Answer]]


async def _next(answers: _Answers, seconds: float) -> Optional[Answer]:
    try:
        answer = await asyncio.wait_for(answers.get(), seconds)
    except asyncio.TimeoutError:
        return None
    if answer is None:
        raise ClosedError("the client was closed while it was asking")
    return answer


class _Wire:
    """One connection, and who waits for what on it."""

    def __init__(self, endpoint: str) -> None:
        self._socket = asking.new_socket(zmq.asyncio.Context.instance())
        self._socket.connect(endpoint)
        self._waiting: dict[str, _Answers] = {}
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self._sending = asyncio.Lock()
        self.users = 0

    async def is_up(self, seconds: float) -> bool:
        """Whether the broker is there, or comes in time."""
        self.users += 1
        try:
            return bool(await self._socket.poll(int(seconds * 1000) + 1, zmq.POLLOUT))
        finally:
            self.users -= 1

    def expect(self, request: Request) -> _Answers:
        """Where the answers to a request will come."""
        answers: _Answers = asyncio.Queue()
        self._waiting[request.name] = answers
        self.users += 1
        return answers

    def leave(self, request: Request) -> None:
        """No more answers are expected."""
        self.users -= 1
        self._waiting.pop(request.name, None)

    def take_back(self, request: Request) -> None:
        """Nobody waits for this try any more. If the broker hears it, no worker has to either."""
        if self._socket.closed:
            return
        with contextlib.suppress(zmq.ZMQError):
            plain = zmq.Socket.shadow(self._socket.underlying)
            plain.send_multipart(wire.take_back(request.name), zmq.NOBLOCK)

    async def send(self, request: Request, seconds: float) -> None:
        """Sends it, if there is room in time; if not, there will be no answer either."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._send(request), seconds)

    async def _send(self, request: Request) -> None:
        async with self._sending:
            await self._socket.send_multipart(request.message())

    async def _read(self) -> None:
        while True:
            answer = wire.read_answer(await self._socket.recv_multipart())
            waiting = self._waiting.get(answer.id) if answer is not None else None
            if answer is not None and waiting is not None:
                waiting.put_nowait(answer)

    def close(self) -> None:
        """At once."""
        self._reader.cancel()
        for waiting in self._waiting.values():
            waiting.put_nowait(None)
        with contextlib.suppress(zmq.ZMQError):
            self._socket.close(asking.FAREWELL_MS)
