"""MessagePack, as much as a peer needs. Frozen: see README.md."""

import struct


def pack(value):
    if value is None:
        return b"\xc0"
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xda" + struct.pack(">H", len(text))) + text
    if isinstance(value, bytes):
        return b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, list):
        return b"\xdc" + struct.pack(">H", len(value)) + b"".join(pack(item) for item in value)
    pairs = b"".join(pack(key) + pack(item) for key, item in value.items())
    return b"\xde" + struct.pack(">H", len(value)) + pairs


def unpack(frame):
    value, end = _read(frame, 0)
    if end != len(frame):
        raise ValueError("bytes after the map")
    return value


def _number(data, at, form):
    return struct.unpack_from(">" + form, data, at)[0], at + struct.calcsize(form)


_NUMBERS = {0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}
_LENGTHS = {
    0xC4: ("B", "bin"), 0xC5: ("H", "bin"), 0xC6: ("I", "bin"), 0xD9: ("B", "str"), 0xDA: ("H", "str"), 0xDB: ("I", "str"),
    0xDC: ("H", "list"), 0xDD: ("I", "list"), 0xDE: ("H", "map"), 0xDF: ("I", "map"),
}


def _read(data, at):
    head, at = data[at], at + 1
    if head < 0x80:
        return head, at
    if head >= 0xE0:
        return head - 256, at
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if head in _NUMBERS:
        return _number(data, at, _NUMBERS[head])
    if head in _LENGTHS:
        form, kind = _LENGTHS[head]
        count, at = _number(data, at, form)
    elif head < 0x90:
        count, kind = head & 0x0F, "map"
    elif head < 0xA0:
        count, kind = head & 0x0F, "list"
    elif head < 0xC0:
        count, kind = head & 0x1F, "str"
    else:
        raise ValueError("no MessagePack that a map of this protocol holds")
    if kind in ("bin", "str"):
        piece = data[at : at + count]
        return (piece.decode() if kind == "str" else piece), at + count
    if kind == "list":
        items = []
        for _ in range(count):
            item, at = _read(data, at)
            items.append(item)
        return items, at
    pairs = {}
    for _ in range(count):
        key, at = _read(data, at)
        pairs[key], at = _read(data, at)
    return pairs, at
