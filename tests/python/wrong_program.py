"""A program of `--lines` that gets one thing wrong, which its argument names; or one of `--each`
that leaves something behind; or one of `--framing netstring`, with nothing wrong: for `hornpipe conform`."""

import subprocess
import sys
import time

wrong = sys.argv[1]
reading, writing = sys.stdin.buffer, sys.stdout.buffer

if wrong == "leaves":
    # A program of --each.
    writing.write(reading.read())
    subprocess.Popen(["sleep", "60"])
    sys.exit(0)
while wrong == "netstring":
    size = b""
    while (digit := reading.read(1)) != b":":
        if not digit:
            sys.exit(0)
        size += digit
    body = reading.read(int(size) + 1)[:-1]
    if body.startswith(b"sleep"):
        time.sleep(60)
    writing.write(b"%d:%b," % (len(body), body))
    writing.flush()
if wrong == "banner":
    print("ready", flush=True)


def message():
    if wrong != "eager":
        return reading.readline()
    # It does not wait for the end of what it reads.
    return reading.read1(65536)


while text := message():
    writing.write(text.rstrip(b"\n") + b"\n")
    if wrong == "twice":
        writing.write(b"and so on\n")
    writing.flush()
    if wrong == "once":
        sys.exit(0)
