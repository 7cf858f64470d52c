//! The other end is libzmq's, on either side, over TCP and over a unix socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType};

const DEADLINE: Duration = Duration::from_secs(20);

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// A connection of ours over a blocking socket.
struct Ours {
    stream: Box<dyn Stream>,
    connection: Connection,
}

impl Ours {
    fn new(socket: SocketType, stream: Box<dyn Stream>) -> Self {
        let mut ours = Self { stream, connection: Connection::new(socket, Limits::default()) };
        ours.flush();
        ours
    }

    fn flush(&mut self) {
        while self.connection.unsent_bytes() != 0 {
            let bytes: Vec<u8> = self.connection.unsent().flatten().copied().collect();
            let count = self.stream.write(&bytes).unwrap();
            self.connection.sent(count);
        }
    }

    fn send(&mut self, frames: &[&[u8]]) {
        assert!(self.connection.send(frames.iter().copied()));
        self.flush();
    }

    fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.connection.next_event() {
                return event;
            }
            self.read();
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "libzmq has closed the connection");
        self.connection.buffer().extend(&bytes[..count]);
        self.connection.received().unwrap();
        self.flush();
    }

    fn meet(&mut self, expected: SocketType) {
        let Event::Ready(peer) = self.event() else { panic!("not ready") };
        assert_eq!(peer.socket, expected);
    }

    fn message(&mut self) -> Vec<Vec<u8>> {
        match self.event() {
            Event::Message(frames) => frames,
            other => panic!("not a message: {other:?}"),
        }
    }
}

fn tcp(stream: TcpStream) -> Box<dyn Stream> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Box::new(stream)
}

fn unix(stream: UnixStream) -> Box<dyn Stream> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Box::new(stream)
}

fn theirs(kind: zmq::SocketType) -> zmq::Socket {
    let socket = zmq::Context::new().socket(kind).unwrap();
    let deadline = i32::try_from(DEADLINE.as_millis()).unwrap();
    socket.set_rcvtimeo(deadline).unwrap();
    socket.set_sndtimeo(deadline).unwrap();
    socket.set_linger(0).unwrap();
    socket
}

fn path(name: &str) -> String {
    format!("{}/hornpipe-zmtp-{}-{name}", std::env::temp_dir().display(), std::process::id())
}

/// Bodies around every border of the framing, and larger than any buffer.
fn messages() -> Vec<Vec<Vec<u8>>> {
    let sizes = [0, 1, 255, 256, 4095, 4096, 8192, 70_000, 5_000_000];
    let mut messages: Vec<_> = sizes.iter().map(|size| vec![vec![7; *size]]).collect();
    messages.push(sizes.iter().map(|size| vec![8; *size]).collect());
    messages.push(vec![Vec::new(); 1000]);
    messages
}

/// Our DEALER and libzmq's ROUTER.
fn connecting(mut ours: Ours, router: &zmq::Socket) {
    ours.meet(SocketType::Router);
    for message in messages() {
        ours.send(&message.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let received = router.recv_multipart(0).unwrap();
        assert!(received[1..] == message);
        router.send_multipart(received, 0).unwrap();
        assert!(ours.message() == message);
    }
}

#[test]
fn our_dealer_talks_to_a_router_of_libzmq_over_tcp() {
    let router = theirs(zmq::ROUTER);
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    connecting(Ours::new(SocketType::Dealer, tcp(stream)), &router);
}

#[test]
fn our_dealer_talks_to_a_router_of_libzmq_over_a_unix_socket() {
    let router = theirs(zmq::ROUTER);
    let path = path("router");
    router.bind(&format!("ipc://{path}")).unwrap();
    connecting(Ours::new(SocketType::Dealer, unix(UnixStream::connect(path).unwrap())), &router);
}

/// Our ROUTER, without routing ids, and libzmq's DEALER and REQ.
fn accepting(ours: &mut Ours, dealer: &zmq::Socket) {
    ours.meet(SocketType::Dealer);
    for message in messages() {
        dealer.send_multipart(&message, 0).unwrap();
        let received = ours.message();
        assert!(received == message);
        ours.send(&received.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert!(dealer.recv_multipart(0).unwrap() == message);
    }
}

#[test]
fn we_accept_a_dealer_of_libzmq_over_tcp_and_answer_its_heartbeats() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dealer = theirs(zmq::DEALER);
    // It gives up who does not answer, and would connect anew.
    dealer.set_heartbeat_ivl(20).unwrap();
    dealer.set_heartbeat_timeout(2000).unwrap();
    dealer.set_heartbeat_ttl(3000).unwrap();
    dealer.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let mut ours = Ours::new(SocketType::Router, tcp(listener.accept().unwrap().0));
    accepting(&mut ours, &dealer);
    // One read is a ping, or a part of one.
    for _ in 0..20 {
        if ours.connection.silence_allowed().is_none() {
            ours.read();
        }
    }
    assert_eq!(ours.connection.silence_allowed(), Some(Duration::from_secs(3)));
}

#[test]
fn we_accept_a_dealer_of_libzmq_over_a_unix_socket() {
    let path = path("dealer");
    let listener = UnixListener::bind(&path).unwrap();
    let dealer = theirs(zmq::DEALER);
    dealer.connect(&format!("ipc://{path}")).unwrap();
    accepting(&mut Ours::new(SocketType::Router, unix(listener.accept().unwrap().0)), &dealer);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn libzmq_answers_our_ping() {
    let router = theirs(zmq::ROUTER);
    router.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = router.get_last_endpoint().unwrap().unwrap();
    let stream = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
    let mut ours = Ours::new(SocketType::Dealer, tcp(stream));
    ours.meet(SocketType::Router);
    ours.connection.ping(0, b"are you there");
    ours.flush();
    assert_eq!(ours.event(), Event::Pong { context: b"are you there".to_vec() });
}

#[test]
fn a_req_of_libzmq_is_known_as_one_with_the_name_that_it_gives_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let req = theirs(zmq::REQ);
    req.set_identity(b"its name").unwrap();
    req.connect(&endpoint).unwrap();
    let mut ours = Ours::new(SocketType::Router, tcp(listener.accept().unwrap().0));
    let Event::Ready(peer) = ours.event() else { panic!("not ready") };
    assert_eq!((peer.socket, peer.identity.as_slice()), (SocketType::Req, &b"its name"[..]));
    req.send("hello", 0).unwrap();
    assert_eq!(ours.message(), [&b""[..], b"hello"]);
    ours.send(&[b"", b"HELLO"]);
    assert_eq!(req.recv_bytes(0).unwrap(), b"HELLO");
}
