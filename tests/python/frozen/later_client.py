"""A client of a time to come: keys that nobody knows. Frozen: see README.md."""

import sys

from first_client import Client, main


class LaterClient(Client):
    more_of_a_request = {"hue": {"deep": [1, 2.5, None, "x"]}, "version": 2, "lends": True, "more": False}


if __name__ == "__main__":
    main(LaterClient(sys.argv[1]), sys.argv[2:])
