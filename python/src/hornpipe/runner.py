"""Runs a program's handler: one request after the other, or several at once on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import queue
import signal
import threading
from types import FrameType
from typing import Any, Callable, Optional

from . import wire
from .app import APP, App
from .context import Context
from .errors import Failure, Retry, UsageError
from .session import Session
from .wire import Bytes

_LOG = logging.getLogger("hornpipe.worker")

Finish = Callable[[], None]


class Runner:
    """One worker, from its first word to its last."""

    def __init__(self, app: App, backend: str) -> None:
        if app.handler is None:
            raise UsageError("no @worker: decorate the function that answers requests")
        self._app = app
        self._handler = app.handler
        self._inbox: queue.SimpleQueue[Optional[Context]] = queue.SimpleQueue()
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._backend = backend
        self._session: Optional[Session] = None
        self._stop_reason: Optional[str] = None

    def run(self) -> None:
        """Works until the broker says stop, or `stop` is called."""
        if self._app.is_async:
            asyncio.run(self._run_async())
        else:
            self._run_sync()

    def stop(self, reason: str) -> None:
        """Finishes what is in hand, and ends. From any thread or a signal's handler."""
        self._stop_reason = reason
        if self._session is not None:
            self._session.stop(reason)

    def is_any_cancelled(self) -> bool:
        """Whether a request is in hand for which nobody waits any more."""
        return self._session is not None and self._session.is_any_cancelled()

    def _announcement(self) -> dict[str, Any]:
        known = {"service": self._app.service, "name": self._app.name, "credits": self._app.credits}
        return {key: value for key, value in known.items() if value is not None}

    def _open(self, deliver: Callable[[Context], None], ended: Finish) -> Session:
        session = Session(self._backend, deliver, ended, self._announcement())
        self._session = session
        session.start()
        # A signal may have come before there was anything to stop.
        if self._stop_reason is not None:
            session.stop(self._stop_reason)
        return session

    # ---- one at a time

    def _run_sync(self) -> None:
        for hook in self._app.start_hooks:
            if inspect.iscoroutinefunction(hook):
                raise UsageError("an async @on_start needs an async @worker")
            hook()
        session = self._open(self._inbox.put, lambda: self._inbox.put(None))
        while True:
            context = self._inbox.get()
            if context is None:
                break
            session.reply(context, self._answer(session, context))
            # Or the body would be held until the next request comes.
            del context
        session.join()
        for hook in self._app.stop_hooks:
            hook()

    def _answer(self, session: Session, context: Context) -> list[Bytes]:
        token = context._job.token
        try:
            with self._parts(session, context):
                arguments = self._arguments(context)
                last = self._app.codec.encode(self._handler(*arguments))
                return wire.success(token, context._kept + last)
        except Exception as error:
            return _failed(context, error)

    def _arguments(self, context: Context) -> tuple[Any, ...]:
        try:
            body = self._app.codec.decode(context._job.frames)
        except Exception as error:
            raise Failure(f"the body is not {self._app.codec.name}: {error}") from None
        return (body, context) if self._app.takes_context else (body,)

    @contextlib.contextmanager
    def _parts(self, session: Session, context: Context) -> Any:
        token = context._job.token
        context._encode = self._app.codec.encode
        context._send = lambda frames: session.reply_part(context, wire.part(token, frames))
        try:
            yield
        finally:
            context._encode = context._send = None

    # ---- several at once

    async def _run_async(self) -> None:
        loop = asyncio.get_running_loop()
        for hook in self._app.start_hooks:
            await _call(hook)
        ended = asyncio.Event()
        running: set[asyncio.Task[None]] = set()

        # Runs in the loop, so not before this function waits: the session is there by then.
        def begin(context: Context) -> None:
            task = loop.create_task(self._answer_async(session, context))
            running.add(task)
            task.add_done_callback(running.discard)
            context._on_cancel = lambda: _in_loop(loop, task.cancel)
            if context.cancelled:
                # After its first step: a task that is cancelled before never begins, and would not reply.
                loop.call_soon(task.cancel)

        session = self._open(
            lambda context: _in_loop(loop, begin, context), lambda: _in_loop(loop, ended.set)
        )
        await ended.wait()
        if running:
            await asyncio.wait(running)
        for hook in self._app.stop_hooks:
            await _call(hook)

    async def _answer_async(self, session: Session, context: Context) -> None:
        token = context._job.token
        frames: list[Bytes]
        try:
            with self._parts(session, context):
                arguments = self._arguments(context)
                last = self._app.codec.encode(await self._handler(*arguments))
                frames = wire.success(token, context._kept + last)
        except asyncio.CancelledError:
            # By the broker's word, or by something that the handler has called: it is answered anyway.
            frames = wire.failure(token, "error", "cancelled")
        except Exception as error:
            frames = _failed(context, error)
        session.reply(context, frames)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *arguments: Any) -> None:
    # A loop that is closed already waits for nothing more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)


async def _call(hook: Callable[[], Any]) -> None:
    outcome = hook()
    if inspect.isawaitable(outcome):
        await outcome


def _failed(context: Context, error: Exception) -> list[Bytes]:
    token = context._job.token
    if isinstance(error, (Failure, Retry)):
        status = "retry" if isinstance(error, Retry) else "error"
        return wire.failure(token, status, str(error) or type(error).__name__)
    # Where it went wrong is the operator's to know, what went wrong the client's too.
    context.log.error("the handler failed", exc_info=error)
    message = str(error)
    kind = type(error).__name__
    return wire.failure(token, "error", f"{kind}: {message}" if message else kind)


def _heed_term(runner: Runner) -> None:
    """TERM: what is in hand is finished. If nobody waits for that, the process ends now."""

    def terminate(number: int, _frame: Optional[FrameType]) -> None:
        if runner.is_any_cancelled():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        runner.stop("TERM")

    signal.signal(signal.SIGTERM, terminate)


def work(app: App, backend: str) -> int:
    """Is a worker in this process until it is told to stop. Returns the exit code."""
    runner = Runner(app, backend)
    if threading.current_thread() is threading.main_thread():
        _heed_term(runner)
    runner.run()
    return 0


def run(backend: Optional[str] = None) -> None:
    """Serves the `@worker` of this program until it is told to stop.

    For programs that are started as `python3 app.py`; `python3 -m hornpipe app.py` does it by itself.
    `backend` is HORNPIPE_BACKEND, which the broker sets for its own workers.
    """
    where = backend or os.environ.get("HORNPIPE_BACKEND")
    if not where:
        raise UsageError(
            "no broker: start this under `hornpipe serve ... -- python3 app.py`, or set HORNPIPE_BACKEND "
            "to a broker's backend, as in tcp://127.0.0.1:6661"
        )
    APP.run_preload()
    work(APP, where)
