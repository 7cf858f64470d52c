//! Connections that are no libzmq: other protocols, and ZMTP written by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::wait::DEADLINE;

const GREETING_LEN: usize = 64;

/// Says this to a port, and listens until it hangs up or is silent for a moment.
pub fn speak(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    say(&mut stream, bytes)
}

/// The same to a socket in the file system.
pub fn speak_at(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect_to(path);
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    say(&mut stream, bytes)
}

fn say(stream: &mut (impl Read + Write), bytes: &[u8]) -> Vec<u8> {
    // Who hangs up at once is as good as one that listens.
    stream.write_all(bytes).ok();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).ok();
    heard
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn connect_to(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A ZMTP 3.0 peer, written by hand: frames that no library would send.
#[derive(Debug)]
pub struct Zmtp<S = TcpStream>(S);

impl Zmtp {
    /// Shakes hands as a socket of this type.
    pub fn connect(port: u16, socket_type: &str) -> Self {
        Self::greet(port).as_socket(socket_type)
    }

    /// Exchanges greetings and goes no further.
    pub fn greet(port: u16) -> Self {
        Self::begin(connect(port))
    }

    /// Breaks the connection off, as a machine does that has lost its power: what was sent
    /// may not arrive either.
    pub fn break_off(self) {
        rustix::net::sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).unwrap();
    }
}

impl Zmtp<UnixStream> {
    /// The same at a socket in the file system.
    pub fn greet_at(path: &Path) -> Self {
        Self::begin(connect_to(path))
    }
}

impl<S: Read + Write> Zmtp<S> {
    /// Says that it is a socket of this type.
    #[must_use]
    pub fn as_socket(mut self, socket_type: &str) -> Self {
        self.write(&ready(socket_type));
        self.read_frame();
        self
    }

    fn begin(stream: S) -> Self {
        let mut peer = Self(stream);
        let mut greeting = [0; GREETING_LEN];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        peer.write(&greeting);
        // libzmq before 4.3.5 loses what comes with the first greeting: wait for its own.
        let mut answer = [0; GREETING_LEN];
        peer.0.read_exact(&mut answer).unwrap();
        peer
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        // The peer may have hung up, which is its right.
        match self.0.write_all(bytes) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("cannot write: {error}"),
        }
    }

    /// Sends a message of short frames.
    pub fn send(&mut self, frames: &[&[u8]]) {
        let (last, others) = frames.split_last().unwrap();
        let short = |flags: u8, frame: &[u8]| {
            let mut bytes = vec![flags, u8::try_from(frame.len()).unwrap()];
            bytes.extend_from_slice(frame);
            bytes
        };
        let mut bytes: Vec<u8> = others.iter().flat_map(|frame| short(1, frame)).collect();
        bytes.extend(short(0, last));
        self.write(&bytes);
    }

    /// The next short frame or command.
    pub fn read_frame(&mut self) -> Vec<u8> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut body = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    /// All that comes until the other side hangs up.
    pub fn read_rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }

    /// Whether the other side has hung up, waiting for it a while.
    pub fn is_hung_up(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", socket_type), ("Identity", "")] {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    let mut command = vec![4, u8::try_from(body.len()).unwrap()];
    command.extend(body);
    command
}
