"""What both clients have in common: how a request is written, how long each try of it has, and how an
answer is read. No socket is here."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import zmq

from . import errors, wire
from .codecs import Codec
from .errors import AskError, NoAnswerError, UnreachableError, UsageError
from .wire import Answer, Bytes

#: How long a request has by itself, in seconds.
TIMEOUT = 30.0
#: How often it is sent at most.
TRIES = 3
#: How long (ms) a closed connection goes on trying to say that a request is taken back.
FAREWELL_MS = 100
#: With several brokers, how long one may take to be there (s) before the next is asked.
CONNECT_WAIT = 1.0


class Reply(NamedTuple):
    """A reply, and what is known of it."""

    #: As the codec has it.
    value: Any
    #: The body, frame by frame.
    frames: list[bytes]
    #: How many workers had the request.
    attempt: int
    #: The request's id.
    id: str
    #: Seconds that it waited for workers, and that they had it; None if the broker does not say.
    waited: Optional[float] = None
    ran: Optional[float] = None


def to_reply(codec: Codec, answer: Answer) -> Reply:
    """A good answer, for whoever asked."""
    waited, ran = (
        None if microseconds is None else microseconds / 1e6
        for microseconds in (answer.wait_us, answer.run_us)
    )
    return Reply(codec.decode(answer.frames), answer.frames, answer.attempt, answer.id, waited, ran)


def new_prefix() -> str:
    """What no other client begins its ids with."""
    return os.urandom(8).hex()


def check(timeout: float, tries: int) -> None:
    """Refuses what makes no sense."""
    if not timeout > 0:
        raise UsageError(f"timeout={timeout!r}: seconds, more than 0")
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 1:
        raise UsageError(f"tries={tries!r}: how often a request is sent, at least 1")


def new_socket(context: zmq.Context[Any]) -> Any:
    """A socket for one connection, which is thrown away if it disappoints."""
    socket = context.socket(zmq.DEALER)
    # Whoever closes it does not wait for what was not sent.
    socket.setsockopt(zmq.LINGER, 0)
    # Nothing is sent into a connection that is not there.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 10)
    return socket


class Request:
    """One request, from its first try to its last."""

    def __init__(
        self,
        name: str,
        frames: Sequence[Bytes],
        options: dict[str, Any],
        timeout: float,
        tries: int,
        brokers: int,
    ) -> None:
        check(timeout, tries)
        if not frames:
            raise UsageError("a body has at least one frame")
        self.name = name
        self._frames = list(frames)
        self._options = options
        self._brokers = brokers
        self._tries = tries
        self._began = time.monotonic()
        self._deadline = self._began + timeout
        self.sent = 0
        self._last: Optional[AskError] = None
        # A map that is too large is told at once.
        self.message()

    def left(self) -> float:
        """Seconds until nobody waits."""
        return max(0.0, self._deadline - time.monotonic())

    def goes_on(self) -> bool:
        """Whether there is another try."""
        return self.sent < self._tries and self.left() > 0

    def share(self) -> float:
        """Seconds that the next try has for its answer."""
        return self.left() / max(1, self._tries - self.sent)

    def connect_share(self) -> float:
        """Seconds that a broker has to be there."""
        return self.left() if self._brokers == 1 else min(self.left(), CONNECT_WAIT)

    def message(self) -> list[Bytes]:
        """What is sent. The time that is left travels along."""
        left = max(1, int(self.left() * 1000))
        return wire.request({"id": self.name, "timeout_ms": left, **self._options}, self._frames)

    def read(self, answer: Answer) -> Optional[Answer]:
        """The answer if it is good, None if another broker is to be asked, else its error is raised."""
        if answer.status == "ok":
            return answer
        error = errors.of_status(answer.status, answer.message, answer.attempt)
        if answer.retry_after_ms is not None:
            error.retry_after = answer.retry_after_ms / 1000
        if answer.status not in errors.ELSEWHERE or self._brokers == 1:
            raise error
        self._last = error
        return None

    def read_rest(self, answer: Answer) -> Answer:
        """A part after the first: it is too late to ask somebody else."""
        if answer.status != "ok":
            raise errors.of_status(answer.status, answer.message, answer.attempt)
        return answer

    def failed(self) -> AskError:
        """Why there is no reply, when there is no other try."""
        if self._last is not None:
            return self._last
        waited = time.monotonic() - self._began
        if not self.sent:
            return UnreachableError(f"no broker in {waited:.1f} s")
        times = "once" if self.sent == 1 else f"{self.sent} times"
        return NoAnswerError(f"no answer in {waited:.1f} s; it was sent {times}, and may have been run")


def options(how: dict[str, Any], service: Optional[str]) -> dict[str, Any]:
    """The keys of the request map that were given, as the protocol names them."""
    unknown = set(how) - _OPTIONS
    if unknown:
        there_are = ", ".join(sorted(_OPTIONS - {"more"}))
        raise TypeError(f"{', '.join(sorted(unknown))}: no such option; there are {there_are}")
    known: dict[str, Any] = {"service": service, **how}
    headers = known.pop("headers", None)
    if headers:
        known["headers"] = {
            name: value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            for name, value in headers.items()
        }
    priority = known.get("priority")
    if priority not in (None, "high", "normal", "low"):
        raise UsageError(f"priority={priority!r}: high, normal or low")
    return {key: value for key, value in known.items() if value is not None}


_OPTIONS = frozenset(
    {"service", "attempts", "headers", "trace", "key", "exclusive", "affinity", "strict", "priority", "more"}
)
