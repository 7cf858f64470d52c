"""A Paranoid Pirate worker after RFC 6, with nothing of hornpipe's in it.

Connects to its argument, or to HORNPIPE_BACKEND. Answers in capitals; `sleep MS` after a
while, in which it does not beat; `hang` at once, and then says nothing more for ever.
"""

import os
import sys
import time

import zmq

READY, HEARTBEAT = b"\x01", b"\x02"
INTERVAL, LIVENESS = 1.0, 3
endpoint = sys.argv[1] if len(sys.argv) > 1 else os.environ["HORNPIPE_BACKEND"]
context = zmq.Context.instance()


def connect():
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    socket.send(READY)
    return socket


def work(socket):
    liveness, next_beat = LIVENESS, time.monotonic() + INTERVAL
    while liveness:
        if socket.poll(int(INTERVAL * 1000)):
            frames = socket.recv_multipart()
            liveness = LIVENESS
            if len(frames) == 3 and frames[1] == b"":
                address, empty, body = frames
                verb, _, text = body.partition(b" ")
                if verb == b"sleep":
                    time.sleep(int(text) / 1000)
                    body = b"slept"
                socket.send_multipart([address, empty, b"hung".upper() if verb == b"hang" else body.upper()])
                if verb == b"hang":
                    time.sleep(3600)
            else:
                assert frames == [HEARTBEAT], frames
        else:
            liveness -= 1
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + INTERVAL
            socket.send(HEARTBEAT)


while True:
    socket = connect()
    work(socket)
    socket.close()
