"""What the tests share. They run against the program that PYTEST_HORNPIPE names."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from hornpipe.testing import Broker

SOURCE = Path(__file__).resolve().parent.parent / "src"


@pytest.fixture
def broker(tmp_path):
    """Starts brokers: `broker(text of an app, options..., workers=2)`."""
    running = []

    def start(app, *options, workers=1, arguments=(), environment=None):
        path = tmp_path / "app.py"
        path.write_text(app)
        program = ["--", sys.executable, "-m", "hornpipe", str(path), *arguments]
        found = os.environ.get("PYTHONPATH", "")
        environment = {"PYTHONPATH": f"{SOURCE}:{found}", **(environment or {})}
        one = Broker(*options, *program, workers=workers, environment=environment)
        running.append(one)
        return one

    yield start
    for one in running:
        one.stop()


def eventually(what, seconds=20.0):
    """Waits until `what()` is true, and returns it."""
    until = time.monotonic() + seconds
    while True:
        found = what()
        if found or time.monotonic() > until:
            assert found, "it did not come to be in time"
            return found
        # Looked at again; nothing tells us of it.
        time.sleep(0.02)
