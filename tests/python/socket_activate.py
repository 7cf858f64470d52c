"""Becomes a program with sockets from descriptor 3 up, as a service manager starts one.

    socket_activate.py [NAME=VALUE]... KIND=PLACE... -- PROGRAM [ARGUMENT]...

KIND is tcp (listening), bound (bound only), udp, unix, file, closed, or fd (a number that is
inherited). A NAME in capitals is a variable, set at the end; LISTEN_PID is this process,
whatever is said before that.
"""
import os
import socket
import sys

words = sys.argv[1:]
end = words.index("--")
variables, places = {}, []
for word in words[:end]:
    name, value = word.split("=", 1)
    if name.isupper():
        variables[name] = value
    else:
        places.append((name, value))


def address(place):
    host, port = place.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, (host.strip("[]"), int(port))


def make(kind, place):
    if kind == "fd":
        return int(place)
    if kind == "file":
        return os.open(place, os.O_RDWR | os.O_CREAT)
    if kind == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(place)
        made.listen()
        return made.detach()
    family, where = address(place)
    made = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(where)
    if kind == "tcp":
        made.listen(128)
    return made.detach()


made = [(number, kind, make(kind, place)) for number, (kind, place) in enumerate(places, 3) if kind != "closed"]
# Out of the way first, so that none is overwritten by another.
high = [(number, os.dup2(descriptor, 100 + number)) for number, kind, descriptor in made]
os.closerange(3, 100)
for number, descriptor in high:
    os.dup2(descriptor, number)
os.closerange(100, 200)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(places))
os.environ.update(variables)
os.execvp(words[end + 1], words[end + 1:])
