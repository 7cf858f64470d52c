"""What a handler is told about its request."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import MutableMapping
from typing import Any, Callable, Optional

from .wire import Job

_LOG = logging.getLogger("hornpipe.worker")


class Context:
    """One request, as its handler sees it. A handler that takes a second argument is given one."""

    def __init__(self, job: Job, received: float) -> None:
        self._job = job
        self._received = received
        self._cancelled = threading.Event()
        self._on_cancel: Optional[Callable[[], None]] = None
        self._send_part: Optional[Callable[[Any], None]] = None

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
        """What the client has sent along beside the body."""
        headers = self._job.meta.get("headers")
        if not isinstance(headers, dict):
            return {}
        return {str(name): value for name, value in headers.items() if isinstance(value, str)}

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
        """Sends a part of the reply at once; what the handler returns is the last part."""
        if self._send_part is None:
            raise RuntimeError("the request is answered already")
        self._send_part(value)

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines begin with the request's id."""
        return _Named(_LOG, {"request": self.request_id})

    def cancel(self) -> None:
        """The broker's word came."""
        self._cancelled.set()
        if self._on_cancel is not None:
            self._on_cancel()

    def _text(self, key: str) -> str:
        value = self._job.meta.get(key)
        return value if isinstance(value, str) else ""


class _Named(logging.LoggerAdapter):  # type: ignore[type-arg]
    """Puts the id before the line, with what could break the line made visible."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        name = str((self.extra or {}).get("request", ""))
        shown = "".join(letter if letter.isprintable() else "?" for letter in name)
        return f"[{shown}] {msg}", kwargs
