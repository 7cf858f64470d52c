"""A worker that takes jobs ahead of their time and gets one thing wrong, which its argument names:
for `hornpipe conform`. Nobody else touches its word while it does, so it needs no compare-and-swap."""

import fcntl
import mmap
import os
import struct
import sys

import msgpack
import zmq

wrong = sys.argv[1]
word = os.memfd_create("hornpipe-claims", os.MFD_ALLOW_SEALING)
os.ftruncate(word, 8)
if wrong != "unsealed":
    fcntl.fcntl(word, 1033, 2)  # F_ADD_SEALS, F_SEAL_SHRINK
memory = mmap.mmap(word, 8)
seen = 0

socket = zmq.Context().socket(zmq.DEALER)
socket.connect(os.environ["HORNPIPE_BACKEND"])


def say(state):
    details = {"version": 1, "credits": 1, "claims": word, "seen": seen}
    socket.send_multipart([b"", state, msgpack.packb(details)])


def may_begin(number):
    """Claims a job, unless it was taken back."""
    begun_and_gone = struct.unpack("=Q", memory)[0]
    gone = begun_and_gone & 0xFFFFFFFF
    if number <= gone and wrong != "taken":
        return False
    if wrong != "unclaimed":
        memory[:] = struct.pack("=Q", number << 32 | gone)
    return True


say(b"waiting")
while True:
    if not socket.poll(1000):
        say(b"waiting")
        continue
    queue = [socket.recv_multipart()]
    while socket.poll(20):
        queue.append(socket.recv_multipart())
    jobs = []
    for _, token, meta, *body in queue:
        if token:
            jobs.append((token, msgpack.unpackb(meta), body))
        elif msgpack.unpackb(meta)["control"] == "stop":
            say(b"exiting")
            sys.exit(0)
    seen += len(jobs)
    for token, meta, body in reversed(jobs) if wrong == "order" else jobs:
        if "claim" not in meta:
            say(b"processing")
        elif not may_begin(meta["claim"]):
            continue
        socket.send_multipart([b"", token, b"", *body])
