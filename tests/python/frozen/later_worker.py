"""A worker of a time to come: keys, a version and a state that nobody knows. Frozen: see README.md."""

import sys

from first_worker import Worker


class LaterWorker(Worker):
    version = 2
    more_of_itself = {"credits": 1, "hue": {"deep": [1, 2.5, None, "x"]}, "lends": True}
    more_of_a_reply = {"status": "ok", "hue": [3], "spent": 1.5}

    def greet(self):
        self.say(b"resting")
        self.say(b"waiting")

    def reply(self, token, body):
        if body.startswith(b"fail "):
            self.more_of_a_reply = {"hue": [3]}
        super().reply(token, body)
        self.more_of_a_reply = LaterWorker.more_of_a_reply


if __name__ == "__main__":
    LaterWorker(*sys.argv[1:]).serve()
