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
    terminal, inner = pty.openpty()
    resize(terminal, 80, 24)
    before = termios.tcgetattr(inner)
    pid = os.fork()
    if pid == 0:
        os.close(terminal)
        os.login_tty(inner)
        os.environ["TERM"] = "xterm-256color"
        os.execv(program[0], program)
    seen = b""
    end = time.monotonic() + DEADLINE

    def read(wait):
        nonlocal seen
        if terminal in select.select([terminal], [], [], wait)[0]:
            seen += os.read(terminal, 65536)

    for step in steps:
        kind, _, text = step.partition(":")
        if kind in ("WAIT", "UNTIL"):
            # What is drawn comes in pieces, with movements of the cursor between them.
            wanted = text.replace(" ", "")
            columns = 100
            while wanted not in plain(seen).replace(" ", ""):
                if time.monotonic() > end:
                    sys.exit(f"no {text!r} in {plain(seen)[-2000:]!r}")
                read(0.5)
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
    ended = 0
    while not ended and time.monotonic() < end:
        read(0.1)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        sys.exit("it does not end")
    # Its end of the terminal is still ours: what it wrote last and how it left it can be read.
    while select.select([terminal], [], [], 0)[0]:
        read(0)
    after = termios.tcgetattr(inner)
    print("code", os.waitstatus_to_exitcode(status))
    print("left the screen", b"\x1b[?1049l" in seen)
    print("shows the cursor", b"\x1b[?25h" in seen)
    print("cooked again", after[3] & (termios.ICANON | termios.ECHO) == before[3] & (termios.ICANON | termios.ECHO))


if __name__ == "__main__":
    cut = sys.argv.index("--")
    main(sys.argv[1:cut], sys.argv[cut + 1 :])
