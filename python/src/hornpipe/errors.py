"""Why a request has no reply, and what a handler raises to say so."""

from __future__ import annotations

from typing import Optional


class HornpipeError(Exception):
    """Everything that this package raises."""


class UsageError(HornpipeError):
    """The program asks for what makes no sense; the sentence says what to change."""


# ---- raised by handlers


class Failure(HornpipeError):  # noqa: N818 - what a handler says, not what went wrong here
    """Raised by a handler: the request failed and would fail again. The client hears the sentence."""


class Retry(HornpipeError):  # noqa: N818 - as above
    """Raised by a handler: it failed here, and another worker may try while attempts are left."""


# ---- raised by clients


class AskError(HornpipeError):
    """A request without a reply."""


class StatusError(AskError):
    """The broker's word how the request ended. `status` is that word, `attempt` how many workers had it."""

    status = "unknown"

    #: With `busy`: seconds after which another try is worth it, if the broker says so.
    retry_after: Optional[float] = None

    def __init__(self, message: str, attempt: int = 0, status: Optional[str] = None) -> None:
        if status is not None:
            self.status = status
        self.message = message
        self.attempt = attempt
        super().__init__(f"{self.status}: {message}" if message else self.status)

    def __reduce__(self) -> tuple[type[StatusError], tuple[str, int, str]]:
        return type(self), (self.message, self.attempt, self.status)


class HandlerError(StatusError):
    """The handler ran and said that it failed."""

    status = "error"


class BusyError(StatusError):
    """The queue is full. It was not run: ask again later."""

    status = "busy"


class TimedOutError(StatusError, TimeoutError):
    """It ran out of time in a worker's hands, and may still be running."""

    status = "timeout"


class ExpiredError(StatusError, TimeoutError):
    """Its time ended in the queue. It was not run."""

    status = "expired"


class LostError(StatusError):
    """Each worker that had it ended without a reply. It may have been run."""

    status = "lost"


class PoisonError(StatusError):
    """It ended every worker that had it."""

    status = "poison"


class UnavailableError(StatusError):
    """Workers cannot start at present."""

    status = "unavailable"


class NoServiceError(StatusError):
    """Nobody serves the service asked for."""

    status = "no_service"


class DrainingError(StatusError):
    """The broker is stopping."""

    status = "draining"


class MalformedError(StatusError):
    """The broker cannot read the request."""

    status = "malformed"


class TooLargeError(StatusError):
    """The body is larger than the broker takes."""

    status = "too_large"


class DeniedError(StatusError):
    """The client may not do this."""

    status = "denied"


class CancelledError(StatusError):
    """The client took the request back."""

    status = "cancelled"


class NoAnswerError(AskError, TimeoutError):
    """It was sent, and no answer came in time. It may have been run."""


class UnreachableError(AskError, ConnectionError):
    """No broker was there in time. The request was never sent."""


class ClosedError(AskError):
    """The client was closed before."""


_BY_STATUS: dict[str, type[StatusError]] = {
    kind.status: kind
    for kind in (
        HandlerError,
        BusyError,
        TimedOutError,
        ExpiredError,
        LostError,
        PoisonError,
        UnavailableError,
        NoServiceError,
        DrainingError,
        MalformedError,
        TooLargeError,
        DeniedError,
        CancelledError,
    )
}

#: Nothing was run, or not to its end, and another broker may be better off.
ELSEWHERE = frozenset({"busy", "unavailable", "draining"})


def of_status(status: str, message: str, attempt: int) -> StatusError:
    """The error for the broker's word. A word that is not known is a plain `StatusError`."""
    return _BY_STATUS.get(status, StatusError)(message, attempt, status)
