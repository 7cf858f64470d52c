//! Plain ZeroMQ clients: what people have, not what we give them.

use std::time::Duration;

use hornpipe_proto::client::{ReplyMeta, RequestMeta, decode_reply_meta};
use hornpipe_proto::{MAGIC, Status};

use super::wait::DEADLINE;

/// How long a client waits for how its request ends: longer than any fault takes.
pub const OUTCOME_DEADLINE: Duration = DEADLINE;

/// A socket of libzmq that is connected to a frontend or a backend.
pub struct Client {
    socket: zmq::Socket,
    _context: zmq::Context,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A REQ socket with every default.
    pub fn req(endpoint: &str) -> Self {
        Self::connect(zmq::REQ, endpoint, |_socket| {})
    }

    /// A DEALER socket: it writes its own envelope.
    pub fn dealer(endpoint: &str) -> Self {
        Self::connect(zmq::DEALER, endpoint, |_socket| {})
    }

    /// A socket that is prepared before it connects.
    pub fn connect(kind: zmq::SocketType, endpoint: &str, prepare: impl FnOnce(&zmq::Socket)) -> Self {
        let context = zmq::Context::new();
        let socket = context.socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(i32::try_from(OUTCOME_DEADLINE.as_millis()).unwrap()).unwrap();
        socket.set_sndtimeo(i32::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
        // A router that was killed is back within milliseconds.
        socket.set_reconnect_ivl(10).unwrap();
        prepare(&socket);
        socket.connect(endpoint).unwrap();
        Self { socket, _context: context }
    }

    /// The socket, for what nothing here does.
    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// Sends a message.
    pub fn send(&self, frames: &[&[u8]]) {
        self.socket.send_multipart(frames, 0).unwrap();
    }

    /// The next message; panics if none comes.
    pub fn receive(&self) -> Vec<Vec<u8>> {
        self.socket.recv_multipart(0).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Takes the next message, which must be an error with this status.
    pub fn receive_error(&self, status: Status) {
        let answer = self.receive().remove(0);
        let expected = format!("ERR {status} ");
        assert!(answer.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }

    /// The next message, if one comes within this time.
    pub fn receive_within(&self, time: Duration) -> Option<Vec<Vec<u8>>> {
        self.has_answer_within(time).then(|| self.receive())
    }

    /// Whether one is there by then; it can be received after this.
    pub fn has_answer_within(&self, time: Duration) -> bool {
        let milliseconds = i64::try_from(time.as_millis()).unwrap();
        match self.socket.poll(zmq::POLLIN, milliseconds) {
            Ok(ready) => ready > 0,
            Err(error) => panic!("cannot wait for an answer: {error}"),
        }
    }

    /// Sends a body of one frame, and waits for a reply of one frame. For REQ sockets.
    pub fn ask(&self, body: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(&[body.as_ref()]);
        let mut reply = self.receive();
        assert_eq!(reply.len(), 1, "a reply of one frame was expected: {reply:?}");
        reply.remove(0)
    }

    /// [`Client::ask`], for text.
    pub fn ask_text(&self, body: &str) -> String {
        String::from_utf8(self.ask(body)).unwrap()
    }

    /// Sends a native request. For DEALER sockets.
    pub fn send_native(&self, meta: &RequestMeta, body: &[u8]) {
        self.send(&[b"", MAGIC, &meta.encode(), body]);
    }

    /// Waits for a native reply. For DEALER sockets.
    pub fn receive_native(&self) -> (ReplyMeta, Vec<Vec<u8>>) {
        let mut frames = self.receive();
        assert!(frames.len() >= 3 && frames[0].is_empty() && frames[1] == MAGIC, "not native: {frames:?}");
        let body = frames.split_off(3);
        (decode_reply_meta(&frames[2]).unwrap(), body)
    }
}
