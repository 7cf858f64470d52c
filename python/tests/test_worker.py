"""A worker program under a real broker."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
import zmq
from conftest import eventually

import hornpipe
from hornpipe import wire
from hornpipe.app import App
from hornpipe.runner import Runner

PLAIN = """
import os
from hornpipe import Failure, Retry, on_start, on_stop, preload, worker
loaded = []

@preload
def load(): loaded.append("preload")

@on_start
def start(): loaded.append("start")

@on_stop
def stop(): print("stopped with", loaded)

@worker
def handle(body, ctx):
    if body == b"facts":
        return repr((loaded, ctx.request_id, ctx.attempt, ctx.service, ctx.remaining() is not None)).encode()
    if body == b"frames":
        return [b"one", b"", b"three"]
    if body == b"count":
        return str([len(frame) for frame in ctx.frames]).encode()
    if body == b"fail":
        raise Failure("no such page")
    if body == b"raise":
        raise KeyError("lost")
    if body == b"text":
        return "text"
    if body == b"retry":
        if ctx.attempt == 1:
            raise Retry("not here")
        return b"second time"
    if body == b"die":
        os._exit(3)
    ctx.log.info("asked")
    return body[::-1]
"""


def test_bytes_go_there_and_back(broker):
    served = broker(PLAIN)
    with served.client() as client:
        for body in (b"abc", b"", bytes(range(256)) * 1000):
            assert client.ask(body) == body[::-1]
        reply = client.request(b"frames")
        assert reply.frames == [b"one", b"", b"three"]
        assert reply.attempt == 1
        assert client.request([b"count", b""]).value  # several frames are joined for the handler
        facts = client.ask(b"facts").decode()
        assert facts.startswith("(['preload', 'start'], '") and facts.endswith("1, 'default', True)")


def test_what_a_handler_raises_is_an_error_and_the_traceback_is_logged(broker):
    served = broker(PLAIN)
    with served.client() as client:
        with pytest.raises(hornpipe.HandlerError, match="no such page") as failure:
            client.ask(b"fail")
        assert failure.value.status == "error"
        assert failure.value.message == "no such page"
        with pytest.raises(hornpipe.HandlerError, match="KeyError: 'lost'"):
            client.ask(b"raise")
        with pytest.raises(hornpipe.HandlerError, match=r"TypeError: str cannot be sent.*codec='json'"):
            client.ask(b"text")
        assert client.ask(b"still here") == b"ereh llits"
        eventually(lambda: "Traceback" in served.log() and "KeyError: 'lost'" in served.log())
        assert "no such page" not in served.log().replace("last", ""), "what a handler says is no crash"


def test_a_handler_may_leave_it_to_another_worker(broker):
    served = broker(PLAIN, workers=2)
    with served.client() as client:
        reply = client.request(b"retry")
        assert (reply.value, reply.attempt) == (b"second time", 2)


def test_on_stop_runs_when_the_broker_ends(broker):
    served = broker(PLAIN)
    with served.client() as client:
        client.ask(b"x")
    os.kill(served.pid, signal.SIGTERM)
    eventually(lambda: "stopped with ['preload', 'start']" in served.log())


ASYNC = """
import asyncio
from hornpipe import on_start, on_stop, worker
running = 0
most = 0

@on_start
async def start(): await asyncio.sleep(0)

@on_stop
async def stop(): print("async end")

@worker(codec="json", credits=8)
async def handle(value, ctx):
    global running, most
    running += 1
    most = max(most, running)
    try:
        await asyncio.sleep(value.get("sleep", 0))
        return {"got": value, "most": most}
    except asyncio.CancelledError:
        print("was cancelled", ctx.cancelled)
        raise
    finally:
        running -= 1
"""


def test_an_async_handler_runs_as_many_as_it_has_credits(broker):
    served = broker(ASYNC)
    answers = []

    def ask():
        with served.client(codec="json") as client:
            answers.append(client.ask({"sleep": 0.3})["most"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(answers) == 8


def test_a_cancelled_coroutine_is_told_and_the_worker_goes_on(broker):
    served = broker(ASYNC, "--timeout", "300ms")
    with served.client(codec="json") as client:
        with pytest.raises(hornpipe.TimedOutError):
            client.ask({"sleep": 30})
        eventually(lambda: "was cancelled True" in served.log())
        assert client.ask({"a": ["ä", 1.5, None]})["got"] == {"a": ["ä", 1.5, None]}
        assert served.log().count("worker ready") == 1, "nobody was replaced"


def test_a_sync_handler_sees_that_nobody_waits(broker):
    app = """
