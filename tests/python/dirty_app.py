"""An application of gunicorn's dirty workers: `sleep` answers after a while, as
plain_worker.py does. Each worker leaves a file named after its pid in the folder
HPTEST_READY, with the address of the socket on which their arbiter is asked.
"""

import os
import pathlib
import time

from gunicorn.dirty import DirtyApp


class Sleeper(DirtyApp):
    def init(self):
        ready = pathlib.Path(os.environ["HPTEST_READY"], str(os.getpid()))
        unfinished = ready.with_suffix(".new")
        unfinished.write_text(os.environ["GUNICORN_DIRTY_SOCKET"])
        unfinished.rename(ready)

    def sleep(self, milliseconds):
        time.sleep(milliseconds / 1000)
        return f"slept {milliseconds}"


def application(environ, start_response):
    """gunicorn runs no dirty workers without an application for the web beside them."""
    start_response("200 OK", [])
    return []
