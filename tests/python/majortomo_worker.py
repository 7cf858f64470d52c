"""A worker of `majortomo`, an implementation of Majordomo 0.2 that is not ours.

Arguments: an endpoint and a service. Answers in capitals, and `count` in four parts.
"""

import sys

from majortomo.worker import Worker

with Worker(*sys.argv[1:]) as worker:
    while True:
        address, body = worker.wait_for_request()
        if body == [b"count"]:
            parts = ([b"%d" % number] for number in (1, 2, 3))
            worker.send_reply_from_iterable(address, parts, final=[b"done"])
        else:
            worker.send_reply_final(address, [frame.upper() for frame in body])
