//! Whatever a peer sends is counted, told in a bounded way, and harms nobody else.

use std::net::TcpStream;
use std::time::Duration;

use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::worker::Announcement;
use hornpipe_proto::{MAGIC, Status};
use hornpipe_tests::harness::{
    Broker, Client, PlainWorker, Serve, Zmtp, eventually, hornpipe, refused, speak,
};

/// What other protocols say first, and what none does.
fn foreign_bytes() -> Vec<Vec<u8>> {
    let tls_hello = [&b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"[..], &[7; 189]].concat();
    let mut greeting = vec![0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    let unknown_mechanism = {
        let mut greeting = greeting.clone();
        greeting[12..17].copy_from_slice(b"MAGIC");
        greeting
    };
    vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nxxxx".to_vec(),
        tls_hello,
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        (0..=255).cycle().take(100_000).collect(),
        b"\n".to_vec(),
        vec![],
        greeting[..10].to_vec(),
        greeting[..11].to_vec(),
        greeting.clone(),
        unknown_mechanism,
        // A frame of 2^63 bytes before any handshake, and a READY that ends in its middle.
        [&greeting[..], b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff"].concat(),
        [&greeting[..], b"\x04\xff\x05READY\x0bSocket-Type\xff\xff\xff\xff"].concat(),
    ]
}

fn expect_unharmed(broker: &Broker, workers: &std::collections::BTreeMap<u32, i32>) {
    for _ in workers {
        assert_eq!(broker.ask("echo fine"), "fine");
    }
    assert_eq!(broker.workers(), *workers);
    assert_eq!(broker.status().router_life, 1);
}

#[test]
fn other_protocols_on_either_port_harm_nobody() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    for port in [broker.frontend_port(), broker.backend_port()] {
        for bytes in foreign_bytes() {
            speak(port, &bytes);
        }
        expect_unharmed(&broker, &workers);
    }
    assert!(broker.log().len() < 64 * 1024, "the log has {} bytes", broker.log().len());
}

#[test]
fn peers_that_stop_in_the_middle_of_everything_harm_nobody() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    let mut open = Vec::new();
    for port in [broker.frontend_port(), broker.backend_port()] {
        for _ in 0..20 {
            open.push(Zmtp::greet(port));
            let mut peer = Zmtp::connect(port, "DEALER");
            // A message whose other frames never come, and a frame that never ends.
            peer.write(b"\x01\x00\x01\x03abc");
            open.push(peer);
            let mut peer = Zmtp::connect(port, "DEALER");
            peer.write(b"\x02\x00\x00\x00\x00\x00\x10\x00\x00xxxx");
            open.push(peer);
        }
    }
    expect_unharmed(&broker, &workers);
    drop(open);
    expect_unharmed(&broker, &workers);
}

#[test]
fn a_frame_that_claims_to_be_endless_ends_its_connection() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    for port in [broker.frontend_port(), broker.backend_port()] {
        let mut peer = Zmtp::connect(port, "DEALER");
        peer.write(b"\x02\x7f\xff\xff\xff\xff\xff\xff\xff");
        peer.write(&[0; 1000]);
        assert!(peer.is_hung_up());
    }
    expect_unharmed(&broker, &workers);
}

#[test]
fn a_message_of_too_many_frames_is_answered_and_one_without_end_ends_its_connection() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    let frames = |count| b"\x01\0".repeat(count);
    let mut client = Zmtp::connect(broker.frontend_port(), "DEALER");
    client.write(&frames(5000));
    client.write(b"\0\x05hello");
    assert!(client.read_frame().is_empty());
    let answer = String::from_utf8(client.read_frame()).unwrap();
    assert_eq!(answer, "ERR malformed too many frames");
    client.send(&[b"", b"echo still here"]);
    assert!(client.read_frame().is_empty());
    assert_eq!(client.read_frame(), b"still here");
    for port in [broker.frontend_port(), broker.backend_port()] {
        let mut endless = Zmtp::connect(port, "DEALER");
        endless.write(&frames(16 * 4096));
        assert!(endless.is_hung_up());
    }
    expect_unharmed(&broker, &workers);
}

