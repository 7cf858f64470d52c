// Compresses whatever bytes it gets. It stays, and each message has its length in front:
//   hornpipe serve 6660 6661 --lines --framing length -- node worker/examples/gzip.js
//   hornpipe req --raw 6660 - < page.html > page.html.gz
'use strict';
const { gzipSync } = require('node:zlib');

let pending = Buffer.alloc(0);

process.stdin.on('data', (bytes) => {
    pending = Buffer.concat([pending, bytes]);
    while (pending.length >= 4) {
        const end = 4 + pending.readUInt32BE(0);
        if (pending.length < end) break;               // the rest is still on its way
        const reply = gzipSync(pending.subarray(4, end));
        const length = Buffer.alloc(4);
        length.writeUInt32BE(reply.length);
        process.stdout.write(Buffer.concat([length, reply]));
        pending = pending.subarray(end);
    }
});
