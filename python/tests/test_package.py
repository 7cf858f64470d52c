"""The package as users get it: built, installed, and used from where it was installed."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **how):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
        **how,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    place = tmp_path_factory.mktemp("dist")
    # The wheel is built from the sdist, so what the sdist lacks the wheel lacks.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place, ROOT)
    (sdist,) = place.glob("*.tar.gz")
    (wheel,) = place.glob("*.whl")
    return sdist, wheel


def test_sdist_and_wheel_have_what_they_should(built):
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        inside = archive.getnames()
    for name in ("README.md", "LICENSE", "src/hornpipe/py.typed", "tests/test_worker.py"):
        assert any(member.endswith("/" + name) for member in inside), name
    names = zipfile.ZipFile(wheel).namelist()
    assert "hornpipe/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith("tests/") for name in names)
    assert wheel.name.endswith("-py3-none-any.whl"), "pure Python"


@pytest.mark.parametrize("which", ["sdist", "wheel"])
def test_each_can_be_installed_and_used(built, which, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    package = built[1] if which == "wheel" else wheel_of(built[0], tmp_path / "wheels")
    run(
        *(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ),
        *("--no-deps", "--no-index", package),
    )
    # What it depends on is what these tests run with.
    (found,) = home.glob("lib/python*/site-packages")
    (found / "tests.pth").write_text("\n".join(site.getsitepackages()))
    where = run(python, "-c", "import hornpipe; print(hornpipe.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(home)
    assert "usage: python3 -m hornpipe" in run(python, "-m", "hornpipe", "--help", cwd=tmp_path)
    (tmp_path / "test_user.py").write_text(
        "def test_shout(hornpipe_serve):\n"
        "    assert hornpipe_serve(lambda body: body.upper()).ask(b'hello') == b'HELLO'\n"
    )
    assert "1 passed" in run(
        python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_user.py", cwd=tmp_path
    )


def wheel_of(sdist, place):
    # What pip does with an sdist, but with the backend that is here.
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--no-build-isolation", "--no-index", "--wheel-dir", place, sdist),
    )
    (wheel,) = place.glob("*.whl")
    return wheel


def test_a_user_s_program_type_checks(built, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    (found,) = home.glob("lib/python*/site-packages")
    zipfile.ZipFile(built[1]).extractall(found)
    (tmp_path / "user.py").write_text(
        "from hornpipe import Client, Context, worker\n"
        "@worker(codec='json')\n"
        "def handle(value: dict[str, int], ctx: Context) -> int:\n"
        "    left = ctx.remaining()\n"
        "    return value['a'] + int(left or 0)\n"
        "reveal_type(handle)\n"
        "reveal_type(Client(6660).request(b'').attempt)\n"
    )
    told = run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache"),
        *("--python-executable", python, "user.py"),
        cwd=tmp_path,
    )
    assert "def (value: builtins.dict[builtins.str, builtins.int], ctx: hornpipe.context.Context)" in told
    assert '"builtins.int"' in told