import time
from hornpipe import worker
@worker
def handle(body, ctx):
    while body == b"long" and not ctx.cancelled:
        time.sleep(0.005)
    if body == b"long": print("gave up")
    return body
"""
    served = broker(app, "--timeout", "200ms")
    with served.client() as client:
        with pytest.raises(hornpipe.TimedOutError):
            client.ask(b"long")
        eventually(lambda: "gave up" in served.log())
        assert client.ask(b"short") == b"short"
        assert served.log().count("worker ready") == 1


def test_a_handler_that_ignores_cancel_is_ended_by_term_before_the_kill(broker):
    app = """
import time
from hornpipe import worker
@worker
def handle(body):
    if body == b"long": time.sleep(60)
    return body
"""
    served = broker(app, "--timeout", "200ms", "--cancel-grace", "200ms", "--term-grace", "60s")
    with served.client() as client:
        with pytest.raises(hornpipe.TimedOutError):
            client.ask(b"long")
        assert client.ask(b"short") == b"short", "another worker is there long before the grace is over"


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_codecs(broker, codec):
    app = f"""
from hornpipe import worker
@worker(codec={codec!r})
def handle(value):
    return {{"was": value}}
"""
    served = broker(app)
    value = {"list": [1, 2.5, "ü"], "none": None}
    with served.client(codec=codec) as client:
        assert client.ask(value) == {"was": value}
    with served.client() as client, pytest.raises(hornpipe.HandlerError, match=f"the body is not {codec}"):
        client.ask(b"\xc1\xff")


class Router:
    """A broker's crew endpoint, played by a test, with one worker in this process."""

    def __init__(self, handler):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        app = App()
        app.set_handler(handler)
        self.runner = Runner(app, f"tcp://127.0.0.1:{self.port}")
        self.thread = threading.Thread(target=self.runner.run, daemon=True)
        self.thread.start()
        self.receive()

    def restart(self):
        """Dies, and another takes its place."""
        self.socket.close()
        self.context.term()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"tcp://127.0.0.1:{self.port}")

    def receive(self):
        assert self.socket.poll(10_000)
        frames = self.socket.recv_multipart()
        self.peer = frames[0]
        return frames

    def job(self, body, **meta):
        self.socket.send_multipart([self.peer, b"", b"t1", wire.pack_map(meta), body])
        assert self.receive()[2] == b"processing"

    def order(self, **order):
        self.socket.send_multipart([self.peer, b"", b"", wire.pack_map(order)])

    def reply(self):
        _, empty, token, meta, *body = self.receive()
        assert (empty, token) == (b"", b"t1")
        return wire.unpack_map(meta), body

    def end(self):
        self.order(control="stop")
        assert self.receive()[2] == b"exiting"
        self.thread.join(10)
        self.socket.close()
        self.context.term()


def test_the_last_reply_with_a_key_is_sent_again_until_another_job_has_come():
    router = Router(lambda body: body.upper())
    router.job(b"x", key="k")
    assert router.reply() == ({}, [b"X"])
    for _ in range(2):
        router.restart()
        assert router.reply() == ({}, [b"X"])
        assert router.receive()[2] == b"waiting"
    router.job(b"y")
    assert router.reply() == ({}, [b"Y"])
    router.restart()
    frames = router.receive()
    assert frames[2] == b"waiting" and len(wire.unpack_map(frames[3])["instance"]) == 32
    router.end()


def in_parts(body, ctx):
    for number in range(5):
        ctx.send_part(str(number).encode())
    return b"last"


async def in_parts_async(body, ctx):
    for number in range(5):
        await ctx.send_part_async(str(number).encode())
    return b"last"