#[test]
fn a_name_that_begins_like_the_brokers_own_is_refused() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    for port in [broker.frontend_port(), broker.backend_port()] {
        for identity in [&b"\0\0\0\0\0\0\0\x01"[..], &[b'x'; 256]] {
            let mut peer = Zmtp::greet(port);
            let size = u32::try_from(identity.len()).unwrap().to_be_bytes();
            let socket = &b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity"[..];
            let body = [socket, &size, identity].concat();
            let size = u64::try_from(body.len()).unwrap().to_be_bytes();
            peer.write(&[&b"\x06"[..], &size, &body].concat());
            assert!(peer.is_hung_up());
        }
    }
    expect_unharmed(&broker, &workers);
}

#[test]
fn who_is_silent_for_longer_than_he_said_is_hung_up_on() {
    let broker = Broker::demo(1);
    // For a second, with a context of one byte; and without a limit.
    let (limited, unlimited) = (b"\x04\x08\x04PING\0\x0ax", b"\x04\x08\x04PING\0\0y");
    let mut patient = Zmtp::connect(broker.frontend_port(), "DEALER");
    patient.write(limited);
    patient.write(unlimited);
    let mut silent = Zmtp::connect(broker.frontend_port(), "DEALER");
    silent.write(limited);
    assert_eq!(silent.read_frame(), b"\x04PONGx");
    assert!(silent.is_hung_up());
    assert_eq!(patient.read_frame(), b"\x04PONGx");
    assert_eq!(patient.read_frame(), b"\x04PONGy");
    patient.send(&[b"", b"echo still here"]);
    assert!(patient.read_frame().is_empty());
    assert_eq!(patient.read_frame(), b"still here");
}

#[test]
fn sockets_of_the_wrong_kind_harm_nobody() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    for port in [broker.frontend_port(), broker.backend_port()] {
        for kind in ["SUB", "PUB", "PUSH", "PULL", "REP", "PAIR", "XPUB", "NONSENSE", ""] {
            let mut peer = Zmtp::greet(port);
            let value = u8::try_from(kind.len()).unwrap();
            let body = [&b"\x05READY\x0bSocket-Type\0\0\0"[..], &[value], kind.as_bytes()].concat();
            peer.write(&[&[4, u8::try_from(body.len()).unwrap()], &body[..]].concat());
            peer.write(b"\x00\x05hello");
        }
    }
    expect_unharmed(&broker, &workers);
}

#[test]
fn unreadable_requests_are_answered_malformed_or_ignored_and_counted() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    let long_id = RequestMeta { id: "x".repeat(65), ..RequestMeta::default() }.encode();
    let huge_map = vec![0xc1; 5000];
    let answered: [&[&[u8]]; 7] = [
        &[b"no delimiter"],
        &[b"no", b"delimiter", b"at all"],
        &[b"", MAGIC],
        &[b"", MAGIC, b""],
        &[b"", MAGIC, b"\xc1 is no MessagePack", b"body"],
        &[b"", MAGIC, &long_id, b"body"],
        &[b"", MAGIC, &huge_map, b"body"],
    ];
    let client = Client::dealer(broker.frontend());
    for message in answered {
        client.send(message);
        let answer = client.receive();
        let text = String::from_utf8_lossy(&answer.concat()).into_owned();
        assert!(text.contains("malformed"), "{message:?} got {text}");
    }
    let hops = [&b"hop"[..]; 40];
    let deep: Vec<&[u8]> = hops.into_iter().chain([&b""[..], b"body"]).collect();
    let ignored: [&[&[u8]]; 4] = [&[b""], &[b"x", b""], &[b"x", b"y", b""], &deep];
    for message in ignored {
        client.send(message);
    }
    client.send(&[b"", b"echo still there"]);
    assert_eq!(client.receive(), [&b""[..], b"still there"]);
    let report = broker.status();
    assert_eq!(refused(&report, Status::Malformed), 7);
    assert_eq!(report.noise.ignored_clients, 4);
    expect_unharmed(&broker, &workers);
    broker.check_counters();
}

