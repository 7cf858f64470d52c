"""A broker of a time to come: keys, orders and a status that nobody knows. Frozen: see README.md.

A request `shelve` is answered `shelved`. Parts of a reply go to who asks for them; for others they are joined."""

from first_broker import Broker
from maps import pack, unpack


class LaterBroker(Broker):
    more_of_a_job = {"window": 8, "hue": {"deep": [1, 2.5, None, "x"]}, "tier": -3}
    more_of_a_reply = {"hue": [3], "wait_us": 7, "run_us": 9, "cost": 1.5}

    def __init__(self):
        super().__init__()
        self.kept = {}

    def take(self, client, frames):
        if frames[-1] == b"shelve":
            reply = {"status": "shelved", "message": "come back on Monday", "attempt": 0}
            self.answer([client, b""], unpack(frames[-2]), reply, [])
            return
        super().take(client, frames)

    def follow(self, worker, token):
        for order in ({"control": "glow", "level": 3}, {"control": "more", "parts": 1, "why": "because"}):
            self.backend.send_multipart([worker, b"", b"", pack({**order, "token": token.decode()})])

    def finish(self, worker, token, reply, body):
        if worker not in self.jobs or self.jobs[worker][0] != token:
            return
        _, (envelope, meta, _) = self.jobs[worker]
        if not reply.get("more"):
            super().finish(worker, token, reply, self.kept.pop(token, []) + body)
        elif meta is not None and meta.get("more"):
            self.answer(envelope, meta, {"status": "ok", "attempt": 1, "more": True}, body)
        else:
            self.kept.setdefault(token, []).extend(body)


if __name__ == "__main__":
    LaterBroker().run()
