"""How a handler's values become bytes: as they are, as JSON, or as MessagePack. Never pickle,
which runs whatever a stranger has put into it."""

from __future__ import annotations

import json
from typing import Any, Callable, NamedTuple, Union

import msgpack

from .errors import UsageError
from .wire import Bytes


class Codec(NamedTuple):
    """Both directions. `decode` takes all the frames of a body, `encode` gives them."""

    name: str
    decode: Callable[[list[bytes]], Any]
    encode: Callable[[Any], list[Bytes]]


def _join(frames: list[bytes]) -> bytes:
    return frames[0] if len(frames) == 1 else b"".join(frames)


def _bytes_out(value: Any) -> list[Bytes]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return [value]
    if (
        isinstance(value, (list, tuple))
        and value
        and all(isinstance(item, (bytes, bytearray)) for item in value)
    ):
        return list(value)
    wanted = "bytes, or a list of bytes for several frames"
    hint = "; encode() it, or take codec='json'" if isinstance(value, (str, int, float, dict, list)) else ""
    raise TypeError(f"{type(value).__name__} cannot be sent: the codec 'bytes' wants {wanted}{hint}")


def _json_out(value: Any) -> list[Bytes]:
    return [json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()]


def _msgpack_in(frames: list[bytes]) -> Any:
    return msgpack.unpackb(_join(frames), raw=False, strict_map_key=False)


def _msgpack_out(value: Any) -> list[Bytes]:
    return [msgpack.packb(value, use_bin_type=True)]


BYTES = Codec("bytes", _join, _bytes_out)
JSON = Codec("json", lambda frames: json.loads(_join(frames)), _json_out)
MSGPACK = Codec("msgpack", _msgpack_in, _msgpack_out)

_BY_NAME = {codec.name: codec for codec in (BYTES, JSON, MSGPACK)}


def find(codec: Union[str, Codec]) -> Codec:
    """The codec of that name, or the one given."""
    if isinstance(codec, Codec):
        return codec
    try:
        return _BY_NAME[codec]
    except (KeyError, TypeError):
        raise UsageError(f"there is no codec {codec!r}: take {', '.join(sorted(_BY_NAME))}") from None
