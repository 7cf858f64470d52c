"""How long a worker takes to start from a warm mold: not a test, but the figures of docs/PERFORMANCE.md.

    export PYTEST_HORNPIPE=target/release/hornpipe PYTHONPATH=python/src
    python3 python/tests/warm_start.py [MEGABYTES] [TIMES]

Workers are killed one after the other, each time from outside; the clock runs from the kill until the
broker's stream of events says that the next worker of that slot is ready. So it holds the
end of the old process and its reaping, Python's part after the fork, the connection, and the first word."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hornpipe.testing import Broker, find_broker

APP = """
from hornpipe import preload, worker
kept = []

@preload
def load():
    # Objects of some 100 bytes each, as dictionaries and lists of text make them.
    kept.extend([str(number), number] for number in range({count}))

@worker
def handle(body):
    return body
"""
#: What one of the objects above takes with its place in the list.
BYTES_EACH = 168


class Events:
    """The broker's stream of events."""

    def __init__(self, broker):
        port = broker.frontend.rpartition(":")[2]
        command = [find_broker(), "events", port, "--control", broker.control, "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.wait_for("hello")

    def wait_for(self, event, **what):
        for line in self.process.stdout:
            told = json.loads(line)
            if told["event"] == event and all(told.get(key) == value for key, value in what.items()):
                return told
        raise SystemExit("the broker has ended")


def main():
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "app.py"
        path.write_text(APP.format(count=megabytes * 1_000_000 // BYTES_EACH))
        environment = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        program = ["--", sys.executable, "-m", "hornpipe", str(path)]
        with Broker(*program, workers=4, environment=environment) as broker:
            measure(broker, times)


def measure(broker, times):
    while not any("memory" in line for line in broker.screen):
        time.sleep(0.05)
    print(*(line.strip() for line in broker.screen if "memory" in line))
    events = Events(broker)
    port = broker.frontend.rpartition(":")[2]
    command = [find_broker(), "status", port, "--control", broker.control, "--json"]
    status = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    pids = {worker["slot"]: worker["pid"] for worker in status["workers"]}
    # A worker that dies young is replaced after a wait, which is not what is measured.
    time.sleep(1.5)
    born = dict.fromkeys(pids, time.monotonic() - 10)
    took = []
    for number in range(times):
        slot = number % len(pids)
        time.sleep(max(0.0, born[slot] + 1.2 - time.monotonic()))
        began = time.monotonic()
        os.kill(pids[slot], signal.SIGKILL)
        pids[slot] = events.wait_for("worker_ready", slot=slot)["pid"]
        born[slot] = time.monotonic()
        took.append((born[slot] - began) * 1000)
    events.process.kill()
    took.sort()
    last = took[min(len(took) - 1, len(took) * 99 // 100)]
    middle = statistics.median(took)
    print(f"{len(took)} starts: p50 {middle:.1f} ms, p99 {last:.1f} ms, worst {took[-1]:.1f} ms")


main()
