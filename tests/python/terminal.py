"""Presses keys at `hornpipe top` in a pseudo-terminal, as the words of the command line say:
WAIT:TEXT waits until the screen has had it, KEY:TEXT types, SIZE:COLUMNSxROWS resizes, UNTIL:TEXT resizes
again and again, which has everything drawn anew, until the screen has the text; KILL:PID kills
another process, and SIGNAL:NUMBER is for the program itself. Says how the program ended, and what became of the terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

DEADLINE = 60


def resize(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def plain(drawn):
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", drawn).decode(errors="replace")


def main(program, steps):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(program[0], program)
    resize(terminal, 80, 24)
    before = termios.tcgetattr(terminal)
    seen = b""
    end = time.monotonic() + DEADLINE

    def read(wait):
        nonlocal seen
        if terminal not in select.select([terminal], [], [], wait)[0]:
            return True
        try:
            seen += os.read(terminal, 65536)
        except OSError:
            return False
        return True

    for step in steps:
        kind, _, text = step.partition(":")
        if kind in ("WAIT", "UNTIL"):
            # What is drawn comes in pieces, with movements of the cursor between them.
            wanted = text.replace(" ", "")
            columns = 100
            while wanted not in plain(seen).replace(" ", ""):
                if time.monotonic() > end or not read(0.5):
                    sys.exit(f"no {text!r} in {plain(seen)[-2000:]!r}")
                if kind == "UNTIL":
                    columns = 201 - columns
                    resize(terminal, columns, 30)
            seen = b""
        elif kind == "KEY":
            os.write(terminal, text.encode())
        elif kind == "SIZE":
            resize(terminal, *map(int, text.split("x")))
        elif kind == "KILL":
            os.kill(int(text), signal.SIGKILL)
        elif kind == "SIGNAL":
            os.kill(pid, int(text))
    while time.monotonic() < end and b"\x1b[?1049l" not in seen and read(0.2):
        pass
    # The program's end of the terminal is still ours to look at.
    after = termios.tcgetattr(terminal)
    ended = 0
    while not ended and time.monotonic() < end:
        read(0.1)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        sys.exit("it does not end")
    print("code", os.waitstatus_to_exitcode(status))
    print("left the screen", b"\x1b[?1049l" in seen)
    print("shows the cursor", b"\x1b[?25h" in seen)
    print("cooked again", after[3] & (termios.ICANON | termios.ECHO) == before[3] & (termios.ICANON | termios.ECHO))


if __name__ == "__main__":
    cut = sys.argv.index("--")
    main(sys.argv[1:cut], sys.argv[cut + 1 :])
