"""Both clients, against brokers that are there, away, slow, full or ending."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import subprocess
import sys
import threading
import time

import pytest
import zmq
from conftest import SOURCE, eventually

import hornpipe
from hornpipe import errors, wire

SLOW = """
import time
from hornpipe import worker
@worker
def handle(body):
    time.sleep(float(body))
    return body
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def asks(kind, endpoints, body, **how):
    """The same question by either client."""
    if kind == "sync":
        with hornpipe.Client(endpoints, **how) as client:
            return client.request(body)

    async def ask():
        async with hornpipe.AsyncClient(endpoints, **how) as client:
            return await client.request(body)

    return asyncio.run(ask())


both = pytest.mark.parametrize("kind", ["sync", "async"])


class Fake:
    """A broker that does as a script says: one function for each request."""

    def __init__(self, *script):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.seen = []
        self.taken_back = 0
        self.thread = threading.Thread(target=self.run, args=(script,), daemon=True)
        self.thread.start()

    def run(self, script):
        for act in script:
            frames = self.socket.recv_multipart()
            while wire.unpack_map(frames[3]).get("cancel"):
                self.taken_back += 1
                frames = self.socket.recv_multipart()
            self.seen.append((frames[0], wire.unpack_map(frames[3]), frames[4:]))
            for answer in act(*self.seen[-1]):
                self.socket.send_multipart(answer)

    def end(self):
        self.thread.join(10)
        self.socket.close()
        self.context.term()


def silence(_peer, _meta, _body):
    return []


def answer(peer, meta, body, **more):
    values = {"id": meta["id"], "status": "ok", "attempt": 1, **more}
    return [[peer, b"", wire.MAGIC, wire.pack_map(values), *body]]


@both
def test_a_request_without_an_answer_is_sent_again_with_the_same_id_over_a_new_connection(kind):
    fake = Fake(silence, answer)
    assert asks(kind, fake.port, b"x", timeout=2, tries=2).value == b"x"
    fake.end()
    (first, second) = fake.seen
    assert fake.taken_back == 1, "the first try"
    assert first[1]["id"] == second[1]["id"]
    assert first[0] != second[0], "another connection"
    assert second[1]["timeout_ms"] < first[1]["timeout_ms"] <= 2000, "the time that is left travels along"


@both
def test_rubbish_and_answers_to_others_are_ignored(kind):
    def strange(peer, meta, body):
        yield [peer, b""]
        yield [peer, b"", b"ERR busy"]
        yield [peer, b"", wire.MAGIC, b"\xc1"]
        yield [peer, b"", wire.MAGIC, wire.pack_map({"id": "another", "status": "ok"}), b"no"]
        yield from answer(peer, meta, body)

    fake = Fake(strange)
    assert asks(kind, fake.port, b"x", timeout=5).value == b"x"
    fake.end()


@both
def test_a_reply_in_parts_is_put_together(kind):
    def parts(peer, meta, body):
        yield from answer(peer, meta, [b"one"], more=True)
        yield from answer(peer, meta, [b"two"], more=True)
        yield from answer(peer, meta, [b"three"])

    fake = Fake(parts)
    assert asks(kind, fake.port, b"x", timeout=5).frames == [b"one", b"two", b"three"]
    fake.end()


def streams(kind, port, **how):
    if kind == "sync":
        with hornpipe.Client(port, timeout=5) as client:
            return list(client.stream(b"x", **how))

    async def ask():
        async with hornpipe.AsyncClient(port, timeout=5) as client:
            return [part async for part in client.stream(b"x", **how)]

    return asyncio.run(ask())


@both
def test_a_reply_in_parts_is_streamed(kind):
    def parts(peer, meta, body):
        yield from answer(peer, meta, [b"one"], more=True)
        yield from answer(peer, meta, [b"two"], more=True)
        yield from answer(peer, meta, [b"three"])

    fake = Fake(parts)
    assert streams(kind, fake.port, headers={"tenant": "acme"}) == [b"one", b"two", b"three"]
    fake.end()
    assert fake.seen[0][1]["more"] is True
    assert fake.seen[0][1]["headers"] == {"tenant": b"acme"}