@pytest.mark.parametrize("handler", [in_parts, in_parts_async])
def test_parts_are_sent_as_far_as_the_broker_allows(handler):
    router = Router(handler)
    router.job(b"", window=2)
    assert [router.reply() for _ in range(2)] == [({"more": True}, [b"0"]), ({"more": True}, [b"1"])]
    assert not router.socket.poll(100), "no more than allowed"
    router.order(control="more", token="t1", parts=2)
    assert [router.reply()[1] for _ in range(2)] == [[b"2"], [b"3"]]
    router.order(control="more", token="t1", parts=9)
    assert [router.reply() for _ in range(2)] == [({"more": True}, [b"4"]), ({}, [b"last"])]
    # Nobody waits any more: the handler is told while it waits for room.
    router.job(b"", window=1)
    assert router.reply()[1] == [b"0"]
    router.order(control="cancel", token="t1")
    assert router.reply()[0] == {"status": "error", "message": "cancelled"}
    # A client that takes no parts gets them with the last.
    router.job(b"")
    assert router.reply() == ({}, [b"0", b"1", b"2", b"3", b"4", b"last"])
    router.end()


def test_headers_and_trace_reach_the_handler():
    def handle(body, ctx):
        return repr((ctx.headers, ctx.trace, ctx.key)).encode()

    router = Router(handle)
    router.job(b"", headers={"a": b"b\xff", "c": "d"}, trace="00-1", key="k")
    assert router.reply()[1] == [b"({'a': 'b\\udcff', 'c': 'd'}, '00-1', 'k')"]
    router.end()


def status(served):
    import subprocess

    from hornpipe.testing import find_broker

    port = served.frontend.rpartition(":")[2]
    command = [find_broker(), "status", port, "--control", served.control, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_idle_and_busy_workers_live_on_when_the_router_dies(broker):
    app = """
import time
from hornpipe import worker
@worker
def handle(body):
    if body == b"long": time.sleep(1.5)
    return body
"""
    served = broker(app, workers=2)
    eventually(lambda: served.log().count("worker ready") == 2)
    before = sorted(worker["pid"] for worker in status(served)["workers"])
    context = zmq.Context()
    busy = context.socket(zmq.REQ)
    busy.setsockopt(zmq.LINGER, 0)
    busy.connect(served.frontend)
    busy.send(b"long")
    eventually(lambda: any(worker["state"] == "processing" for worker in status(served)["workers"]))
    os.kill(status(served)["router_pid"], signal.SIGKILL)
    with served.client(timeout=20) as client:
        assert client.ask(b"x") == b"x"
    time.sleep(0.5)  # longer than a new router waits for workers to be heard
    with served.client(timeout=20) as client:
        for _ in range(8):
            assert client.ask(b"y") == b"y"
    eventually(lambda: all(worker["state"] == "waiting" for worker in status(served)["workers"]))
    assert sorted(worker["pid"] for worker in status(served)["workers"]) == before
    busy.close()
    context.term()


def test_a_worker_from_elsewhere_brings_its_service(hornpipe_serve):
    def handle(body, ctx):
        return b"served " + body

    served = hornpipe_serve(handle)
    assert served.ask(b"x") == b"served x"


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        ("x = 1", "has no @worker"),
        ("from hornpipe import worker\n@worker\ndef f(): pass", "must take the body"),
        ("from hornpipe import worker\n@worker(credits=3)\ndef f(b): pass", "needs `async def`"),
        (
            "from hornpipe import worker\n@worker(codec='pickle')\ndef f(b): pass",
            "there is no codec 'pickle'",
        ),
        (
            "from hornpipe import worker\n@worker\ndef f(b): pass\n@worker\ndef g(b): pass",
            "g is a second @worker beside f",
        ),
    ],
)
def test_a_program_that_makes_no_sense_is_told_what_to_change(tmp_path, app, complaint):
    ended = run_module(tmp_path, app, "--check")
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def run_module(tmp_path, app, *arguments):
    import subprocess
    import sys

    from conftest import SOURCE

    path = tmp_path / "app.py"
    path.write_text(app)
    command = [sys.executable, "-m", "hornpipe", str(path), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("HORNPIPE_BACKEND", None)
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=20)


def test_the_module_helps_and_says_what_is_missing(tmp_path):
    helped = run_module(tmp_path, "", "--help")
    assert helped.returncode == 0
    assert "hornpipe serve 6660 6661 -n 8 -- python3 -m hornpipe app.py" in helped.stdout
    described = run_module(tmp_path, PLAIN, "--check")
    assert described.stdout.startswith("handle: def, codec bytes, 1 at once")
    lonely = run_module(tmp_path, PLAIN)
    assert lonely.returncode == 2
    assert "no broker" in lonely.stderr
