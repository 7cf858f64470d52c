"""A Majordomo client after RFC 7 or RFC 18, with nothing of hornpipe's in it.

Arguments: 0.1 or 0.2, an endpoint, a service, and what is to be asked. Gives up a try after
2.5 s and makes three, as the Guide's client does. Prints a line for each reply, and a bar
between the parts of one.
"""

import sys

import zmq

version, endpoint, service, *bodies = sys.argv[1:]
service = service.encode()
context = zmq.Context.instance()


def ask_1(body):
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send_multipart([b"MDPC01", service, body])
        if socket.poll(2500):
            header, replied, *reply = socket.recv_multipart()
            assert (header, replied) == (b"MDPC01", service)
            return [reply]


def ask_2(body):
    request, partial, final = b"\x01", b"\x02", b"\x03"
    parts = []
    with context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send_multipart([b"MDPC02", request, service, body])
        while socket.poll(2500):
            header, command, replied, *reply = socket.recv_multipart()
            assert (header, replied) == (b"MDPC02", service)
            assert command in (partial, final)
            parts.append(reply)
            if command == final:
                return parts


for body in bodies:
    ask = ask_1 if version == "0.1" else ask_2
    parts = next((reply for reply in (ask(body.encode()) for _try in range(3)) if reply), None)
    if parts is None:
        sys.exit("no reply")
    print("|".join(" ".join(frame.decode() for frame in part) for part in parts))
