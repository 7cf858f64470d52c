"""Workers and clients of the hornpipe broker.

A worker (`hornpipe serve 6660 6661 -n 8 -- python3 -m hornpipe app.py`):

    from hornpipe import preload, worker

    @worker
    def shout(body: bytes) -> bytes:
        return body.upper()

A client:

    from hornpipe import Client

    with Client(6660) as client:
        print(client.ask(b"hello"))
"""

from __future__ import annotations

from .aio import AsyncClient
from .app import on_start, on_stop, preload, worker
from .client import Client, Reply
from .codecs import Codec
from .context import Context
from .errors import (
    AskError,
    BusyError,
    CancelledError,
    ClosedError,
    DeniedError,
    DrainingError,
    ExpiredError,
    Failure,
    HandlerError,
    HornpipeError,
    LostError,
    MalformedError,
    NoAnswerError,
    NoServiceError,
    PoisonError,
    Retry,
    StatusError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    UnreachableError,
    UsageError,
)
from .runner import run
from .version import VERSION as __version__

__all__ = [
    "AskError",
    "AsyncClient",
    "BusyError",
    "CancelledError",
    "Client",
    "ClosedError",
    "Codec",
    "Context",
    "DeniedError",
    "DrainingError",
    "ExpiredError",
    "Failure",
    "HandlerError",
    "HornpipeError",
    "LostError",
    "MalformedError",
    "NoAnswerError",
    "NoServiceError",
    "PoisonError",
    "Reply",
    "Retry",
    "StatusError",
    "TimedOutError",
    "TooLargeError",
    "UnavailableError",
    "UnreachableError",
    "UsageError",
    "__version__",
    "on_start",
    "on_stop",
    "preload",
    "run",
    "worker",
]
