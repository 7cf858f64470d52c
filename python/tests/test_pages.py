"""Huge pages for the memory of a mold."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hornpipe import pages

#: 64 MB in small objects and in large ones. Says whether the kernel can do it at all, how much was
#: done, how much the kernel says is so, whether all is as it was, and how much is held.
PROGRAM = """
import ctypes, mmap, re, sys
from pathlib import Path
from hornpipe import pages

kept = [[str(number), number] for number in range(200_000)]
kept += [bytes([number]) * 1_000_000 for number in range(32)]
before = hash(str(kept))
rollup = Path("/proc/self/smaps_rollup")
held = lambda what: int(re.search(what + r": +([0-9]+) kB", rollup.read_text())[1]) * 1024

size = pages._size_of_a_page()
can = False
if size is not None:
    probe = mmap.mmap(-1, 4 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    probe.write(b"x" * (4 * size))
    address = ctypes.addressof(ctypes.c_char.from_buffer(probe))
    aligned = ctypes.c_void_p(-(-address // size) * size)
    can = ctypes.CDLL(None).madvise(aligned, ctypes.c_size_t(size), 25) == 0
rss, huge = held("Rss"), held("AnonHugePages")
done = pages.collapse(float(sys.argv[1]))
print(can, done, held("AnonHugePages") - huge, hash(str(kept)) == before, held("Rss") - rss)
"""


def collapsed(seconds):
    command = [sys.executable, "-c", PROGRAM, str(seconds)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return told[0] == "True", int(told[1]), int(told[2]), told[3] == "True", int(told[4])


def test_memory_goes_into_huge_pages_and_stays_what_it_is():
    can, done, huge, same, more = collapsed(60)
    assert same
    assert (done > 0) == can
    # Some of it may have been in huge pages before, by the kernel's own work.
    assert huge <= done + (4 << 20)
    assert not can or huge > done // 2
    # Holes between objects are filled up, which is little.
    assert more < 32 << 20


def test_it_takes_no_longer_than_it_may():
    _can, done, huge, same, _more = collapsed(-1)
    assert (done, same) == (0, True)
    assert huge <= 4 << 20


@pytest.mark.parametrize(
    "setting, size", [("always madvise [never]", "2097152"), ("[always]", "no number"), (None, None)]
)
def test_a_kernel_that_has_none_or_must_not_is_not_asked(monkeypatch, tmp_path, setting, size):
    if setting is not None:
        (tmp_path / "enabled").write_text(setting)
        (tmp_path / "hpage_pmd_size").write_text(size)
    monkeypatch.setattr(pages, "_SETTINGS", tmp_path)
    assert pages.collapse(60) == 0
