"""A worker of the protocol's first form: `first_worker.py BACKEND SERVICE`. Frozen: see README.md.

Verbs: `echo TEXT`, `upper TEXT`, `fail TEXT`, `exit N`."""

import os
import sys

import zmq

from maps import pack, unpack


class Worker:
    version = 1
    more_of_itself = {}
    more_of_a_reply = {}

    def __init__(self, backend, service):
        self.socket = zmq.Context().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(backend)
        self.announcement = pack({"version": self.version, "service": service, "name": "frozen", **self.more_of_itself})

    def say(self, state):
        self.socket.send_multipart([b"", state, self.announcement])

    def greet(self):
        self.say(b"waiting")

    def serve(self):
        self.greet()
        while True:
            if not self.socket.poll(1000):
                # A broker that was restarted does not know it.
                self.say(b"waiting")
                continue
            empty, token, meta, *body = self.socket.recv_multipart()
            assert empty == b""
            if not token:
                if unpack(meta).get("control") == "stop":
                    self.say(b"exiting")
                    return
                continue
            assert unpack(meta)["attempt"] >= 1
            self.say(b"processing")
            self.reply(token, b"".join(body))
            self.say(b"waiting")

    def reply(self, token, body):
        verb, _, rest = body.partition(b" ")
        if verb == b"exit":
            os._exit(int(rest))
        if verb in (b"echo", b"upper"):
            meta = pack(self.more_of_a_reply) if self.more_of_a_reply else b""
            self.socket.send_multipart([b"", token, meta, rest.upper() if verb == b"upper" else rest])
        else:
            why = rest.decode() if verb == b"fail" else "no such verb"
            meta = pack({"status": "error", "message": why, **self.more_of_a_reply})
            self.socket.send_multipart([b"", token, meta, b""])


if __name__ == "__main__":
    Worker(*sys.argv[1:]).serve()
