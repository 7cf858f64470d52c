"""A worker of the Python package, from elsewhere: `echo TEXT`, `upper TEXT`, `fail TEXT`, `parts N MS`."""

from hornpipe import Failure, worker


@worker(service="python")
def serve(body, ctx):
    verb, _, rest = body.partition(b" ")
    if verb == b"parts":
        count = int(rest.split()[0])
        for number in range(1, count + 1):
            ctx.send_part(f"part {number}".encode())
        return f"{count} parts".encode()
    if verb == b"fail":
        raise Failure(rest.decode())
    return rest.upper() if verb == b"upper" else rest
