"""A DEALER worker with the frames of a Net::Server::ZMQ child.

Answers `pid` with its process id, `sleep MS` after a while, `die` not at all, `hangup
FILE` only if the file exists, `grow MIB` after it has taken so much memory for good,
`swell MIB` never, though it takes that too, and anything else with the same in capitals.
"""

import os
import sys
import time

import zmq

kept = []
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger = 1000
socket.identity = b"child_%d" % os.getpid()
socket.connect(os.environ["HORNPIPE_BACKEND"])
socket.send_multipart([b"", b"waiting"])
while True:
    empty, address, delimiter, body = socket.recv_multipart()
    assert empty == delimiter == b"", "a plain worker gets no details"
    socket.send_multipart([b"", b"processing"])
    verb, _, text = body.partition(b" ")
    if verb == b"die":
        os._exit(11)
    if verb == b"hangup" and not os.path.exists(text):
        open(text, "w").close()
        socket.close()
        time.sleep(60)
    if verb in (b"grow", b"swell"):
        kept.append(bytearray(int(text) << 20))
    if verb == b"swell":
        time.sleep(60)
    if verb == b"hangup":
        reply = b"SECOND"
    elif verb == b"pid":
        reply = b"%d" % os.getpid()
    elif verb == b"sleep":
        time.sleep(int(text) / 1000)
        reply = b"slept " + text
    else:
        reply = body.upper()
    socket.send_multipart([b"", address, b"", reply])
    socket.send_multipart([b"", b"waiting"])
