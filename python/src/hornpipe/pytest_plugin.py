"""The fixture `hornpipe_serve`: serves a handler for a test, through a real broker.

def test_shout(hornpipe_serve):
    served = hornpipe_serve(shout)
    assert served.ask(b"hello") == b"HELLO"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Union

import pytest

from .codecs import Codec

if TYPE_CHECKING:
    from .testing import Served


@pytest.fixture
def hornpipe_serve() -> Iterator[Callable[..., Served]]:
    """Serves a handler until the test is over: `hornpipe_serve(handler, codec="bytes", credits=1)`.

    The handler runs in a thread of the test's process. The program `hornpipe` must be in PATH, or named
    in PYTEST_HORNPIPE.
    """
    # Not before it is asked for: the plugin is loaded by every pytest of whoever has this package.
    from .testing import Served

    running: list[Served] = []

    def serve(
        handler: Callable[..., Any], codec: Union[str, Codec] = "bytes", credits: int = 1, *options: str
    ) -> Served:
        served = Served(handler, codec, credits, *options)
        running.append(served)
        return served

    yield serve
    for served in running:
        served.stop()
