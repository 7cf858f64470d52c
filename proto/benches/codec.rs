//! What it costs to read and write the messages of one request, and to carry them over ZMTP.
//!
//! `cargo bench -p hornpipe-proto --bench codec`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hornpipe_proto::client::{self, ClientMessage, RequestMeta};
use hornpipe_proto::worker::{Announcement, BrokerMessage, JobMeta, ReplyMeta, WorkerMessage};
use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType};
use hornpipe_proto::{MAGIC, Status, Token};

const BODY: [u8; 16] = [b'x'; 16];

/// Messages that are on their way together.
const BATCH: usize = 64;

fn token() -> Token {
    Token::new(1, 0x0123_4567_89ab_cdef)
}

fn job() -> JobMeta {
    JobMeta {
        id: "a1".into(),
        attempt: 1,
        timeout_ms: Some(30_000),
        window: Some(8),
        claim: Some(7),
        ..JobMeta::default()
    }
}

fn clients(criterion: &mut Criterion) {
    let request =
        RequestMeta { id: "a1".into(), timeout_ms: Some(30_000), ..RequestMeta::default() }.encode();
    let plain: [&[u8]; 2] = [b"", &BODY];
    let native: [&[u8]; 4] = [b"", MAGIC, &request, &BODY];
    let reply = client::ReplyMeta {
        id: "a1".into(),
        status: Status::Ok,
        message: None,
        attempt: 1,
        more: false,
        wait_us: Some(12),
        run_us: Some(34),
        retry_after_ms: None,
    };

    let mut group = criterion.benchmark_group("client");
    for (name, frames) in [("a plain request is read", &plain[..]), ("a native request is read", &native)] {
        assert!(ClientMessage::decode(frames).is_ok(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| ClientMessage::decode(black_box(frames))));
    }
    group.bench_function("a native reply's meta is written", |bencher| {
        bencher.iter(|| black_box(&reply).encode());
    });
    group.finish();
}

fn workers(criterion: &mut Criterion) {
    let (token, job) = (token(), job());
    let encoded_job = job.encode();
    let announcement = Announcement { seen: 7, claims: Some(5), ..Announcement::default() };
    let details = announcement.encode();
    let assignment: [&[u8]; 4] = [b"", token.as_bytes(), &encoded_job, &BODY];
    let reply: [&[u8]; 4] = [b"", token.as_bytes(), b"", &BODY];
    let state: [&[u8]; 3] = [b"", b"waiting", &details];
    assert!(BrokerMessage::decode(&assignment).is_ok(), "a job is one");

    let mut group = criterion.benchmark_group("worker");
    group.bench_function("a job's meta is written", |bencher| bencher.iter(|| black_box(&job).encode()));
    group.bench_function("a job is read", |bencher| {
        bencher.iter(|| BrokerMessage::decode(black_box(&assignment)));
    });
    group.bench_function("a reply's meta is written", |bencher| {
        bencher.iter(|| black_box(&ReplyMeta::default()).encode());
    });
    group.bench_function("a state's details are written", |bencher| {
        bencher.iter(|| black_box(&announcement).encode());
    });
    for (name, frames) in [("a reply is read", &reply[..]), ("a state is read", &state)] {
        assert!(WorkerMessage::decode(frames).is_ok(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| WorkerMessage::decode(black_box(frames))));
    }
    group.finish();
}

/// All that one side has to say, read by the other as a socket would hand it over.
fn carry(from: &mut Connection, to: &mut Connection) {
    while from.unsent_bytes() > 0 {
        let mut count = 0;
        for piece in from.unsent() {
            let mut piece = piece;
            while !piece.is_empty() {
                let buffer = to.buffer();
                let size = (buffer.capacity() - buffer.len()).min(piece.len());
                let (head, rest) = piece.split_at(size);
                buffer.extend(head);
                assert!(to.received().is_ok(), "the peer speaks ZMTP");
                count += size;
                piece = rest;
            }
        }
        from.sent(count);
    }
}

/// Both ends of a connection whose handshake is over.
fn connected() -> (Connection, Connection) {
    let mut broker = Connection::new(SocketType::Router, Limits::default());
    let mut worker = Connection::new(SocketType::Dealer, Limits::default());
    while !(broker.is_open() && worker.is_open()) {
        carry(&mut broker, &mut worker);
        carry(&mut worker, &mut broker);
    }
    while broker.next_event().is_some() || worker.next_event().is_some() {}
    (broker, worker)
}

fn zmtp(criterion: &mut Criterion) {
    let (token, job) = (token(), job().encode());
    let mut group = criterion.benchmark_group("zmtp");
    for (name, messages, size) in
        [("one job, 16 B", 1, 16), ("64 jobs at once, 16 B", BATCH, 16), ("one job, 1 MiB", 1, 1 << 20)]
    {
        let body = vec![b'x'; size];
        let (mut broker, mut worker) = connected();
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..messages {
                    assert!(broker.send([&b""[..], token.as_bytes(), &job, &body]), "it is open");
                }
                carry(&mut broker, &mut worker);
                for _ in 0..messages {
                    assert!(matches!(black_box(worker.next_event()), Some(Event::Message(_))), "it is there");
                }
            });
        });
    }
    group.bench_function("greeting and handshake", |bencher| bencher.iter(connected));
    group.finish();
}

criterion_group!(benches, clients, workers, zmtp);
criterion_main!(benches);