@both
def test_an_error_after_a_part_ends_the_stream_and_is_not_tried_elsewhere(kind):
    def breaks_off(peer, meta, body):
        yield from answer(peer, meta, [b"one"], more=True)
        yield from answer(peer, meta, [], status="draining", message="stopping")

    fake = Fake(breaks_off)
    with pytest.raises(hornpipe.DrainingError):
        streams(kind, fake.port)
    fake.end()
    assert len(fake.seen) == 1


def test_a_stream_that_is_left_does_not_disturb_the_next_request():
    def endless(peer, meta, body):
        for _ in range(3):
            yield from answer(peer, meta, [b"one"], more=True)

    fake = Fake(endless, answer)
    with hornpipe.Client(fake.port, timeout=5) as client:
        stream = client.stream(b"x")
        assert next(stream) == b"one"
        stream.close()
        assert client.ask(b"y") == b"y"
    fake.end()
    assert fake.seen[0][0] != fake.seen[1][0], "another connection"


@both
def test_busy_says_when_to_come_again(kind):
    def busy(peer, meta, body):
        return answer(peer, meta, [], status="busy", message="full", retry_after_ms=250)

    fake = Fake(busy)
    with pytest.raises(hornpipe.BusyError) as refused:
        asks(kind, fake.port, b"x", timeout=5)
    fake.end()
    assert refused.value.retry_after == 0.25


@both
@pytest.mark.parametrize("status", [*errors._BY_STATUS, "news"])
def test_each_status_is_an_error_with_its_name(kind, status):
    def refuse(peer, meta, body):
        return answer(peer, meta, [], status=status, message="because", attempt=2)

    fake = Fake(refuse)
    with pytest.raises(hornpipe.StatusError) as refused:
        asks(kind, fake.port, b"x", timeout=5)
    fake.end()
    assert type(refused.value) is errors._BY_STATUS.get(status, hornpipe.StatusError)
    assert (refused.value.status, refused.value.message, refused.value.attempt) == (status, "because", 2)
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.status) == (str(refused.value), status)


@both
def test_nobody_there_is_told_in_time_and_by_name(kind):
    began = time.monotonic()
    with pytest.raises(hornpipe.UnreachableError, match="no broker") as error:
        asks(kind, free_port(), b"x", timeout=0.4)
    assert isinstance(error.value, ConnectionError)
    assert time.monotonic() - began < 5


@both
def test_no_answer_is_told_in_time_and_by_name(kind):
    fake = Fake(silence, silence)
    with pytest.raises(hornpipe.NoAnswerError, match="2 times, and may have been run") as error:
        asks(kind, fake.port, b"x", timeout=0.6, tries=2)
    assert isinstance(error.value, TimeoutError)
    fake.end()


@both
def test_the_next_broker_is_asked_if_one_is_away_or_ending(kind):
    def ending(peer, meta, body):
        return answer(peer, meta, [], status="draining", message="stopping")

    fake, other = Fake(ending), Fake(answer)
    assert asks(kind, [free_port(), fake.port, other.port], b"x", timeout=10).value == b"x"
    fake.end()
    other.end()


@both
def test_a_failed_handler_is_not_tried_elsewhere(kind):
    def failed(peer, meta, body):
        return answer(peer, meta, [], status="error", message="no")

    fake, other = Fake(failed), Fake()
    with pytest.raises(hornpipe.HandlerError):
        asks(kind, [fake.port, other.port], b"x", timeout=10)
    fake.end()
    other.end()


def test_many_requests_at_once_over_one_connection(broker):
    served = broker("from hornpipe import worker\n@worker\ndef f(body): return body * 2", workers=2)

    async def ask():
        async with hornpipe.AsyncClient(served.frontend) as client:
            bodies = [str(number).encode() for number in range(200)]
            return bodies, await asyncio.gather(*(client.ask(body) for body in bodies))

    bodies, replies = asyncio.run(ask())
    assert replies == [body * 2 for body in bodies]


