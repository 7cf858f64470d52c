"""A plain REQ client: sends each argument after the endpoint, prints each reply on a line."""

import sys

import zmq

socket = zmq.Context.instance().socket(zmq.REQ)
socket.linger = 0
socket.rcvtimeo = 20_000
socket.connect(sys.argv[1])
for body in sys.argv[2:]:
    socket.send_string(body)
    print(socket.recv_string(), flush=True)
