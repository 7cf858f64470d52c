"""What a program says that it is: its handler and its hooks."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Optional, TypeVar, Union, overload

from . import codecs
from .codecs import Codec
from .errors import UsageError

Handler = Callable[..., Any]
Hook = Callable[[], Any]
_H = TypeVar("_H", bound=Handler)
_K = TypeVar("_K", bound=Hook)

#: How many requests a worker may run at once, by the protocol.
CREDITS_LIMIT = 256


class App:
    """One program's handler and hooks."""

    def __init__(self) -> None:
        self.handler: Optional[Handler] = None
        self.codec: Codec = codecs.BYTES
        self.credits = 1
        self.service: Optional[str] = None
        self.name: Optional[str] = None
        self.preload_hooks: list[Hook] = []
        self.start_hooks: list[Hook] = []
        self.stop_hooks: list[Hook] = []
        self.takes_context = False
        self.is_async = False

    def set_handler(
        self,
        handler: Handler,
        codec: Union[str, Codec] = "bytes",
        credits: int = 1,
        service: Optional[str] = None,
        name: Optional[str] = None,
    ) -> None:
        """Makes the function the program's handler."""
        if self.handler is not None and self.handler is not handler:
            raise UsageError(
                f"{_name(handler)} is a second @worker beside {_name(self.handler)}: a program has one "
                "handler; give each its own program and service"
            )
        if not callable(handler):
            raise UsageError(f"@worker wants a function, not {type(handler).__name__}")
        self.is_async = inspect.iscoroutinefunction(handler)
        if isinstance(credits, bool) or not isinstance(credits, int) or not 1 <= credits <= CREDITS_LIMIT:
            raise UsageError(f"credits={credits!r}: how many requests run at once, 1 to {CREDITS_LIMIT}")
        if credits > 1 and not self.is_async:
            raise UsageError(
                f"credits={credits} needs `async def`: {_name(handler)} runs one request at a time. "
                "More workers (-n) run more at once"
            )
        self.takes_context = _takes_context(handler)
        self.handler, self.codec, self.credits = handler, codecs.find(codec), credits
        self.service, self.name = service, name

    def run_preload(self) -> None:
        """What is done once, before workers are forked."""
        for hook in self.preload_hooks:
            if inspect.iscoroutinefunction(hook):
                raise UsageError(
                    f"@preload {_name(hook)} is async: no event loop outlives a fork, so use `def`"
                )
            hook()


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


def _takes_context(handler: Handler) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # written in C
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [parameter for parameter in parameters if parameter.kind in positional]
    needed = [parameter for parameter in places if parameter.default is inspect.Parameter.empty]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
    if len(needed) > 2 or (not places and not open_ended):
        raise UsageError(
            f"{_name(handler)} must take the body, and the context if it likes: (body) or (body, ctx)"
        )
    return len(needed) == 2 or any(parameter.name in ("ctx", "context") for parameter in places[1:2])


#: The program that is being loaded.
APP = App()


@overload
def worker(handler: _H) -> _H: ...


@overload
def worker(
    *,
    codec: Union[str, Codec] = "bytes",
    credits: int = 1,
    service: Optional[str] = None,
    name: Optional[str] = None,
) -> Callable[[_H], _H]: ...


def worker(
    handler: Optional[_H] = None,
    *,
    codec: Union[str, Codec] = "bytes",
    credits: int = 1,
    service: Optional[str] = None,
    name: Optional[str] = None,
) -> Union[_H, Callable[[_H], _H]]:
    """Makes a function, `def` or `async def`, the handler of this program.

    It is called with the body and, if it takes two arguments, the `Context`; what it returns is the
    reply, and what it raises an error reply. `codec` is `bytes`, `json` or `msgpack`. `credits` says
    how many requests an `async def` runs at once. `service` and `name` are for workers that no broker
    started: which service they bring, and how they are called in its log.
    """

    def register(function: _H) -> _H:
        APP.set_handler(function, codec, credits, service, name)
        return function

    return register if handler is None else register(handler)


def preload(hook: _K) -> _K:
    """Runs once when the program is loaded: what it makes is shared by all workers. No threads here."""
    APP.preload_hooks.append(hook)
    return hook


def on_start(hook: _K) -> _K:
    """Runs in each worker before its first request: open connections here, not in `preload`."""
    APP.start_hooks.append(hook)
    return hook


def on_stop(hook: _K) -> _K:
    """Runs in each worker after its last request, unless it is killed."""
    APP.stop_hooks.append(hook)
    return hook