def test_an_async_request_can_be_cancelled_and_the_client_used_on(broker):
    served = broker(SLOW)

    async def ask():
        async with hornpipe.AsyncClient(served.frontend) as client:
            task = asyncio.create_task(client.ask(b"0.5"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await client.ask(b"0.01")

    assert asyncio.run(ask()) == b"0.01"


PATIENT = """
import time
from hornpipe import worker
@worker
def handle(body, ctx):
    print("began", body.decode())
    while body == b"long" and not ctx.cancelled:
        time.sleep(0.005)
    print("ended", body.decode(), ctx.cancelled)
    return body
"""


@both
def test_a_worker_hears_that_a_request_was_given_up(broker, kind):
    served = broker(PATIENT)
    if kind == "sync":
        with served.client(timeout=3, tries=2) as client, pytest.raises(hornpipe.AskError):
            client.request(b"long")
        # The second try was begun, so the one worker was free of the first one before its time. The
        # broker may name these words once more, as the last of whoever is late.
        eventually(lambda: served.log().count("began long") >= 2)
    else:

        async def ask():
            async with hornpipe.AsyncClient(served.frontend) as client:
                task = asyncio.create_task(client.ask(b"long"))
                while "began long" not in served.log():
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(ask())
    eventually(lambda: "ended long True" in served.log())
    with served.client() as client:
        assert client.ask(b"short") == b"short"
    assert served.log().count("worker ready") == 1


def test_closing_ends_what_is_under_way():
    fake = Fake(silence)

    async def ask():
        client = hornpipe.AsyncClient(fake.port)
        task = asyncio.create_task(client.ask(b"x"))
        while not fake.seen:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(hornpipe.ClosedError):
            await task
        with pytest.raises(hornpipe.ClosedError):
            await client.ask(b"x")

    asyncio.run(ask())
    fake.end()
    client = hornpipe.Client(fake.port)
    client.close()
    with pytest.raises(hornpipe.ClosedError):
        client.ask(b"x")


def test_threads_share_a_client(broker):
    served = broker("from hornpipe import worker\n@worker\ndef f(body): return body")
    wrong = []
    with served.client() as client:

        def ask(number):
            for count in range(30):
                body = f"{number}-{count}".encode()
                if client.ask(body) != body:
                    wrong.append(body)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_forked_child_asks_over_a_connection_of_its_own(broker):
    served = broker("from hornpipe import worker\n@worker\ndef f(body): return body")
    with served.client(timeout=10) as client:
        assert client.ask(b"parent") == b"parent"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if client.ask(b"child") == b"child" else 2
                client.close()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert client.ask(b"parent again") == b"parent again"


def test_a_program_ends_although_requests_were_not_sent_and_nothing_was_closed():
    program = f"""
import hornpipe
client = hornpipe.Client({free_port()}, timeout=0.3)
try:
    client.ask(b"x" * 1000000)
except hornpipe.UnreachableError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=20,
        env=environment,
        check=True,
    )
    assert ended.stdout.startswith("no broker in 0.")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "wrong", [0, 65536, "tcp://host", "host:", "ipc://", "6660x", [], "tcp://[::1]:x", "x:²"]
)
def test_what_is_no_address_is_told_at_once(wrong):
    with pytest.raises(hornpipe.UsageError):
        hornpipe.Client(wrong)


def test_arguments_that_make_no_sense_are_told_at_once():
    for how in ({"timeout": 0}, {"timeout": float("nan")}, {"tries": 0}, {"codec": "pickle"}):
        with pytest.raises(hornpipe.UsageError):
            hornpipe.Client(6660, **how)
    with pytest.raises(wire.WireError), hornpipe.Client(6660) as client:
        client.ask(b"x", service="x" * 5000)
