"""The Guide's Lazy Pirate client: waits so many milliseconds, then opens its socket again.

Usage: lazy_pirate.py ENDPOINT TIMEOUT_MS TRIES BODY
Prints the reply; exits with 1 when every try was in vain.
"""

import sys

import zmq

endpoint, timeout_ms, tries, body = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = zmq.Context.instance()
for _ in range(tries):
    socket = context.socket(zmq.REQ)
    socket.linger = 0
    socket.connect(endpoint)
    socket.send_string(body)
    if socket.poll(timeout_ms, zmq.POLLIN):
        print(socket.recv_string())
        sys.exit(0)
    print("no reply, again", file=sys.stderr, flush=True)
    socket.close()
sys.exit(1)
