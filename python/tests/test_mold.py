"""Workers from a mold: loaded once, children of the broker's parent, replaced whatever dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import eventually

from hornpipe.testing import NoBrokerError, find_broker

APP = """
import os
from hornpipe import preload, worker

@preload
def load():
    with open({marks!r}, "a") as marks:
        marks.write(f"{{os.getpid()}}\\n")

@worker
def handle(body):
    return b"{answer} " + body
"""


@pytest.fixture
def marks(tmp_path):
    return tmp_path / "loads"


def app(marks, answer="one"):
    return APP.format(marks=str(marks), answer=answer)


def loads(marks):
    """The processes that have loaded the program, oldest first."""
    return [int(line) for line in marks.read_text().split()]


def status(served):
    port = served.frontend.rpartition(":")[2]
    command = [find_broker(), "status", port, "--control", served.control, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def workers(served):
    return {worker["slot"]: worker for worker in status(served)["workers"]}


def ready(served, count):
    def look():
        found = workers(served)
        return len(found) == count and all(one["state"] == "waiting" for one in found.values()) and found

    return eventually(look)


def field(pid, name):
    """A field of /proc/PID/status; None if there is no such process, or it is not reaped."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in text.splitlines())
    return None if values["State"].strip().startswith("Z") else values[name].strip()


def lives(pid):
    return field(pid, "PPid") is not None


def ask_all(served, answer="one"):
    with served.client(timeout=20) as client:
        for number in range(8):
            body = str(number).encode()
            assert client.ask(body) == answer.encode() + b" " + body


def test_the_program_is_loaded_once_and_workers_are_the_parents_own_children(broker, marks):
    served = broker(app(marks), workers=4)
    found = ready(served, 4)
    (mold,) = loads(marks)
    assert field(mold, "PPid") == str(served.pid)
    for slot, worker in found.items():
        assert field(worker["pid"], "PPid") == str(served.pid)
        assert os.getpgid(worker["pid"]) == worker["pid"], "a group of its own"
        environment = Path(f"/proc/{worker['pid']}/environ").read_text()
        assert "HORNPIPE_SLOT" not in environment, "set after the fork, so not seen here"
        assert (worker["incarnation"], slot in range(4)) == (1, True)
    ask_all(served)
    line = eventually(lambda: [line for line in served.screen if "memory" in line])[0]
    numbers = re.sub(r"\d+", "N", line)
    assert numbers == "  memory N MB shared once + N MB private = N MB; N separate copies: N MB"
    # One more, and one killed: nothing is loaded again.
    os.kill(served.pid, signal.SIGTTIN)
    ready(served, 5)
    os.kill(found[2]["pid"], signal.SIGKILL)
    eventually(lambda: workers(served)[2]["incarnation"] == 2 and workers(served)[2]["state"] == "waiting")
    assert loads(marks) == [mold]
    assert workers(served)[2]["last_exit"]["reason"] == "killed by SIGKILL", "by the parent's wait"
    assert served.stop() == 0
    assert not lives(mold)


def test_a_handler_knows_its_slot(broker):
    served = broker(
        "import os\nfrom hornpipe import worker\n@worker\ndef f(body):\n"
        "    keys = ['HORNPIPE_' + key for key in body.decode().split()]\n"
        "    return ' '.join(os.environ.get(key, '-') for key in keys).encode()"
    )
    with served.client() as client:
        names = b"SERVICE SLOT INCARNATION GENERATION MOLD_FD"
        assert client.ask(names) == b"default 0 1 0 -"


def test_a_killed_mold_costs_no_worker_and_another_is_loaded(broker, marks):
    served = broker(app(marks), workers=3)
    before = {slot: worker["pid"] for slot, worker in ready(served, 3).items()}
    (mold,) = loads(marks)
    eventually(lambda: "memory" in "".join(served.screen))
    # One that was ready for a second is made good at once; this waits for that second.
    eventually(lambda: status(served)["uptime_ms"] > 2500)
    os.kill(mold, signal.SIGKILL)
    eventually(lambda: len(loads(marks)) == 2 and served.log().count("mold ready") == 2 * 2)
    assert {slot: worker["pid"] for slot, worker in workers(served).items()} == before
    ask_all(served)
    os.kill(before[1], signal.SIGKILL)
    eventually(lambda: workers(served)[1]["incarnation"] == 2 and workers(served)[1]["state"] == "waiting")
    assert len(loads(marks)) == 2
    ask_all(served)


