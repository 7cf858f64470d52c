"""A DEALER worker whose processes leave orphans behind for each request: children of children
that have ended. Half of them end at once, half of them a little later.

Answers `sleep MS` after a while, and anything else with the same in capitals.
"""

import os
import time

import zmq


def orphan(seconds):
    if os.fork() == 0:
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", str(seconds)])
        os._exit(0)
    os.wait()


socket = zmq.Context.instance().socket(zmq.DEALER)
socket.connect(os.environ["HORNPIPE_BACKEND"])
while True:
    socket.send_multipart([b"", b"waiting"])
    empty, token, meta, body = socket.recv_multipart()
    for number in range(20):
        orphan(number % 2 * 0.3)
    verb, _, text = body.partition(b" ")
    if verb == b"sleep":
        time.sleep(int(text) / 1000)
    reply = b"slept " + text if verb == b"sleep" else body.upper()
    socket.send_multipart([b"", token, b"", reply])
