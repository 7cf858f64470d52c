"""odd_mold.py MODE FOLDER: a mold written after docs/PROTOCOL.md alone, with plain workers.

The first one does what MODE says; those that follow are good. Workers are made by clone(2) with CLONE_PARENT."""

import array
import ctypes
import os
import socket
import sys
import time

import msgpack
import zmq

SYS_CLONE = 56
CLONE_PARENT_AND_SIGCHLD = 0x8000 | 17
PR_SET_PDEATHSIG, SIGKILL = 1, 9

mode, folder = sys.argv[1:]
mark = os.path.join(folder, "first-mold")
try:
    os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
except FileExistsError:
    mode = "good"

if mode == "none":
    sys.exit("this is no mold")

libc = ctypes.CDLL(None)
parent = os.getppid()
line = socket.socket(fileno=int(os.environ.pop("HORNPIPE_MOLD_FD")))


def say(**word):
    line.send(msgpack.packb(word))


def work(order):
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.connect(order["backend"])
    dealer.send_multipart([b"", b"waiting"])
    while True:
        if not dealer.poll(1000):
            dealer.send_multipart([b"", b"waiting"])
            continue
        _, token, _, *body = dealer.recv_multipart()
        dealer.send_multipart([b"", b"processing"])
        reply = b"slot %d: %s" % (order["slot"], b"".join(body))
        dealer.send_multipart([b"", token, b"", reply])
        dealer.send_multipart([b"", b"waiting"])


def become_worker(order, output, gate):
    os.setpgid(0, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    line.close()
    if mode == "dies":
        os._exit(7)
    if os.read(gate, 1) == b"":
        os._exit(127)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)
    work(order)


def fork(order, output, gate):
    pid = libc.syscall(SYS_CLONE, CLONE_PARENT_AND_SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        become_worker(order, output, gate)
    return pid


def sibling():
    """Somebody else's child of the same parent: the router."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as title, open(f"/proc/{entry}/stat") as stat:
                    found = b": router" in title.read() and int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if found == parent:
                return int(entry)
    sys.exit("there is no router")


refused = 0
say(say="ready", version=9 if mode == "version" else 1)
while True:
    packet, ancillary, _, _ = line.recvmsg(4096, socket.CMSG_SPACE(8))
    if not packet:
        sys.exit(0)
    order = msgpack.unpackb(packet)
    descriptors = array.array("i")
    for _level, _kind, data in ancillary:
        descriptors.frombytes(data)
    if order["order"] == "measure":
        say(say="measured", number=order["number"], shared_kib=300, private_kib=20, alone_kib=200)
        continue
    number = order["number"]
    output, gate = descriptors
    if mode == "rubbish":
        line.send(b"\xc1 rubbish")
    elif mode == "long":
        line.send(b"x" * 100_000)
    elif mode == "stranger":
        # A child of this one, so that nobody else is hurt by a broker that believes it.
        own = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "3600")
        say(say="forked", number=number, pid=own)
    elif mode == "router":
        say(say="forked", number=number, pid=sibling())
    elif mode == "nobody":
        say(say="forked", number=number, pid=2**31 - 1)
    elif mode == "failed":
        say(say="failed", number=number, why="no room in the harbour")
        refused += 1
        mode = "good" if refused == 3 else mode
    elif mode == "leaves":
        fork(order, output, gate)
        os._exit(9)
    elif mode == "closes":
        line.close()
        time.sleep(3600)
    elif mode != "silent":
        pid = fork(order, output, gate)
        if mode == "dies":
            # Reaped by the parent before it can know whose that was.
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(0.005)
            mode = "good"
        say(say="forked", number=number, pid=pid)
        if mode == "doubled":
            say(say="forked", number=number, pid=pid)
            say(say="forked", number=number + 1000, pid=pid)
            say(say="failed", number=number, why="never mind")
    os.close(output)
    os.close(gate)
