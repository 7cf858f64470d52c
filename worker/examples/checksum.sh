#!/bin/sh
# The SHA-256 of a body, or an error if there is none. It runs once for each request:
#   hornpipe serve 6660 6661 --each -- sh worker/examples/checksum.sh
#   hornpipe req 6660 hello
# What it writes to standard error is in the broker's log, and in the client's error too.
set -eu
body=$(mktemp)
trap 'rm -f "$body"' EXIT
cat > "$body"
if [ ! -s "$body" ]; then
    echo "request $HORNPIPE_REQUEST_ID has an empty body" >&2
    exit 1
fi
sha256sum < "$body" | cut -d ' ' -f 1
