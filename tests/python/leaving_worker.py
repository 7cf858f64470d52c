"""A worker with details that leaves when it likes.

Answers `leave FILE` with the attempt that this is, but only if the file exists; else it
makes the file and leaves without having begun the request. Anything else it sends back.
"""

import os
import sys

import zmq


def text(value):
    return bytes([0xA0 + len(value)]) + value


def announce(state, seen, reason):
    fields = {b"seen": bytes([seen]), b"reason": text(reason)}
    pairs = b"".join(text(name) + value for name, value in fields.items())
    socket.send_multipart([b"", state, bytes([0x80 + len(fields)]) + pairs])


seen = 0
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 1000
socket.connect(os.environ["HORNPIPE_BACKEND"])
announce(b"waiting", seen, b"")
while True:
    frames = socket.recv_multipart()
    if frames[1] == b"":
        announce(b"exiting", seen, b"told to")
        sys.exit(0)
    empty, token, meta, body = frames
    verb, _, file = body.partition(b" ")
    if verb == b"leave" and not os.path.exists(file):
        open(file, "w").close()
        announce(b"exiting", seen, b"out of tokens")
        socket.close()
        zmq.Context.instance().term()
        sys.exit(0)
    seen += 1
    attempt = meta[meta.index(b"attempt") + len(b"attempt")]
    reply = b"attempt %d" % attempt if verb == b"leave" else body
    socket.send_multipart([b"", token, b"", reply])
