"""Full-text search in Python's own standard library: the worker of `hornpipe demo`.

The index is made once, in the mold, and is then in memory once, however many workers there are.
"""

import heapq
import math
import os
import re
import sysconfig
import time
from collections import Counter
from pathlib import Path

from hornpipe import Failure, preload, worker

WORD = re.compile(r"[a-z][a-z0-9_]+")

library = Path(sysconfig.get_paths()["stdlib"])
files = []  # names, relative to the library
lengths = []  # of each file, in terms
index = {}  # of each term: file, count, file, count, ...
words = []  # to be searched for under load
loaded_in = 0.0


def terms_of(text):
    """All words, and all pairs of neighbours."""
    found = WORD.findall(text.lower())
    return found + [f"{one} {other}" for one, other in zip(found, found[1:])]


@preload
def load():
    global loaded_in
    began = time.monotonic()
    at_most = int(os.environ.get("DEMO_FILES", "0")) or None
    paths = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    for path in paths[:at_most]:
        counts = Counter(terms_of(path.read_text("utf-8", "replace")))
        for term, count in counts.items():
            index.setdefault(term, []).extend((len(files), count))
        files.append(str(path.relative_to(library)))
        lengths.append(sum(counts.values()))
    # Those that many files have, so that a search has something to do.
    words.extend(heapq.nlargest(2000, (term for term in index if " " not in term), key=lambda term: len(index[term])))
    loaded_in = time.monotonic() - began


def search(query):
    """The best files by BM25, best first, with their scores."""
    mean = sum(lengths) / max(len(lengths), 1)
    scores = Counter()
    for term in set(terms_of(query)):
        found = index.get(term, [])
        rarity = math.log(1 + (len(files) - len(found) / 2 + 0.5) / (len(found) / 2 + 0.5))
        for file, count in zip(found[::2], found[1::2]):
            weight = count + 1.2 * (0.25 + 0.75 * lengths[file] / mean)
            scores[file] += rarity * 2.2 * count / weight
    return [(score, files[file]) for file, score in scores.most_common(3)]


@worker
def answer(body: bytes) -> bytes:
    text = body.decode("utf-8", "replace")
    if text == "about":
        return f"{len(files)} files, {len(index)} terms, loaded once in {loaded_in:.1f} s".encode()
    if text.startswith("sleep "):
        time.sleep(float(text[6:]) / 1000)
        return b"slept " + body[6:]
    if text.startswith("echo "):
        # Under load: a search for a word that the text chooses, and the text itself for an answer.
        search(words[sum(body) % len(words)])
        return body[5:]
    found = search(text)
    if not found:
        raise Failure("no file has any of these words")
    return "\n".join(f"{score:5.1f}  {file}" for score, file in found).encode()
