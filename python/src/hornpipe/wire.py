"""Bytes and what they mean: the frames of docs/PROTOCOL.md. No socket and no clock."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

import msgpack

MAGIC = b"HPIPE1"
#: A map of the protocol is never larger.
MAP_LIMIT = 4096
#: What is left for a sentence in a map, whatever its characters are.
MESSAGE_LIMIT = 2000

Bytes = Union[bytes, bytearray, memoryview]


class WireError(ValueError):
    """A message that cannot be read."""


def pack_map(values: dict[str, Any]) -> bytes:
    """The frame of a map."""
    frame: bytes = msgpack.packb(values, use_bin_type=True)
    if len(frame) > MAP_LIMIT:
        raise WireError(f"a map of {len(frame)} bytes: the protocol has at most {MAP_LIMIT}")
    return frame


def unpack_map(frame: bytes) -> dict[str, Any]:
    """The map that fills a frame. An empty frame is an empty map."""
    if not frame:
        return {}
    if len(frame) > MAP_LIMIT:
        raise WireError(f"a map of {len(frame)} bytes")
    try:
        values = msgpack.unpackb(frame, raw=False, strict_map_key=True)
    except Exception as error:  # whatever the bytes are, and whichever msgpack it is
        raise WireError(f"not a map: {type(error).__name__}") from None
    if not isinstance(values, dict):
        raise WireError("not a map")
    return values


def shorten(sentence: str) -> str:
    """A sentence that fits into a map, whatever it was."""
    line = sentence.encode("utf-8", "replace")
    return line[:MESSAGE_LIMIT].decode("utf-8", "ignore")


class Job(NamedTuple):
    """A request, as a worker is given it."""

    token: bytes
    meta: dict[str, Any]
    frames: list[bytes]


class Cancel(NamedTuple):
    """Nobody waits for the reply to this job any more."""

    token: bytes


class More(NamedTuple):
    """So many more parts of this job's reply may be sent."""

    token: bytes
    parts: int


class Stop(NamedTuple):
    """Finish what is in hand, and end."""


def read_broker(frames: list[bytes]) -> Union[Job, Cancel, More, Stop]:
    """What the broker says to a worker."""
    if len(frames) < 3 or frames[0]:
        raise WireError(f"{len(frames)} frames that are neither a job nor an order")
    token = frames[1]
    if token:
        return Job(token, unpack_map(frames[2]), frames[3:] or [b""])
    order = unpack_map(frames[2])
    if order.get("control") == "stop":
        return Stop()
    subject, parts = order.get("token"), order.get("parts")
    if isinstance(subject, str):
        if order.get("control") == "cancel":
            return Cancel(subject.encode())
        if order.get("control") == "more" and isinstance(parts, int) and parts >= 0:
            return More(subject.encode(), parts)
    raise WireError("an order that is not known")


def state(word: str, announcement: bytes) -> list[bytes]:
    """A worker's word on itself."""
    return [b"", word.encode(), announcement]


def success(token: bytes, frames: list[Bytes]) -> list[Bytes]:
    """A reply."""
    return [b"", token, b"", *(frames or [b""])]


def part(token: bytes, frames: list[Bytes]) -> list[Bytes]:
    """A part of a reply, of which more follows."""
    return [b"", token, pack_map({"more": True}), *(frames or [b""])]


def failure(token: bytes, status: str, message: str) -> list[Bytes]:
    """A reply that says that there is none: `error` or `retry`."""
    return [b"", token, pack_map({"status": status, "message": shorten(message)}), b""]


def request(meta: dict[str, Any], frames: list[Bytes]) -> list[Bytes]:
    """A native client's request."""
    present = {key: value for key, value in meta.items() if value is not None}
    return [b"", MAGIC, pack_map(present), *frames]


def take_back(name: str) -> list[bytes]:
    """A native client's word that it does not wait for that request any more."""
    return [b"", MAGIC, pack_map({"id": name, "cancel": True})]


class Answer(NamedTuple):
    """What a native client hears."""

    id: str
    status: str
    message: str
    attempt: int
    more: bool
    frames: list[bytes]
    #: Microseconds that it waited for workers, and that they had it; None if that is not said.
    wait_us: Optional[int] = None
    run_us: Optional[int] = None
    #: With `busy`: milliseconds after which another try is worth it.
    retry_after_ms: Optional[int] = None


def read_answer(frames: list[bytes]) -> Optional[Answer]:
    """An answer, or None for anything else."""
    if len(frames) < 3 or frames[0] or frames[1] != MAGIC:
        return None
    try:
        values = unpack_map(frames[2])
    except WireError:
        return None
    name, status = values.get("id", ""), values.get("status")
    if not isinstance(name, str) or not isinstance(status, str):
        return None
    attempt, message = values.get("attempt", 0), values.get("message", "")
    return Answer(
        id=name,
        status=status,
        message=message if isinstance(message, str) else "",
        attempt=attempt if isinstance(attempt, int) else 0,
        more=values.get("more") is True,
        frames=frames[3:],
        wait_us=_number(values, "wait_us"),
        run_us=_number(values, "run_us"),
        retry_after_ms=_number(values, "retry_after_ms"),
    )


def _number(values: dict[str, Any], key: str) -> Optional[int]:
    value = values.get(key)
    return value if isinstance(value, int) else None