#[test]
fn unreadable_words_on_the_backend_are_counted_and_make_nobody_a_worker() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    let announcement = Announcement::default().encode();
    let huge = vec![0; 5000];
    let trailing = [&announcement[..], b"!"].concat();
    let bad_hello = [MAGIC, b"\xc1"].concat();
    let rubbish: [&[&[u8]]; 13] = [
        &[b"rubbish"],
        &[b"rubbish", b"waiting"],
        &[b"", b"idle"],
        &[b"", b""],
        &[b"", b"waiting\n"],
        &[b"", b"WAITING"],
        &[b"", b"waiting", b"\xc1"],
        &[b"", b"waiting", b""],
        &[b"", b"waiting", &huge],
        &[b"", b"waiting", &trailing],
        &[b"", b"idle", &announcement],
        &[&bad_hello],
        &[MAGIC],
    ];
    for message in rubbish {
        PlainWorker::connect_anonymous(broker.backend()).send(message);
        let worker = PlainWorker::connect_anonymous(broker.backend());
        worker.send(message);
        let so_far = broker.status().noise.malformed_workers;
        worker.send(message);
        broker
            .wait_until(&format!("{message:?} is counted"), |report| report.noise.malformed_workers > so_far);
    }
    expect_unharmed(&broker, &workers);
    assert!(broker.log().len() < 64 * 1024, "the log has {} bytes", broker.log().len());
}

#[test]
fn peers_that_probe_are_neither_requests_nor_workers() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    for endpoint in [broker.frontend(), broker.backend()] {
        let peer = Client::connect(zmq::DEALER, endpoint, |socket| socket.set_probe_router(true).unwrap());
        peer.send(&[b""]);
        assert!(peer.receive_within(Duration::from_millis(100)).is_none());
    }
    let report = broker.status();
    assert_eq!((report.requests.received, report.noise.malformed_workers, report.pool.ready), (0, 0, 1));
    expect_unharmed(&broker, &workers);
}

#[test]
fn thousands_of_unreadable_messages_leave_a_log_of_bounded_size() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    let client = Client::dealer(broker.frontend());
    for _ in 0..3000 {
        worker.send(&[b"rubbish"]);
        client.send(&[b"x", b""]);
    }
    broker.wait_until("all are counted", |report| {
        report.noise.malformed_workers >= 3000 && report.noise.ignored_clients == 3000
    });
    expect_unharmed(&broker, &workers);
    assert!(broker.log().len() < 256 * 1024, "the log has {} bytes", broker.log().len());
}

#[test]
fn replies_that_nobody_asked_for_are_counted_and_reach_nobody() {
    let broker = Broker::demo(1);
    let client =
        Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_identity(b"victim").unwrap());
    client.send(&[b"sleep 600"]);
    broker.wait_for_in_flight(1);
    let forger = PlainWorker::connect_anonymous(broker.backend());
    let token = hornpipe_proto::Token::new(1, 1);
    let addresses: [&[u8]; 5] = [b"victim", token.as_bytes(), b"", b"x", &[0; 300]];
    for address in addresses {
        forger.send(&[b"", address, b"", b"forged"]);
    }
    broker.wait_until("they are counted", |report| report.noise.stale_replies == 5);
    assert_eq!(client.receive(), [b"slept 600"]);
    broker.check_counters();
}

#[test]
fn a_worker_cannot_answer_for_another() {
    let broker = Serve::bare(0).start();
    let honest = PlainWorker::connect_anonymous(broker.backend());
    honest.say("waiting");
    broker.wait_until("it is known", |report| report.pool.ready == 1);
    let client = broker.client();
    client.send(&[b"x"]);
    let (token, _body) = honest.receive();
    let forger = PlainWorker::connect_anonymous(broker.backend());
    forger.reply(&token, b"forged");
    broker.wait_until("it is counted", |report| report.noise.stale_replies == 1);
    honest.reply(&token, b"true");
    assert_eq!(client.receive(), [b"true"]);
}

