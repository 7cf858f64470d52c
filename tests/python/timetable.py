"""Asks a broker to `sleep` by a timetable, each request from a client of its own.

    timetable.py hornpipe|gunicorn ADDRESS AT:SLEEP...

AT is when a request is sent and SLEEP how long it takes, in milliseconds. Prints `begin`
when the clock starts, and then for each request, in the order of the timetable: how many
milliseconds its client waited, and `right` or what went wrong.
"""

import sys
import threading
import time

# Longer than any timetable takes.
PATIENCE = 60


class Hornpipe:
    def __init__(self, address):
        import zmq

        self.socket = zmq.Context.instance().socket(zmq.REQ)
        self.socket.linger = 0
        self.socket.rcvtimeo = PATIENCE * 1000
        self.socket.connect(address)

    def sleep(self, milliseconds):
        self.socket.send(b"sleep %d" % milliseconds)
        return self.socket.recv().decode()


class Gunicorn:
    def __init__(self, address):
        from gunicorn.dirty.client import DirtyClient

        self.client = DirtyClient(address, timeout=PATIENCE)
        self.client.connect()

    def sleep(self, milliseconds):
        return self.client.execute("dirty_app:Sleeper", "sleep", milliseconds)


def run(client, at, milliseconds, began, outcomes, number):
    time.sleep(max(0.0, began + at / 1000 - time.monotonic()))
    sent = time.monotonic()
    try:
        answer = client.sleep(milliseconds)
        outcome = "right" if answer == f"slept {milliseconds}" else answer
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    waited = (time.monotonic() - sent) * 1000
    outcomes[number] = f"{waited:.0f} " + " ".join(outcome.split())


def main():
    kind = {"hornpipe": Hornpipe, "gunicorn": Gunicorn}[sys.argv[1]]
    timetable = [tuple(map(int, entry.split(":"))) for entry in sys.argv[3:]]
    # All connections stand before the first request is due.
    clients = [kind(sys.argv[2]) for _ in timetable]
    outcomes = [""] * len(timetable)
    print("begin", flush=True)
    began = time.monotonic()
    threads = [
        threading.Thread(target=run, args=(client, at, milliseconds, began, outcomes, number))
        for number, (client, (at, milliseconds)) in enumerate(zip(clients, timetable))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*outcomes, sep="\n")


main()
