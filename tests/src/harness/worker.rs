//! Workers of other people's making, driven by a test frame by frame.

use std::time::Duration;

use hornpipe_proto::worker::{Announcement, BrokerMessage, ReplyMeta};

use super::client::Client;

/// A DEALER that speaks as a child of Net::Server::ZMQ does.
#[derive(Debug)]
pub struct PlainWorker(Client);

impl PlainWorker {
    /// Connects under the name that Net::Server::ZMQ gives its children.
    pub fn connect(backend: &str, identity: &str) -> Self {
        Self(Client::connect(zmq::DEALER, backend, |socket| {
            socket.set_identity(identity.as_bytes()).unwrap();
        }))
    }

    /// Connects without a name.
    pub fn connect_anonymous(backend: &str) -> Self {
        Self(Client::dealer(backend))
    }

    /// Says its state.
    pub fn say(&self, state: &str) {
        self.0.send(&[b"", state.as_bytes()]);
    }

    /// Sends anything.
    pub fn send(&self, frames: &[&[u8]]) {
        self.0.send(frames);
    }

    /// The next job: the address to be echoed, and the body's first frame.
    pub fn receive(&self) -> (Vec<u8>, Vec<u8>) {
        Self::read(self.0.receive())
    }

    /// The next job, if one comes within this time.
    pub fn receive_within(&self, time: Duration) -> Option<(Vec<u8>, Vec<u8>)> {
        self.0.receive_within(time).map(Self::read)
    }

    fn read(frames: Vec<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
        let [empty, address, delimiter, body] = frames.try_into().expect("a job of four frames");
        assert!(empty.is_empty() && delimiter.is_empty(), "a plain worker gets no details");
        (address, body)
    }

    /// Sends a reply, and says that it waits for the next job.
    pub fn reply(&self, address: &[u8], body: &[u8]) {
        self.0.send(&[b"", address, b"", body]);
        self.say("waiting");
    }
}

/// A REQ socket that speaks as the Guide's Simple Pirate workers do.
#[derive(Debug)]
pub struct ReqWorker(Client);

impl ReqWorker {
    /// Connects, and says that it is ready.
    pub fn connect(backend: &str) -> Self {
        let worker = Self(Client::req(backend));
        worker.0.send(&[&[1]]);
        worker
    }

    /// The next job: the address to be echoed, and the body's first frame.
    pub fn receive(&self) -> (Vec<u8>, Vec<u8>) {
        let [address, delimiter, body] = self.0.receive().try_into().expect("a job of three frames");
        assert!(delimiter.is_empty());
        (address, body)
    }

    /// Sends a reply, which also means that it is ready again.
    pub fn reply(&self, address: &[u8], body: &[u8]) {
        self.0.send(&[address, b"", body]);
    }
}

/// A DEALER that speaks our own protocol in full, and does what the test says.
#[derive(Debug)]
pub struct NativeWorker(Client);

impl NativeWorker {
    /// Connects, and says that it waits.
    pub fn connect(backend: &str, announcement: &Announcement) -> Self {
        let worker = Self(Client::dealer(backend));
        worker.announce("waiting", announcement);
        worker
    }

    /// Says its state with details.
    pub fn announce(&self, state: &str, announcement: &Announcement) {
        self.0.send(&[b"", state.as_bytes(), &announcement.encode()]);
    }

    /// What the broker says next, and the body that came with it.
    pub fn receive(&self) -> (BrokerMessage, Vec<Vec<u8>>) {
        Self::read(self.0.receive())
    }

    /// The same, if something comes within this time.
    pub fn receive_within(&self, time: Duration) -> Option<(BrokerMessage, Vec<Vec<u8>>)> {
        self.0.receive_within(time).map(Self::read)
    }

    fn read(mut frames: Vec<Vec<u8>>) -> (BrokerMessage, Vec<Vec<u8>>) {
        let message = BrokerMessage::decode(&frames).unwrap();
        (message, frames.split_off(3))
    }

    /// Sends a reply.
    pub fn reply(&self, token: &[u8], meta: &ReplyMeta, body: &[u8]) {
        self.0.send(&[b"", token, &meta.encode(), body]);
    }
}
