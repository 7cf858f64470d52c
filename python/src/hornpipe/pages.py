"""The memory of a mold in huge pages, where the kernel has them.

A fork copies one entry for each page, and the end of a process undoes one for each: of 330 MB in
pages of 4 KiB that is 84,000, or 10 to 20 ms each time. Of 2 MiB it is 160. A worker that writes to
such a page still gets a copy of the 4 KiB alone, because the kernel splits it for that worker.
"""

from __future__ import annotations

import ctypes
import errno
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

_MADV_COLLAPSE = 25
_SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
#: So many pages are asked for with one call, so that the time is looked at in between.
_AT_ONCE = 16
#: Memory of nobody's file that can be written to: the heap, and what has no name or one of malloc's.
_OURS = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ [0-9a-f:]+ 0 *(\[heap\]|\[anon.*)?$")


def collapse(seconds: float) -> int:
    """Puts this process's memory into huge pages, for so long at most. Gives how many bytes.

    To be called before the first fork: of memory that is shared already it would make a copy. A
    kernel before 6.1 cannot do it, and one that is set to `never` is not asked to.
    """
    size = _size_of_a_page()
    if size is None:
        return 0
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    deadline = time.monotonic() + seconds
    done = 0
    for start, length in list(_pieces(size)):
        if time.monotonic() > deadline:
            break
        if madvise(start, length, _MADV_COLLAPSE) == 0:
            done += length
        elif ctypes.get_errno() == errno.EINVAL:
            break  # it does not know the word
        # Otherwise there is no such page at present, and the small ones stay.
    return done


def _size_of_a_page() -> Optional[int]:
    try:
        if "[never]" in (_SETTINGS / "enabled").read_text():
            return None
        return int((_SETTINGS / "hpage_pmd_size").read_text())
    except (OSError, ValueError):
        return None


def _pieces(size: int) -> Iterator[tuple[int, int]]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = _OURS.match(line)
        if found is None:
            continue
        start, end = (int(found[number], 16) for number in (1, 2))
        start, end = -(-start // size) * size, end // size * size
        for piece in range(start, end, size * _AT_ONCE):
            yield piece, min(size * _AT_ONCE, end - piece)
