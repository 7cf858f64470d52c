"""What a handler is told about its request."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Callable, Optional, Union

from .errors import Failure
from .wire import Bytes, Job

_LOG = logging.getLogger("hornpipe.worker")


class Context:
    """One request, as its handler sees it. A handler that takes a second argument is given one."""

    def __init__(self, job: Job, received: float) -> None:
        self._job = job
        self._received = received
        self._cancelled = threading.Event()
        self._on_cancel: Optional[Callable[[], None]] = None
        self._encode: Optional[Callable[[Any], list[Bytes]]] = None
        self._send: Optional[Callable[[list[Bytes]], None]] = None
        # Parts that may be sent before the broker allows others.
        window = job.meta.get("window")
        self._window = window if isinstance(window, int) else 0
        self._streams = isinstance(window, int)
        self._room = threading.Condition()
        # What is kept for the end, because the client takes no parts.
        self._kept: list[Bytes] = []

    @property
    def request_id(self) -> str:
        """The client's id of the request, or one of the broker's. A client may put anything in it."""
        return self._text("id")

    @property
    def service(self) -> str:
        """The service that was asked for."""
        return self._text("service") or "default"

    @property
    def attempt(self) -> int:
        """1 for the first worker that has the request, then 2, and so on."""
        attempt = self._job.meta.get("attempt", 1)
        return attempt if isinstance(attempt, int) else 1

    @property
    def headers(self) -> dict[str, str]:
        """What the client has sent along beside the body. Bytes that are no UTF-8 become surrogates."""
        headers = self._job.meta.get("headers")
        if not isinstance(headers, dict):
            return {}
        return {name: _text(value) for name, value in headers.items() if isinstance(value, (bytes, str))}

    @property
    def key(self) -> str:
        """The client's name for the work, the same if it asks again; or nothing."""
        return self._text("key")

    @property
    def trace(self) -> str:
        """The client's `traceparent` (W3C), or nothing."""
        return self._text("trace")

    @property
    def frames(self) -> list[bytes]:
        """The body, frame by frame."""
        return list(self._job.frames)

    @property
    def deadline(self) -> Optional[float]:
        """When nobody waits any more, by `time.monotonic()`; None if nobody set a limit."""
        limit = self._job.meta.get("timeout_ms")
        return self._received + limit / 1000 if isinstance(limit, int) else None

    def remaining(self) -> Optional[float]:
        """Seconds left until nobody waits for the reply, at least 0; None if nobody set a limit."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the broker has said that nobody waits any more. A long handler looks at it and gives up."""
        return self._cancelled.is_set()

    def send_part(self, value: Any) -> None:
        """Sends a part of the reply at once; what the handler returns is the last part.

        Waits while the client is behind with its reading. If it takes no parts, they are kept, and it
        gets them with the last one. Raises `Failure` as soon as nobody waits any more.
        """
        frames = self._encode_part(value)
        if not self._streams:
            self._kept += frames
            return
        with self._room:
            self._room.wait_for(lambda: self._window > 0 or self.cancelled)
            self._send_one(frames)

    async def send_part_async(self, value: Any) -> None:
        """The same for an `async def`: it waits without blocking the event loop."""
        frames = self._encode_part(value)
        if not self._streams:
            self._kept += frames
            return
        while True:
            with self._room:
                if self._window > 0 or self.cancelled:
                    self._send_one(frames)
                    return
            await asyncio.get_running_loop().run_in_executor(None, self._wait_for_room)

    def _encode_part(self, value: Any) -> list[Bytes]:
        if self._encode is None:
            raise RuntimeError("the request is answered already")
        return self._encode(value)

    def _wait_for_room(self) -> None:
        with self._room:
            self._room.wait_for(lambda: self._window > 0 or self.cancelled)

    def _send_one(self, frames: list[Bytes]) -> None:
        if self.cancelled or self._send is None:
            raise Failure("cancelled")
        self._window -= 1
        self._send(frames)

    def allow_more(self, parts: int) -> None:
        """The broker's word came."""
        with self._room:
            self._window += parts
            self._room.notify_all()

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines begin with the request's id."""
        return _Named(_LOG, {"request": self.request_id})

    def cancel(self) -> None:
        """The broker's word came."""
        with self._room:
            self._cancelled.set()
            self._room.notify_all()
        if self._on_cancel is not None:
            self._on_cancel()

    def _text(self, key: str) -> str:
        value = self._job.meta.get(key)
        return value if isinstance(value, str) else ""


def _text(value: Union[bytes, str]) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


class _Named(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Puts the id before the line, with what could break the line made visible."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        name = str((self.extra or {}).get("request", ""))
        shown = "".join(letter if letter.isprintable() else "?" for letter in name)
        return f"[{shown}] {msg}", kwargs
