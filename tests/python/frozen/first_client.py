"""A native client of the protocol's first form. Frozen: see README.md.

`first_client.py ENDPOINT SERVICE/BODY...` asks one after the other and prints a line for each: the
status, and the body or the sentence."""

import sys

import zmq

from maps import pack, unpack

MAGIC = b"HPIPE1"


class Client:
    more_of_a_request = {}

    def __init__(self, endpoint):
        self.socket = zmq.Context().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = 15000
        self.socket.connect(endpoint)
        self.asked = 0

    def ask(self, service, body):
        self.asked += 1
        name = f"a{self.asked}"
        meta = {"id": name, "service": service, "timeout_ms": 15000, "attempts": 1, **self.more_of_a_request}
        self.socket.send_multipart([b"", MAGIC, pack(meta), body])
        while True:
            empty, magic, meta, *frames = self.socket.recv_multipart()
            assert (empty, magic) == (b"", MAGIC)
            meta = unpack(meta)
            if meta["id"] != name:
                continue
            assert isinstance(meta["attempt"], int)
            if meta["status"] == "ok":
                return "ok", b"".join(frames).decode()
            assert not frames
            return meta["status"], meta["message"]


def main(client, words):
    for word in words:
        service, _, body = word.partition("/")
        print(*client.ask(service, body.encode()), flush=True)


if __name__ == "__main__":
    main(Client(sys.argv[1]), sys.argv[2:])