def test_a_mold_and_all_its_workers_killed_at_once_come_back(broker, marks):
    served = broker(app(marks), workers=3)
    found = ready(served, 3)
    for pid in [*loads(marks), *(worker["pid"] for worker in found.values())]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: all(one["incarnation"] >= 2 for one in workers(served).values()))
    ready(served, 3)
    ask_all(served)


def test_nothing_is_left_when_the_parent_is_killed(broker, marks):
    served = broker(app(marks), workers=3)
    found = ready(served, 3)
    (mold,) = loads(marks)
    os.kill(served.pid, signal.SIGKILL)
    for pid in [mold, *(worker["pid"] for worker in found.values())]:
        eventually(lambda pid=pid: not lives(pid))


def test_nothing_is_left_when_parent_and_router_are_killed_together(broker, marks):
    served = broker(app(marks), workers=3)
    found = ready(served, 3)
    (mold,) = loads(marks)
    router = status(served)["router_pid"]
    # Stopped, it cannot start another router, which would see to the workers.
    os.kill(served.pid, signal.SIGSTOP)
    os.kill(router, signal.SIGKILL)
    os.kill(served.pid, signal.SIGKILL)
    for pid in [mold, *(worker["pid"] for worker in found.values())]:
        eventually(lambda pid=pid: not lives(pid))


def test_nothing_is_left_when_the_parent_is_killed_while_workers_are_forked(broker, marks):
    served = broker(app(marks), workers=1)
    ready(served, 1)
    (mold,) = loads(marks)
    for _ in range(20):
        os.kill(served.pid, signal.SIGTTIN)
    os.kill(served.pid, signal.SIGKILL)
    eventually(lambda: not lives(mold))

    def descendants():
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    command = Path(f"/proc/{entry}/cmdline").read_bytes()
                except OSError:
                    continue
                if str(marks.parent).encode() in command:
                    found.append(entry)
        return found

    eventually(lambda: not descendants())


def test_the_router_dies_and_the_workers_of_the_mold_live_on(broker, marks):
    served = broker(app(marks), workers=3)
    before = {slot: worker["pid"] for slot, worker in ready(served, 3).items()}
    os.kill(status(served)["router_pid"], signal.SIGKILL)
    eventually(lambda: status(served)["router_life"] == 2)
    ask_all(served)
    assert {slot: worker["pid"] for slot, worker in ready(served, 3).items()} == before
    assert len(loads(marks)) == 1


def test_an_upgrade_keeps_the_workers_and_loads_another_mold_when_one_is_wanted(broker, marks):
    served = broker(app(marks), workers=2)
    before = {slot: worker["pid"] for slot, worker in ready(served, 2).items()}
    (mold,) = loads(marks)
    os.kill(served.pid, signal.SIGUSR2)
    eventually(lambda: "has taken over" in served.log())
    eventually(lambda: not lives(mold))
    assert {slot: worker["pid"] for slot, worker in ready(served, 2).items()} == before
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: workers(served)[0]["incarnation"] == 2 and workers(served)[0]["state"] == "waiting")
    assert len(loads(marks)) == 2
    ask_all(served)


def reload(served, *, works):
    port = served.frontend.rpartition(":")[2]
    command = [find_broker(), "reload", port, "--control", served.control, "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) is works, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_reload_loads_a_new_mold_and_loses_nothing(broker, marks, tmp_path):
    served = broker(app(marks), workers=3)
    ready(served, 3)
    wrong, answers, over = [], set(), threading.Event()

    def ask():
        with served.client(timeout=20, tries=1) as client:
            while not over.is_set():
                try:
                    answers.add(client.ask(b"x"))
                except Exception as error:
                    wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    (tmp_path / "app.py").write_text(app(marks, "two"))
    reload(served, works=True)
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert answers == {b"one x", b"two x"}
    (old, new) = loads(marks)
    eventually(lambda: not lives(old))
    assert lives(new)
    ask_all(served, "two")
    assert {worker["generation"] for worker in ready(served, 3).values()} == {1}


def test_code_that_does_not_import_changes_nothing(broker, marks, tmp_path):
    served = broker(app(marks), workers=3)
    before = {slot: worker["pid"] for slot, worker in ready(served, 3).items()}
    (tmp_path / "app.py").write_text("import nothing_of_that_name\n")
    told = reload(served, works=False)
    assert "nothing_of_that_name" in told, "with the reason"
    assert {slot: worker["pid"] for slot, worker in ready(served, 3).items()} == before
    ask_all(served)
    # The old generation goes on being made good, by the old code.
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: workers(served)[0]["incarnation"] > 1)
    ready(served, 3)
    ask_all(served)
    assert len(loads(marks)) == 1
    (tmp_path / "app.py").write_text(app(marks, "two"))
    reload(served, works=True)
    ask_all(served, "two")


