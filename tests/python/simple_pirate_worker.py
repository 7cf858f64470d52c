"""The Guide's Simple Pirate worker: a REQ socket that says ready once; answers in capitals."""

import os

import zmq

socket = zmq.Context.instance().socket(zmq.REQ)
socket.linger = 1000
socket.connect(os.environ["HORNPIPE_BACKEND"])
socket.send(b"\x01")
while True:
    address, empty, body = socket.recv_multipart()
    assert empty == b""
    socket.send_multipart([address, b"", body.upper()])
