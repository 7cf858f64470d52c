"""A plain worker that gets one thing wrong, which its argument names: for `hornpipe conform`."""

import os
import sys
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

wrong = sys.argv[1]
context = zmq.Context()
socket = context.socket(zmq.DEALER)
if wrong == "identity":
    socket.setsockopt(zmq.IDENTITY, b"worker-1")
monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
socket.connect(os.environ["HORNPIPE_BACKEND"])
socket.send_multipart([b"", b"waiting"])


def is_back():
    """Whether the next event of the connection is that it is there."""
    return recv_monitor_message(monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED


while True:
    if wrong == "spin" and monitor.poll(0) and not is_back():
        while not monitor.poll(0) or not is_back():
            pass
        socket.send_multipart([b"", b"waiting"])
    if not socket.poll(200 if wrong == "spin" else 1000):
        if wrong != "spin":
            socket.send_multipart([b"", b"waiting"])
        continue
    _, token, _, *body = socket.recv_multipart()
    if wrong != "silent":
        socket.send_multipart([b"", b"processing"])
    if wrong == "credits":
        socket.send_multipart([b"", b"waiting"])
    reply = [b"", b"forgotten" if wrong == "token" else token, b"", b"".join(body)]
    for _ in range(2 if wrong == "twice" else 1):
        socket.send_multipart(reply)
    if wrong == "silent":
        # A moment between the reply and `waiting` is no fault.
        time.sleep(0.02)
    if wrong == "rubbish":
        socket.send_multipart([b"", b"idle"])
    socket.send_multipart([b"", b"waiting"])