def test_workers_that_die_in_a_reload_take_their_mold_along(broker, marks, tmp_path):
    served = broker(app(marks), workers=2)
    ready(served, 2)
    broken = (
        app(marks) + "\nfrom hornpipe import on_start\n@on_start\ndef start(): raise RuntimeError('no sea')\n"
    )
    (tmp_path / "app.py").write_text(broken)
    assert "no sea" in reload(served, works=False)
    (good, bad) = loads(marks)
    eventually(lambda: not lives(bad))
    assert lives(good)
    ask_all(served)


THREADED = """
import threading, time
from hornpipe import worker
threading.Thread(target=time.sleep, args=(3600,), name="ticker", daemon=True).start()
@worker
def handle(body): return body
"""


def test_threads_are_refused_by_name_and_run_without_a_mold(broker):
    with pytest.raises(NoBrokerError) as refused:
        broker(THREADED, workers=2)
    told = str(refused.value)
    assert "exit code 3" in told
    assert "ticker" in told
    assert "--no-mold" in told
    served = broker(THREADED, "--no-mold", workers=2)
    with served.client() as client:
        assert client.ask(b"x") == b"x"
    assert "mold" not in served.log()


def test_a_program_that_cannot_be_loaded_ends_the_start_with_its_last_words(broker):
    with pytest.raises(NoBrokerError) as refused:
        broker("import nothing_of_that_name\n", workers=2)
    told = str(refused.value)
    assert "exit code 3" in told
    assert "nothing_of_that_name" in told


def test_a_mold_that_takes_too_long_is_told_like_a_slow_worker(broker):
    slow = "import time\nfrom hornpipe import worker\ntime.sleep(60)\n@worker\ndef f(b): return b\n"
    with pytest.raises(NoBrokerError) as refused:
        broker(slow, "--boot-timeout", "300ms", workers=2)
    assert "not ready in time" in str(refused.value)


def test_a_stopped_mold_is_replaced_when_it_is_wanted(broker, marks):
    served = broker(app(marks), "--boot-timeout", "500ms", workers=2)
    found = ready(served, 2)
    (mold,) = loads(marks)
    os.kill(mold, signal.SIGSTOP)
    os.kill(found[0]["pid"], signal.SIGKILL)
    eventually(lambda: len(loads(marks)) == 2)
    ready(served, 2)
    ask_all(served)
    assert not lives(mold)


MEMORY = """
import gc
from hornpipe import preload, worker
index = {}

@preload
def load():
    for number in range(400_000):
        index[f"word {number}"] = [number, str(number * 7)]

@worker
def handle(body):
    first = int(body)
    found = [index[f"word {number}"][0] for number in range(first, 400_000, 4_000)]
    if first % 50 == 0:
        gc.collect()
    return str(sum(found)).encode()
"""


def pss(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE).group(1))


def pss_after_work(served, count, requests):
    ready(served, count)
    errors = []

    def ask(share):
        with served.client(timeout=60) as client:
            for number in range(share):
                try:
                    client.ask(str(number % 4_000).encode())
                except Exception as error:
                    errors.append(error)

    threads = [threading.Thread(target=ask, args=(requests // count,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = ready(served, count)
    least = min(worker["requests"] for worker in found.values())
    # The mold is among the children of the parent too, and so is a worker that it has made ahead.
    command = Path(f"/proc/{next(iter(found.values()))['pid']}/cmdline").read_bytes()
    entries = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    all_of_it = [pid for pid in entries if field(pid, "PPid") == str(served.pid)]
    own = [pid for pid in all_of_it if Path(f"/proc/{pid}/cmdline").read_bytes() == command]
    return least, own


def test_eight_workers_hold_less_than_a_third_of_eight_separate_loads(broker, capfd):
    """Printed for the README: pytest -s -k separate_loads."""
    count = 8
    requests = count * 500
    served = broker(MEMORY, workers=count)
    least, own = pss_after_work(served, count, requests)
    assert len(own) == count + 2
    shared = sum(map(pss, own))
    served.stop()
    served = broker(MEMORY, "--no-mold", workers=2)
    _, apart = pss_after_work(served, 2, 2 * 20)
    # Two are measured, and eight are four times as much: what two share, eight share too.
    separate = sum(map(pss, apart)) * count // 2
    with capfd.disabled():
        print(
            f"\n{count} workers after {requests // count} requests each: "
            f"{shared // 1000} MB PSS with a mold, {separate // 1000} MB without: {shared / separate:.2f}"
        )
    assert least > 0
    assert shared <= 0.3 * separate
