"""The clients of the Python package: `package_client.py ENDPOINT SERVICE/BODY...` asks one after the other.

Prints a line for each and each client: the status, and the body or the sentence. A reply in parts is read part by part,
with a bar between two of them."""

import asyncio
import sys

from hornpipe import AsyncClient, Client
from hornpipe.errors import StatusError


def told(parts):
    print("ok", "|".join(part.decode() for part in parts), flush=True)


def failed(error):
    print(error.status, error.message, flush=True)


def blocking(endpoint, questions):
    with Client(endpoint) as client:
        for service, body in questions:
            try:
                told(client.stream(body, service=service))
            except StatusError as error:
                failed(error)


async def waiting(endpoint, questions):
    async with AsyncClient(endpoint) as client:
        for service, body in questions:
            try:
                told([part async for part in client.stream(body, service=service)])
            except StatusError as error:
                failed(error)


def main(endpoint, *words):
    questions = [(service, body.encode()) for service, _, body in (word.partition("/") for word in words)]
    blocking(endpoint, questions)
    asyncio.run(waiting(endpoint, questions))


main(*sys.argv[1:])
