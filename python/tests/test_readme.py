"""The programs of the README run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SOURCE

import hornpipe

README = Path(__file__).resolve().parent.parent / "README.md"
PROGRAMS = {
    text.split("\n", 1)[0].lstrip("# "): text
    for text in re.findall(r"```python\n(# .*?)```", README.read_text(), re.DOTALL)
}


def run(path, **how):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, *path],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
        **how,
    ).stdout


def test_every_program_of_the_readme_is_run_here():
    here = Path(__file__).read_text()
    assert [name for name in PROGRAMS if f'"{name}"' not in here] == []
    blocks = README.read_text().count("```python\n")
    assert blocks == len(PROGRAMS), "each begins with its name"


def test_the_search_and_its_clients(broker, tmp_path):
    served = broker(PROGRAMS["app.py"], workers=2)
    port = served.frontend.rpartition(":")[2]
    for name, expected in (("ask.py", "hornpipe\nreel 1\n"), ("ask_many.py", "[b'hornpipe', b'jig']\n")):
        path = tmp_path / name
        path.write_text(PROGRAMS[name].replace("6660", port))
        assert run([str(path)]) == expected


def test_the_async_worker(broker):
    served = broker(PROGRAMS["fetch.py"])
    with served.client(codec="json") as client:
        assert client.ask({"seconds": 0.01}) == {"slept": 0.01, "attempt": 1}
        with pytest.raises(hornpipe.HandlerError, match="how many seconds"):
            client.ask({})
    with served.client() as client:
        assert json.loads(client.ask(b'{"seconds": 0}'))["slept"] == 0


def test_the_test(tmp_path):
    path = tmp_path / "test_search.py"
    path.write_text(PROGRAMS["test_search.py"])
    plugin = ["-p", "hornpipe.pytest_plugin", "-p", "no:cacheprovider"]
    assert "1 passed" in run(["-m", "pytest", "-q", *plugin, str(path)], cwd=tmp_path)
