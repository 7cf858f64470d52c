"""The bytes, held to the vectors of the protocol, and to rubbish."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hornpipe import asking, wire
from hornpipe.context import Context

VECTORS = Path(__file__).resolve().parents[2] / "proto" / "vectors"


def vector(name):
    lines = (VECTORS / f"{name}.hex").read_text().splitlines()
    kept = [line.partition("#")[0].strip() for line in lines]
    return [b"" if line == "empty" else bytes.fromhex(line) for line in kept if line]


def test_the_brokers_words_are_read():
    job = wire.read_broker(vector("job"))
    assert isinstance(job, wire.Job)
    assert (job.meta, job.frames) == ({"id": "a1", "attempt": 2, "timeout_ms": 1500}, [b"hello"])
    plain = wire.read_broker(vector("job-plain"))
    assert isinstance(plain, wire.Job)
    assert (plain.meta, plain.frames) == ({}, [b"hello"])
    assert wire.read_broker(vector("order-stop")) == wire.Stop()
    assert wire.read_broker(vector("order-cancel")) == wire.Cancel(job.token)


def test_a_job_with_everything_and_the_words_about_parts_are_read():
    job = wire.read_broker(vector("job-with-everything"))
    assert isinstance(job, wire.Job)
    context = Context(job, 0.0)
    assert (context.service, context.key, context.headers) == ("images", "order-66", {"tenant": "acme"})
    assert context.trace.startswith("00-0af76519")
    assert wire.read_broker(vector("order-more")) == wire.More(job.token, 4)
    part = wire.read_answer(vector("reply-native-part"))
    assert part is not None
    assert (part.more, part.frames) == (True, [b"HEL"])
    timed = wire.read_answer(vector("reply-native-timed"))
    assert timed is not None
    assert (timed.wait_us, timed.run_us) == (250, 120000)


def test_ours_are_those_of_the_protocol():
    token = vector("worker-reply")[1]
    assert wire.success(token, [b"HELLO"]) == vector("worker-reply")
    assert wire.failure(token, "error", "no such page") == vector("worker-reply-error")
    meta = {"id": "a1", "timeout_ms": 30000, "attempts": 1}
    assert wire.request(meta, [b"hello"]) == vector("request-native")
    everything = asking.options(
        {
            "attempts": 1,
            "key": "order-66",
            "exclusive": "account-7",
            "affinity": "session-3",
            "strict": True,
            "priority": "high",
            "more": True,
            "trace": wire.read_broker(vector("job-with-everything")).meta["trace"],
            "headers": {"tenant": "acme"},
        },
        "images",
    )
    sent = wire.request({"id": "a1", "timeout_ms": 30000, **everything}, [b"hello"])
    expected = vector("request-native-with-everything")
    assert wire.unpack_map(sent[2]) == wire.unpack_map(expected[2])
    part = wire.part(token, [b"HEL"])
    assert wire.unpack_map(part[2]) == {"more": True}, "and `ok` is what is not said"
    answer = wire.read_answer(vector("reply-native"))
    assert answer is not None
    assert (answer.id, answer.status, answer.attempt, answer.frames) == ("a1", "ok", 1, [b"HELLO"])


def test_rubbish_is_an_error_and_nothing_else():
    random.seed(1)
    for _ in range(20000):
        frames = [random.randbytes(random.choice([0, 0, 1, 6, 30])) for _ in range(random.randrange(6))]
        try:
            wire.read_broker(frames)
        except wire.WireError:
            pass
        assert wire.read_answer([b"", wire.MAGIC, *frames]) is None or frames
    with pytest.raises(wire.WireError):
        wire.unpack_map(b"\x91" * 4000)
    with pytest.raises(wire.WireError):
        wire.unpack_map(b"\x80" + b"\x00" * 5000)
    with pytest.raises(wire.WireError):
        wire.unpack_map(b"\x80\x80")


def test_a_long_sentence_is_cut_and_still_fits():
    for letter in ("x", "ü", "\U0001f980", "\ud800"):
        frames = wire.failure(b"t", "error", letter * 100000)
        assert len(frames[2]) <= wire.MAP_LIMIT