#[test]
fn clients_named_like_states_are_clients_like_others() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    for name in ["waiting", "processing", "exiting", "dequeue", "READY", "HPIPE1", "\u{1}"] {
        let client = Client::connect(zmq::REQ, broker.frontend(), |socket| {
            socket.set_identity(name.as_bytes()).unwrap();
        });
        assert_eq!(client.ask_text(&format!("echo {name}")), name);
        assert_eq!(client.ask_text("echo again"), "again");
    }
    let plain = Serve::bare(0).start();
    let worker = PlainWorker::connect_anonymous(plain.backend());
    worker.say("waiting");
    let client = Client::connect(zmq::REQ, plain.frontend(), |socket| {
        socket.set_identity(b"exiting").unwrap();
    });
    for _ in 0..3 {
        client.send(&[b"x"]);
        let (address, body) = worker.receive();
        worker.reply(&address, &body);
        assert_eq!(client.receive(), [b"x"]);
    }
    expect_unharmed(&broker, &workers);
}

#[test]
fn clients_on_the_backend_and_workers_on_the_frontend_harm_nobody() {
    let broker = Broker::demo(1);
    let workers = broker.workers();
    let lost_client = Client::req(broker.backend());
    lost_client.send(&[b"echo hello"]);
    let lost_worker = PlainWorker::connect_anonymous(broker.frontend());
    lost_worker.say("waiting");
    broker.wait_until("both are noticed", |report| {
        report.noise.malformed_workers == 1 && report.requests.received == 1
    });
    expect_unharmed(&broker, &workers);
}

#[test]
fn rubbish_on_the_control_socket_harms_nobody() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let broker = Broker::demo(1);
    let workers = broker.workers();
    for bytes in
        [&b"GET /status HTTP/1.1\r\n\r\n"[..], &[0xff; 10_000], b"\0\0\0\x05\xc1\xc1\xc1\xc1\xc1", b"\0\0"]
    {
        let mut stream = UnixStream::connect(broker.control()).unwrap();
        // It may hang up in the middle.
        stream.write_all(bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.read_to_end(&mut Vec::new()).ok();
    }
    let idle: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(broker.control()).ok()).collect();
    expect_unharmed(&broker, &workers);
    drop(idle);
}

#[test]
fn who_is_connected_is_served_while_a_crowd_takes_every_descriptor() {
    let (program, limit) = (hornpipe(), "ulimit -n 256");
    let worker = format!("{} worker demo", program.display());
    let command = format!("{limit}; exec {} serve 0 0 -n 1 -- {worker}", program.display());
    let broker = Serve::own("sh", &["-c", &command], 1).start();
    let client = broker.client();
    client.send(&[b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    let address = broker.frontend().trim_start_matches("tcp://").to_owned();
    let crowd: Vec<TcpStream> = (0..400).filter_map(|_| knock(&address)).collect();
    eventually("newcomers are stopped", || broker.log().contains("no room for new connections"));
    assert_eq!(client.receive(), [b"slept 1500"]);
    drop(crowd);
    assert_eq!(broker.ask("echo again"), "again");
}

/// One that connects and says nothing.
fn knock(address: &str) -> Option<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_millis(20)).ok()
}

#[test]
fn a_broker_out_of_descriptors_accepts_again_when_clients_leave() {
    let command = format!("ulimit -n 256; exec {} serve 0 0", hornpipe().display());
    let broker = Serve::own("sh", &["-c", &command], 1).start();
    let context = zmq::Context::new();
    let connect = |_number| {
        let socket = context.socket(zmq::REQ).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_reconnect_ivl(10).unwrap();
        socket.connect(broker.frontend()).unwrap();
        socket.send("x", 0).unwrap();
        socket
    };
    let crowd: Vec<zmq::Socket> = (0..400).map(connect).collect();
    broker.wait_until("some are served", |report| report.requests.answered > 50);
    drop(crowd);
    let late = connect(0);
    eventually("another one is served", || late.recv_bytes(zmq::DONTWAIT).is_ok());
}
