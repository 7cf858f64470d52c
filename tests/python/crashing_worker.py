"""A DEALER worker that some requests end: what a crash in native code looks like.

`abort` and `exit3` end the process unless the file named by the first argument exists;
that mends the program. Anything else is answered in capitals.
"""

import os
import sys

import zmq

mended = sys.argv[1]
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 1000
socket.connect(os.environ["HORNPIPE_BACKEND"])
socket.send_multipart([b"", b"waiting"])
while True:
    empty, address, delimiter, body = socket.recv_multipart()
    socket.send_multipart([b"", b"processing"])
    if not os.path.exists(mended):
        if body.startswith(b"abort"):
            os.abort()
        if body.startswith(b"exit3"):
            os._exit(3)
    socket.send_multipart([b"", address, b"", body.upper()])
    socket.send_multipart([b"", b"waiting"])
