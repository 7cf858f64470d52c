"""A plain worker that ignores TERM and never answers `hang`."""

import os
import signal
import time

import zmq

signal.signal(signal.SIGTERM, signal.SIG_IGN)
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 0
socket.connect(os.environ["HORNPIPE_BACKEND"])
socket.send_multipart([b"", b"waiting"])
while True:
    _, address, _, body = socket.recv_multipart()
    socket.send_multipart([b"", b"processing"])
    while body == b"hang":
        time.sleep(60)
    socket.send_multipart([b"", address, b"", body])
    socket.send_multipart([b"", b"waiting"])
