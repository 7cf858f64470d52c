"""Where brokers are, as people write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

from .errors import UsageError

Endpoint = Union[int, str]
Endpoints = Union[Endpoint, Iterable[Endpoint]]


def resolve(endpoints: Endpoints) -> list[str]:
    """ZeroMQ's spelling of one broker or several: a bare port is one of this machine."""
    several = [endpoints] if isinstance(endpoints, (int, str)) else list(endpoints)
    if not several:
        raise UsageError("no broker: name one, as in 6660 or 'tcp://broker:6660'")
    return [_resolve(endpoint) for endpoint in several]


def _resolve(endpoint: Endpoint) -> str:
    text = str(endpoint).strip()
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme == "tcp":
            return f"tcp://{_host_and_port(text, rest)}"
        if scheme in ("ipc", "inproc") and rest:
            return text
        raise UsageError(f"{text!r} is no broker's address: tcp://HOST:PORT or ipc://PATH")
    return f"tcp://{_host_and_port(text, text if ':' in text else f'127.0.0.1:{text}')}"


def _host_and_port(text: str, place: str) -> str:
    host, _, port = place.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UsageError(
            f"{text!r} is no broker's address: a port from 1 to 65535, HOST:PORT or tcp://HOST:PORT"
        )
    return f"{host}:{int(port)}"
