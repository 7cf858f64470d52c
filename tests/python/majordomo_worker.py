"""A Majordomo 0.1 worker after RFC 7, with nothing of hornpipe's in it.

Arguments: an endpoint and a service; without them HORNPIPE_BACKEND and HORNPIPE_SERVICE.
Answers in capitals, `sleep MS` after a while in which it does not beat.
"""

import os
import sys
import time

import zmq

HEADER = b"MDPW01"
READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = (bytes([number]) for number in range(1, 6))
INTERVAL, LIVENESS = 2.5, 3
endpoint = sys.argv[1] if len(sys.argv) > 1 else os.environ["HORNPIPE_BACKEND"]
service = (sys.argv[2] if len(sys.argv) > 2 else os.environ["HORNPIPE_SERVICE"]).encode()
context = zmq.Context.instance()


def serve(socket):
    """Until the broker is gone, or says that it wants to hear READY again."""

    def say(command, *frames):
        socket.send_multipart([b"", HEADER, command, *frames])

    say(READY, service)
    liveness, next_beat = LIVENESS, time.monotonic() + INTERVAL
    while liveness:
        wait = max(0, next_beat - time.monotonic())
        if socket.poll(int(wait * 1000) + 1):
            empty, header, command, *rest = socket.recv_multipart()
            assert (empty, header) == (b"", HEADER)
            liveness = LIVENESS
            if command == REQUEST:
                address, delimiter, body = rest
                assert delimiter == b""
                verb, _, text = body.partition(b" ")
                if verb == b"sleep":
                    time.sleep(int(text) / 1000)
                    body = b"slept"
                say(REPLY, address, b"", body.upper())
            elif command == DISCONNECT:
                return
            else:
                assert command == HEARTBEAT and not rest, (command, rest)
        else:
            liveness -= 1
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + INTERVAL
            say(HEARTBEAT)


while True:
    socket = context.socket(zmq.DEALER)
    socket.linger = 1000
    socket.connect(endpoint)
    serve(socket)
    socket.close()
