"""A broker of the protocol's first form, as small as it can be. Frozen: see README.md.

Prints `FRONTEND BACKEND`, then a line for each service whose worker is there. It knows requests, jobs,
replies and states; no parts, no cancel, no times, no `seen`, and nobody's death."""

import collections

import zmq

from maps import pack, unpack

MAGIC = b"HPIPE1"


class Broker:
    more_of_a_job = {}
    more_of_a_reply = {}

    def __init__(self):
        context = zmq.Context()
        self.frontend, self.backend = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
        endpoints = []
        for socket in (self.frontend, self.backend):
            socket.linger = 0
            socket.bind("tcp://127.0.0.1:0")
            endpoints.append(socket.last_endpoint.decode().rstrip("\0"))
        print(*endpoints, flush=True)
        # By service: idle workers, and requests that wait.
        self.idle = collections.defaultdict(collections.deque)
        self.waiting = collections.defaultdict(collections.deque)
        # By worker: its service, and what it has.
        self.services = {}
        self.jobs = {}
        self.given = 0

    def run(self):
        poller = zmq.Poller()
        poller.register(self.frontend, zmq.POLLIN)
        poller.register(self.backend, zmq.POLLIN)
        while True:
            for socket, _ in poller.poll():
                peer, *frames = socket.recv_multipart()
                if socket is self.backend:
                    self.hear(peer, frames)
                else:
                    self.take(peer, frames)

    # ---- clients

    def take(self, client, frames):
        if b"" not in frames:
            return
        place = frames.index(b"") + 1
        envelope, body = [client, *frames[:place]], frames[place:]
        if not body:
            return
        meta = None
        if body[0] == MAGIC:
            meta, body = unpack(body[1]), body[2:]
            if not body:
                self.refuse(envelope, meta, "malformed", "no body")
                return
        service = (meta or {}).get("service", "default")
        if service not in self.services.values():
            self.refuse(envelope, meta, "no_service", f"nobody serves {service}")
            return
        self.waiting[service].append((envelope, meta, body))
        self.dispatch(service)

    def refuse(self, envelope, meta, status, message):
        if meta is None:
            self.frontend.send_multipart([*envelope, f"ERR {status} {message}".encode()])
        else:
            self.answer(envelope, meta, {"status": status, "message": message, "attempt": 0}, [])

    def answer(self, envelope, meta, reply, body):
        reply = pack({"id": meta.get("id", ""), **reply, **self.more_of_a_reply})
        self.frontend.send_multipart([*envelope, MAGIC, reply, *body])

    # ---- workers

    def hear(self, worker, frames):
        if len(frames) < 2 or frames[0] != b"":
            return
        if len(frames) <= 3:
            details = unpack(frames[2]) if len(frames) == 3 else {}
            if frames[1] == b"waiting":
                self.welcome(worker, details.get("service", "default"))
            elif frames[1] == b"exiting":
                self.services.pop(worker, None)
            return
        self.finish(worker, frames[1], unpack(frames[2]) if frames[2] else {}, frames[3:])

    def welcome(self, worker, service):
        if worker not in self.services:
            print(service, flush=True)
        self.services[worker] = service
        if worker not in self.jobs and worker not in self.idle[service]:
            self.idle[service].append(worker)
            self.dispatch(service)

    def dispatch(self, service):
        while self.idle[service] and self.waiting[service]:
            worker, request = self.idle[service].popleft(), self.waiting[service].popleft()
            self.given += 1
            token = b"%024d" % self.given
            self.jobs[worker] = (token, request)
            _, meta, body = request
            job = {"id": (meta or {}).get("id", ""), "attempt": 1, **self.more_of_a_job}
            self.backend.send_multipart([worker, b"", token, pack(job), *body])
            self.follow(worker, token)

    def follow(self, worker, token):
        pass

    def finish(self, worker, token, reply, body):
        if worker not in self.jobs or self.jobs[worker][0] != token:
            return
        _, (envelope, meta, _) = self.jobs.pop(worker)
        status = reply.get("status", "ok")
        if meta is None:
            plain = body if status == "ok" else [f"ERR error {reply.get('message', '')}".encode()]
            self.frontend.send_multipart([*envelope, *plain])
        elif status == "ok":
            self.answer(envelope, meta, {"status": "ok", "attempt": 1}, body)
        else:
            message = reply.get("message", "")
            self.answer(envelope, meta, {"status": "error", "message": message, "attempt": 1}, [])
        self.welcome(worker, self.services[worker])


if __name__ == "__main__":
    Broker().run()
