//! The golden vectors: every message of `docs/PROTOCOL.md`, byte for byte.
//!
//! A file of `proto/vectors` holds one message: a line of hexadecimal digits for each frame,
//! `empty` for one without bytes, and comments behind `#`. To change one is to change the
//! protocol that others have written programs against.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test's helper cannot read fails the test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use hornpipe_proto::client::{self, ClientMessage, RequestMeta, Speech, plain_error};
use hornpipe_proto::control::{
    self, AttemptReport, ControlRequest, ControlResponse, EVENT_SCHEMA, EventKind, EventReport, ExitReport,
    FlightReport, LastExit, LastReload, Limits, MemorySum, MetricsReport, PoisonReport, PoisonRequest,
    PoisonResponse, QuarantineReport, RecycleOutcome, RecycleReport, ReloadCounts, ReloadOutcome,
    ReloadReport, RetryReport, Scale, ServiceMetrics, ServiceRequest, SlotReport, StateCounts, StatusReport,
    Timing,
};
use hornpipe_proto::dialect::majordomo::{ClientRequest, Command, Edition, Part};
use hornpipe_proto::dialect::{Dialect, paranoid};
use hornpipe_proto::mold::{ForkOrder, MoldOrder, MoldWord};
use hornpipe_proto::worker::{
    Announcement, BrokerMessage, Control, JobMeta, ReplyMeta, ReplyStatus, State, WorkerMessage,
};
use hornpipe_proto::zmtp::{self, Connection, Event, Peer, SocketType, ZmtpError};
use hornpipe_proto::{Ended, MAGIC, Priority, Status, Token};

type Frames = Vec<Vec<u8>>;

fn message(frames: &[&[u8]]) -> Frames {
    frames.iter().map(|frame| frame.to_vec()).collect()
}

fn token() -> Token {
    Token::new(1, 0x0123_4567_89ab_cdef_0123_4567)
}

fn announcement() -> Announcement {
    Announcement {
        name: Some("resize-7".into()),
        sdk: Some("example/1.0".into()),
        seen: 3,
        ..Announcement::default()
    }
}

/// The same of one that sends replies again.
fn named() -> Announcement {
    Announcement { instance: Some("5f0c".into()), ..announcement() }
}

fn job() -> JobMeta {
    JobMeta { id: "a1".into(), attempt: 2, timeout_ms: Some(1500), ..JobMeta::default() }
}

fn member() -> Announcement {
    Announcement { name: Some("web2:3".into()), credits: 2, member: Some(3), ..Announcement::default() }
}

fn job_claimed() -> JobMeta {
    JobMeta { claim: Some(7), ..job() }
}

fn claiming() -> Announcement {
    Announcement { claims: Some(5), ..announcement() }
}

fn ended_member() -> Announcement {
    let ended = Ended { signal: Some(11), ..Ended::default() };
    Announcement { seen: 3, ended: Some(ended), member: Some(3), ..Announcement::default() }
}

fn job_with_everything() -> JobMeta {
    JobMeta {
        service: Some("images".into()),
        key: Some("order-66".into()),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        headers: [("tenant", "acme")].into_iter().collect(),
        window: Some(8),
        ..job()
    }
}

fn failure(status: ReplyStatus) -> ReplyMeta {
    ReplyMeta { status, message: Some("no such page".into()), more: false }
}

fn part() -> ReplyMeta {
    ReplyMeta { more: true, ..ReplyMeta::default() }
}

fn request() -> RequestMeta {
    RequestMeta { id: "a1".into(), timeout_ms: Some(30_000), attempts: Some(1), ..RequestMeta::default() }
}

fn request_with_everything() -> RequestMeta {
    RequestMeta {
        service: Some("images".into()),
        key: Some("order-66".into()),
        exclusive: Some("account-7".into()),
        affinity: Some("session-3".into()),
        strict: true,
        priority: Priority::High,
        more: true,
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        headers: [("tenant", "acme")].into_iter().collect(),
        ..request()
    }
}

fn cancel_by_id() -> RequestMeta {
    RequestMeta { id: "a1".into(), cancel: true, ..RequestMeta::default() }
}

fn cancel_by_key() -> RequestMeta {
    RequestMeta { key: Some("order-66".into()), cancel: true, ..RequestMeta::default() }
}

fn reply() -> client::ReplyMeta {
    client::ReplyMeta { id: "a1".into(), attempt: 1, ..client::ReplyMeta::default() }
}

fn part_of_reply() -> client::ReplyMeta {
    client::ReplyMeta { more: true, ..reply() }
}

fn timed_reply() -> client::ReplyMeta {
    client::ReplyMeta { wait_us: Some(250), run_us: Some(120_000), ..reply() }
}

fn refusal() -> client::ReplyMeta {
    let message = Some("10000 requests are waiting".into());
    let (id, status) = ("a1".into(), Status::Busy);
    client::ReplyMeta { id, status, message, retry_after_ms: Some(250), ..client::ReplyMeta::default() }
}

fn report() -> StatusReport {
    let mut report = StatusReport {
        version: "0.1.0".into(),
        frontend: "tcp://127.0.0.1:6660".into(),
        backend: "tcp://127.0.0.1:6661".into(),
        pid: 100,
        router_pid: 101,
        router_life: 1,
        uptime_ms: 5000,
        phase: "serving".into(),
        pool: control::PoolReport {
            target: 1,
            min: 1,
            max: 1024,
            ready: 1,
            processing: 0,
            generation: 0,
            reload: None,
            probed: 0,
            spawned: 1,
            exited: 0,
            autoscale: true,
            last_change: Some(control::TargetReport {
                from: 2,
                to: 1,
                cause: "idle: 1 for 10 s".into(),
                ago_ms: 300,
            }),
            degraded: None,
            paused: None,
        },
        queue: control::QueueReport {
            backlog_len: 0,
            backlog_limit: 10_000,
            held_bytes: 0,
            held_bytes_limit: 268_435_456,
            oldest_ms: None,
        },
        requests: control::RequestReport::default(),
        noise: control::NoiseReport::default(),
        workers: vec![control::WorkerReport {
            slot: 0,
            pid: Some(102),
            incarnation: 2,
            generation: 0,
            state: "waiting".into(),
            age_ms: 4900,
            requests: 7,
            private_bytes: Some(5_242_880),
            shared_bytes: Some(1_048_576),
            processing_ms: None,
            ahead: 0,
            last_exit: Some(LastExit { reason: "killed by SIGKILL".into(), ago_ms: 4900 }),
            service: Some("default".into()),
        }],
        external: vec![],
        services: vec![],
        brokers: vec![],
    };
    report.requests.received = 8;
    report.requests.answered = 7;
    report.requests.refused = vec![(Status::Busy, 1)];
    report.services = vec![control::ServiceReport {
        name: "default".into(),
        configured: true,
        phase: report.phase.clone(),
        pool: report.pool.clone(),
        queue: report.queue.clone(),
        requests: report.requests.clone(),
    }];
    report
}

fn metrics() -> MetricsReport {
    let StatusReport { pool, queue, requests, noise, .. } = report();
    let timing = |counts: [u64; 3], sum_us| Timing { counts: counts.to_vec(), sum_us };
    MetricsReport {
        config_read: Some(LastReload { succeeded: true, at_ms: 1_795_860_005_042 }),
        version: "0.1.0".into(),
        pid: 100,
        router_pid: 101,
        router_life: 1,
        uptime_ms: 5000,
        phase: "serving".into(),
        unready: None,
        noise,
        services: vec![ServiceMetrics {
            name: "default".into(),
            pool,
            queue,
            requests,
            turned_away: 1,
            returned: 0,
            workers: StateCounts { waiting: 1, ..StateCounts::default() },
            external: StateCounts::default(),
            busy_us: 9000,
            external_busy_us: 0,
            exits: vec![("signal".into(), 1)],
            memory: MemorySum {
                measured: 1,
                private_bytes: 5_242_880,
                shared_bytes: 1_048_576,
                resident_bytes: 9_437_184,
            },
            bounds_us: vec![500, 1000],
            request_time: timing([1, 2, 4], 12_000),
            queue_wait: timing([7, 0, 0], 3000),
            processing: timing([1, 3, 3], 9000),
            worker_start: timing([0, 0, 1], 30_000),
            reloads: ReloadCounts {
                finished: 1,
                last: Some(LastReload { succeeded: true, at_ms: 1_790_000_000_000 }),
                ..ReloadCounts::default()
            },
            limits: Limits { attempts: 2, body_bytes: 67_108_864, ..Limits::default() },
        }],
    }
}

fn slot() -> SlotReport {
    SlotReport {
        slot: 3,
        workers: Vec::new(),
        adopted: vec![1],
        exits: vec![ExitReport {
            incarnation: 1,
            pid: Some(4713),
            reason: "exit code 3".into(),
            ago_ms: 1200,
        }],
        flights: vec![FlightReport {
            incarnation: 1,
            name: "1-17".into(),
            client: 4,
            attempt: 1,
            size: 5,
            reply_size: None,
            wait_us: 90,
            run_us: 1500,
            outcome: "lost".into(),
            ending: Some("exit code 3".into()),
            memory_before: None,
            memory_after: None,
        }],
    }
}

fn poison() -> PoisonReport {
    let attempt = |incarnation| AttemptReport {
        slot: Some(3),
        incarnation: Some(incarnation),
        pid: Some(4713),
        ending: "exit code 3".into(),
    };
    PoisonReport {
        number: 1,
        name: "1-17".into(),
        client: 4,
        size: 5,
        frames: Some(1),
        ago_ms: 1200,
        retrying: false,
        attempts: vec![attempt(1), attempt(2)],
        service: Some("default".into()),
    }
}

fn quarantine() -> QuarantineReport {
    QuarantineReport { bytes: 5, evicted: 0, entries: vec![poison()] }
}

fn retried() -> RetryReport {
    RetryReport { status: Status::Ok, message: None, size: 5, reply: b"HELLO".to_vec() }
}

fn of_images(request: ServiceRequest) -> ControlRequest {
    ControlRequest::Service { name: "images".into(), request }
}

fn control_requests() -> [(&'static str, ControlRequest); 20] {
    [
        ("control-request-status", ControlRequest::Status),
        ("control-request-check", ControlRequest::Check),
        ("control-request-scale-to", ControlRequest::Scale(Scale::To(8))),
        ("control-request-scale-by", ControlRequest::Scale(Scale::By(-2))),
        ("control-request-reload", ControlRequest::Reload { surge: Some(2), wait: true }),
        ("control-request-stop", ControlRequest::Stop { now: false }),
        ("control-request-stop-now", ControlRequest::Stop { now: true }),
        ("control-request-slot", ControlRequest::Slot { slot: 3 }),
        ("control-request-poison-list", ControlRequest::Poison(PoisonRequest::List)),
        ("control-request-poison-body", ControlRequest::Poison(PoisonRequest::Body { number: 1, offset: 0 })),
        ("control-request-poison-retry", ControlRequest::Poison(PoisonRequest::Retry { number: 1 })),
        ("control-request-upgrade", ControlRequest::Upgrade),
        ("control-request-recycle", ControlRequest::Recycle { slot: 3, wait: true }),
        ("control-request-pause", ControlRequest::Pause { refuse: false }),
        ("control-request-pause-refuse", ControlRequest::Pause { refuse: true }),
        ("control-request-resume", ControlRequest::Resume),
        ("control-request-events", ControlRequest::Events),
        ("control-request-metrics", ControlRequest::Metrics),
        ("control-request-service-scale", of_images(ServiceRequest::Scale(Scale::By(1)))),
        ("control-request-service-reload", of_images(ServiceRequest::Reload { surge: None, wait: true })),
    ]
}

fn hello() -> EventKind {
    EventKind::Hello {
        schema: EVENT_SCHEMA,
        version: "0.1.0".into(),
        pid: 100,
        router_pid: 101,
        phase: "serving".into(),
    }
}

fn exited() -> EventKind {
    EventKind::WorkerExited {
        slot: 3,
        incarnation: 2,
        generation: 0,
        pid: Some(102),
        reason: "killed by SIGKILL".into(),
        planned: false,
        respawn_ms: 0,
    }
}

fn event(what: EventKind) -> ControlResponse {
    ControlResponse::Event(EventReport { at_ms: 1_795_860_005_042, router_life: 1, service: None, what })
}

fn control_responses() -> [(&'static str, ControlResponse); 23] {
    let failed = ReloadOutcome::Failed {
        slot: 0,
        reason: "exit code 9".into(),
        last_words: vec!["no such module".into()],
        serving: 2,
    };
    let recycle = |outcome| ControlResponse::Recycle(RecycleReport { slot: 3, incarnation: 2, outcome });
    let reload = |outcome| ControlResponse::Reload(ReloadReport { generation: 3, outcome, service: None });
    [
        ("control-response-status", ControlResponse::Status(Box::new(report()))),
        ("control-response-check", ControlResponse::Check { ready: true, reason: "ready".into() }),
        ("control-response-scaled", ControlResponse::Scaled { from: 4, to: 8 }),
        ("control-response-reload-finished", reload(ReloadOutcome::Finished { workers: 4 })),
        ("control-response-reload-failed", reload(failed)),
        ("control-response-stopping", ControlResponse::Stopping),
        ("control-response-slot", ControlResponse::Slot(Box::new(slot()))),
        ("control-response-poison-list", ControlResponse::Poison(PoisonResponse::List(quarantine()))),
        ("control-response-poison-shown", ControlResponse::Poison(PoisonResponse::Shown(poison()))),
        (
            "control-response-poison-body",
            ControlResponse::Poison(PoisonResponse::Body { bytes: b"hello".to_vec(), more: false }),
        ),
        ("control-response-poison-retried", ControlResponse::Poison(PoisonResponse::Retried(retried()))),
        ("control-response-poison-dropped", ControlResponse::Poison(PoisonResponse::Dropped { count: 1 })),
        ("control-response-upgrading", ControlResponse::Upgrading),
        ("control-response-recycle-started", recycle(RecycleOutcome::Started)),
        (
            "control-response-recycle-ended",
            recycle(RecycleOutcome::Ended { reason: "recycle: operator".into(), successor: Some(3) }),
        ),
        ("control-response-event-hello", event(hello())),
        ("control-response-event-exited", event(exited())),
        ("control-response-event-refused", event(EventKind::Refused { refused: vec![(Status::Busy, 12)] })),
        ("control-response-event-end", event(EventKind::End { why: "stopped".into() })),
        ("control-response-paused", ControlResponse::Paused { waiting: 2, in_flight: 1 }),
        ("control-response-resumed", ControlResponse::Resumed { waiting: 2, after_ms: Some(4000) }),
        ("control-response-metrics", ControlResponse::Metrics(Box::new(metrics()))),
        ("control-response-refused", ControlResponse::Refused { message: "the broker is stopping".into() }),
    ]
}

/// Every message as this crate encodes it, by the name of its file.
fn encoded() -> BTreeMap<String, Frames> {
    let token = token();
    let token = token.as_bytes();
    let cancel = Control::Cancel { token: String::from_utf8_lossy(token).into_owned() };
    let more = Control::More { token: String::from_utf8_lossy(token).into_owned(), parts: 4 };
    let exiting = Announcement { reason: Some("memory".into()), ..announcement() };
    let busy = plain_error(Status::Busy, "10000 requests are waiting");
    let mut all = vec![
        ("worker-hello", message(&[&announcement().encode_hello()])),
        ("worker-waiting-plain", message(&[b"", b"waiting"])),
        ("worker-waiting", message(&[b"", b"waiting", &announcement().encode()])),
        ("worker-waiting-named", message(&[b"", b"waiting", &named().encode()])),
        ("worker-waiting-member", message(&[b"", b"waiting", &member().encode()])),
        ("worker-processing-plain", message(&[b"", b"processing"])),
        ("worker-exiting-plain", message(&[b"", b"exiting"])),
        ("worker-exiting", message(&[b"", b"exiting", &exiting.encode()])),
        ("worker-exiting-ended", message(&[b"", b"exiting", &ended_member().encode()])),
        ("worker-dequeue", message(&[b"", b"dequeue"])),
        ("worker-ready-word", message(&[b"", b"READY"])),
        ("worker-ready-byte", message(&[b"", &[1]])),
        ("worker-reply", message(&[b"", token, b"", b"HELLO"])),
        ("worker-reply-frames", message(&[b"", token, b"", b"a", b"", b"b"])),
        ("worker-reply-empty", message(&[b"", token, b"", b""])),
        ("worker-reply-error", message(&[b"", token, &failure(ReplyStatus::Error).encode(), b""])),
        ("worker-reply-retry", message(&[b"", token, &failure(ReplyStatus::Retry).encode(), b""])),
        ("worker-reply-part", message(&[b"", token, &part().encode(), b"HEL"])),
        ("job-plain", message(&[b"", token, b"", b"hello"])),
        ("job-with-everything", message(&[b"", token, &job_with_everything().encode(), b"hello"])),
        ("job-claimed", message(&[b"", token, &job_claimed().encode(), b"hello"])),
        ("worker-waiting-claims", message(&[b"", b"waiting", &claiming().encode()])),
        ("job", message(&[b"", token, &job().encode(), b"hello"])),
        ("job-member", message(&[b"", token, &JobMeta { member: Some(3), ..job() }.encode(), b"hello"])),
        ("order-cancel", message(&[b"", b"", &cancel.encode()])),
        ("order-more", message(&[b"", b"", &more.encode()])),
        ("order-stop", message(&[b"", b"", &Control::Stop.encode()])),
        ("request-plain", message(&[b"", b"hello"])),
        ("request-correlated", message(&[&[0, 0, 0, 7], b"", b"hello"])),
        ("request-native-least", message(&[b"", MAGIC, &RequestMeta::default().encode(), b"hello"])),
        ("request-native", message(&[b"", MAGIC, &request().encode(), b"hello"])),
        (
            "request-native-with-everything",
            message(&[b"", MAGIC, &request_with_everything().encode(), b"hello"]),
        ),
        ("request-cancel-by-id", message(&[b"", MAGIC, &cancel_by_id().encode()])),
        ("request-cancel-by-key", message(&[b"", MAGIC, &cancel_by_key().encode()])),
        ("reply-native-part", message(&[b"", MAGIC, &part_of_reply().encode(), b"HEL"])),
        ("reply-native-timed", message(&[b"", MAGIC, &timed_reply().encode(), b"HELLO"])),
        ("reply-plain", message(&[b"", b"HELLO"])),
        ("reply-plain-error", message(&[b"", busy.as_bytes()])),
        ("reply-native", message(&[b"", MAGIC, &reply().encode(), b"HELLO"])),
        ("reply-native-error", message(&[b"", MAGIC, &refusal().encode()])),
    ];
    all.extend(guide_messages());
    all.extend(control_requests().map(|(name, request)| (name, vec![control::encode(&request)])));
    all.extend(control_responses().map(|(name, response)| (name, vec![control::encode(&response)])));
    all.extend(mold_orders().map(|(name, order)| (name, vec![order.encode()])));
    all.extend(mold_words().map(|(name, word)| (name, vec![word.encode()])));
    all.extend(connection_bytes());
    all.into_iter().map(|(name, frames)| (name.to_owned(), frames)).collect()
}

fn mold_orders() -> [(&'static str, MoldOrder); 2] {
    let fork = ForkOrder {
        number: 7,
        backend: "ipc:///run/hornpipe/6660.crew".into(),
        service: "default".into(),
        slot: 3,
        incarnation: 2,
        generation: 1,
    };
    let measure = MoldOrder::Measure { number: 8, pids: vec![4711, 4712] };
    [("mold-order-fork", MoldOrder::Fork(fork)), ("mold-order-measure", measure)]
}

fn mold_words() -> [(&'static str, MoldWord); 4] {
    let measured =
        MoldWord::Measured { number: 8, shared_kib: 304_000, private_kib: 77_000, alone_kib: 310_000 };
    [
        ("mold-ready", MoldWord::Ready { version: 1, sdk: Some("example/1.0".into()) }),
        ("mold-forked", MoldWord::Forked { number: 7, pid: 4711 }),
        ("mold-failed", MoldWord::Failed { number: 7, why: "cannot fork: no room".into() }),
        ("mold-measured", measured),
    ]
}

/// Of the Guide's protocols: what their peers send, written down as their RFCs have it, and what
/// this crate makes for them.
fn guide_messages() -> Vec<(&'static str, Frames)> {
    let token = token();
    let address = token.as_bytes();
    let with = |head: &[&[u8]], body: &[&[u8]]| message(&[head, body].concat());
    vec![
        ("paranoid-ready", message(&[&[1]])),
        ("paranoid-heartbeat", message(&paranoid::heartbeat())),
        ("paranoid-job", with(&paranoid::job_head(&token), &[b"hello"])),
        ("paranoid-reply", message(&[address, b"", b"HELLO"])),
        ("majordomo-1-request", message(&[b"", b"MDPC01", b"echo", b"hello"])),
        (
            "majordomo-1-reply",
            with(&[&b""[..]], &[&*Edition::V1.reply_head("echo", Part::Final), &[b"HELLO"]].concat()),
        ),
        ("majordomo-1-worker-ready", message(&[b"", b"MDPW01", &[1], b"echo"])),
        ("majordomo-1-worker-request", with(&Edition::V1.job_head(&token), &[b"hello"])),
        ("majordomo-1-worker-reply", message(&[b"", b"MDPW01", &[3], address, b"", b"HELLO"])),
        ("majordomo-1-heartbeat", message(&Edition::V1.heartbeat())),
        ("majordomo-1-disconnect", message(&Edition::V1.disconnect())),
        ("majordomo-2-request", message(&[b"MDPC02", &[1], b"echo", b"hello"])),
        ("majordomo-2-partial", with(&Edition::V2.reply_head("echo", Part::Partial), &[b"HEL"])),
        ("majordomo-2-final", with(&Edition::V2.reply_head("echo", Part::Final), &[b"LO"])),
        ("majordomo-2-worker-ready", message(&[b"MDPW02", &[1], b"echo"])),
        ("majordomo-2-worker-request", with(&Edition::V2.job_head(&token), &[b"hello"])),
        ("majordomo-2-worker-partial", message(&[b"MDPW02", &[3], address, b"", b"HEL"])),
        ("majordomo-2-worker-final", message(&[b"MDPW02", &[4], address, b"", b"LO"])),
        ("majordomo-2-heartbeat", message(&Edition::V2.heartbeat())),
        ("majordomo-2-disconnect", message(&Edition::V2.disconnect())),
    ]
}

/// What a connection itself sends, a line for each frame, or for the greeting.
fn connection_bytes() -> Vec<(&'static str, Frames)> {
    let open = |socket| {
        let mut connection = Connection::new(socket, zmtp::Limits::default());
        let mut bytes = vec![written(&mut connection)];
        for part in [&vector("zmtp-greeting"), &vector("zmtp-ready-router")] {
            hand_over(&mut connection, &part.concat()).unwrap();
            bytes.push(written(&mut connection));
        }
        connection.next_event();
        (connection, bytes)
    };
    let (mut worker, greeted) = open(SocketType::Dealer);
    let (_router, accepted) = open(SocketType::Router);
    let ready = accepted.concat().split_off(greeted[0].len());
    let mut router = Connection::new(SocketType::Router, zmtp::Limits::default());
    // As RFC 15 has it.
    let old = [&b"\xff\0\0\0\0\0\0\0\0\x7f\x01\x05"[..], b"\0\x02me"].concat();
    hand_over(&mut router, &old).unwrap();
    let old_router = written(&mut router);
    worker.send([&b""[..], b"waiting"]);
    let message = vec![written(&mut worker)];
    worker.send([vec![b'x'; 256]]);
    let long = vec![written(&mut worker)];
    worker.ping(300, b"context");
    let ping = vec![written(&mut worker)];
    hand_over(&mut worker, &ping.concat()).unwrap();
    let answer = vec![written(&mut worker)];
    let mut refusing = Connection::new(SocketType::Req, zmtp::Limits::default());
    hand_over(&mut refusing, &greeted.concat()).unwrap_err();
    let refused = written(&mut refusing).split_off(greeted[0].len() + 40);
    vec![
        ("zmtp-greeting", vec![greeted[0].clone()]),
        ("zmtp-ready-dealer", vec![greeted[1].clone()]),
        ("zmtp-ready-router", vec![ready]),
        ("zmtp-2-dealer", vec![old]),
        ("zmtp-2-router", vec![old_router]),
        ("zmtp-message", message),
        ("zmtp-message-long", long),
        ("zmtp-ping", ping),
        ("zmtp-pong", answer),
        ("zmtp-error", vec![refused]),
    ]
}

fn written(connection: &mut Connection) -> Vec<u8> {
    let bytes: Vec<u8> = connection.unsent().flatten().copied().collect();
    connection.sent(bytes.len());
    bytes
}

fn hand_over(connection: &mut Connection, bytes: &[u8]) -> Result<(), ZmtpError> {
    connection.buffer().extend(bytes);
    connection.received()
}

/// Every file of the folder.
fn golden() -> BTreeMap<String, Frames> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, parse(&std::fs::read_to_string(&path).unwrap()))
        })
        .collect()
}

fn parse(text: &str) -> Frames {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(parse_frame).collect()
}

fn parse_frame(line: &str) -> Vec<u8> {
    if line == "empty" {
        return Vec::new();
    }
    let digits: String = line.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn show(frames: &Frames) -> String {
    let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    frames.iter().map(|frame| if frame.is_empty() { "empty\n".into() } else { hex(frame) + "\n" }).collect()
}

fn vector(name: &str) -> Frames {
    golden().remove(name).unwrap_or_else(|| panic!("there is no vector {name}"))
}

#[test]
fn every_message_is_encoded_to_its_golden_bytes() {
    let (golden, encoded) = (golden(), encoded());
    for (name, frames) in &encoded {
        assert_eq!(golden.get(name).map(show), Some(show(frames)), "vectors/{name}.hex");
    }
    assert_eq!(golden.len(), encoded.len(), "a file of proto/vectors belongs to no message");
}

#[test]
fn golden_words_of_workers_are_understood() {
    let state = |state, announcement, dialect| WorkerMessage::State { state, announcement, dialect };
    let reply = |meta| WorkerMessage::Reply { token: token(), meta };
    let exiting = Announcement { reason: Some("memory".into()), ..announcement() };
    for (name, meaning) in [
        ("worker-hello", WorkerMessage::Hello(announcement())),
        ("worker-waiting-plain", state(State::Waiting, None, Dialect::Hornpipe)),
        ("worker-waiting", state(State::Waiting, Some(announcement()), Dialect::Hornpipe)),
        ("worker-waiting-named", state(State::Waiting, Some(named()), Dialect::Hornpipe)),
        ("worker-waiting-member", state(State::Waiting, Some(member()), Dialect::Hornpipe)),
        ("worker-processing-plain", state(State::Processing, None, Dialect::Hornpipe)),
        ("worker-exiting-plain", state(State::Exiting, None, Dialect::Hornpipe)),
        ("worker-exiting", state(State::Exiting, Some(exiting), Dialect::Hornpipe)),
        ("worker-exiting-ended", state(State::Exiting, Some(ended_member()), Dialect::Hornpipe)),
        ("worker-dequeue", state(State::Exiting, None, Dialect::Hornpipe)),
        ("worker-ready-word", state(State::Waiting, None, Dialect::SimplePirate)),
        ("worker-ready-byte", state(State::Waiting, None, Dialect::SimplePirate)),
        ("worker-reply", reply(ReplyMeta::default())),
        ("worker-reply-frames", reply(ReplyMeta::default())),
        ("worker-reply-empty", reply(ReplyMeta::default())),
        ("worker-reply-part", reply(part())),
        ("worker-reply-error", reply(failure(ReplyStatus::Error))),
        ("worker-reply-retry", reply(failure(ReplyStatus::Retry))),
    ] {
        assert_eq!(WorkerMessage::decode(&vector(name)), Ok(meaning), "{name}");
    }
}

#[test]
fn golden_words_of_the_guides_workers_are_understood() {
    use paranoid::Word;
    for (name, meaning) in [
        ("paranoid-ready", Word::Ready),
        ("paranoid-heartbeat", Word::Heartbeat),
        ("paranoid-reply", Word::Reply(Some(token()))),
    ] {
        let frames = vector(name);
        assert_eq!(Dialect::of_worker(&frames), Dialect::ParanoidPirate, "{name}");
        assert_eq!(Word::decode(&frames), Ok(meaning), "{name}");
    }
    let ready = || Command::Ready { service: "echo".into() };
    let reply = |more| Command::Reply { token: Some(token()), more };
    for (name, edition, meaning) in [
        ("majordomo-1-worker-ready", Edition::V1, ready()),
        ("majordomo-1-worker-reply", Edition::V1, reply(false)),
        ("majordomo-1-heartbeat", Edition::V1, Command::Heartbeat),
        ("majordomo-1-disconnect", Edition::V1, Command::Disconnect),
        ("majordomo-2-worker-ready", Edition::V2, ready()),
        ("majordomo-2-worker-partial", Edition::V2, reply(true)),
        ("majordomo-2-worker-final", Edition::V2, reply(false)),
        ("majordomo-2-heartbeat", Edition::V2, Command::Heartbeat),
        ("majordomo-2-disconnect", Edition::V2, Command::Disconnect),
    ] {
        let frames = vector(name);
        assert_eq!(Dialect::of_worker(&frames), Dialect::Majordomo(edition), "{name}");
        assert_eq!(edition.decode(&frames), Ok(meaning), "{name}");
    }
    for (name, envelope_len, edition) in
        [("majordomo-1-request", 1, Edition::V1), ("majordomo-2-request", 0, Edition::V2)]
    {
        let request = ClientRequest { edition, service: Ok("echo".into()) };
        let meaning = ClientMessage { envelope_len, speech: Speech::Majordomo(request) };
        assert_eq!(ClientMessage::decode(&vector(name)), Ok(meaning), "{name}");
    }
}

#[test]
fn golden_jobs_and_orders_are_understood() {
    let token = token().as_bytes().to_vec();
    let text = String::from_utf8(token.clone()).unwrap();
    for (name, meaning) in [
        ("job-plain", BrokerMessage::Job { token: token.clone(), meta: None }),
        ("job", BrokerMessage::Job { token: token.clone(), meta: Some(job()) }),
        ("job-claimed", BrokerMessage::Job { token: token.clone(), meta: Some(job_claimed()) }),
        ("job-with-everything", BrokerMessage::Job { token, meta: Some(job_with_everything()) }),
        ("order-cancel", BrokerMessage::Control(Control::Cancel { token: text.clone() })),
        ("order-more", BrokerMessage::Control(Control::More { token: text, parts: 4 })),
        ("order-stop", BrokerMessage::Control(Control::Stop)),
    ] {
        assert_eq!(BrokerMessage::decode(&vector(name)), Ok(meaning), "{name}");
    }
}

#[test]
fn golden_requests_and_replies_are_understood() {
    for (name, envelope_len, speech) in [
        ("request-plain", 1, Speech::Plain),
        ("request-correlated", 2, Speech::Plain),
        ("request-native-least", 1, Speech::Native(Ok(RequestMeta::default()))),
        ("request-native", 1, Speech::Native(Ok(request()))),
        ("request-native-with-everything", 1, Speech::Native(Ok(request_with_everything()))),
        ("request-cancel-by-id", 1, Speech::Native(Ok(cancel_by_id()))),
        ("request-cancel-by-key", 1, Speech::Native(Ok(cancel_by_key()))),
    ] {
        let meaning = ClientMessage { envelope_len, speech };
        assert_eq!(ClientMessage::decode(&vector(name)), Ok(meaning), "{name}");
    }
    for (name, meaning) in [
        ("reply-native", reply()),
        ("reply-native-part", part_of_reply()),
        ("reply-native-timed", timed_reply()),
        ("reply-native-error", refusal()),
    ] {
        let frames = vector(name);
        assert_eq!(client::decode_reply_meta(&frames[2]), Ok(meaning), "{name}");
    }
}

#[test]
fn golden_control_messages_are_understood() {
    for (name, meaning) in control_requests() {
        let mut bytes = vector(name).concat();
        let request = control::take::<ControlRequest>(&mut bytes, control::REQUEST_LIMIT);
        assert_eq!((request, bytes.len()), (Ok(Some(meaning)), 0), "{name}");
    }
    for (name, meaning) in control_responses() {
        let mut bytes = vector(name).concat();
        let response = control::take::<ControlResponse>(&mut bytes, control::RESPONSE_LIMIT);
        assert_eq!((response, bytes.len()), (Ok(Some(meaning)), 0), "{name}");
    }
}

#[test]
fn golden_packets_of_molds_are_understood() {
    for (name, meaning) in mold_orders() {
        assert_eq!(MoldOrder::decode(&vector(name).concat()), Ok(meaning), "{name}");
    }
    for (name, meaning) in mold_words() {
        assert_eq!(MoldWord::decode(&vector(name).concat()), Ok(meaning), "{name}");
    }
    assert!(MoldWord::decode(b"\x81\xa3say\xa4what").is_err());
}

#[test]
fn golden_bytes_of_connections_are_understood() {
    let open = || {
        let mut connection = Connection::new(SocketType::Router, zmtp::Limits::default());
        hand_over(&mut connection, &vector("zmtp-greeting").concat()).unwrap();
        hand_over(&mut connection, &vector("zmtp-ready-dealer").concat()).unwrap();
        let Some(Event::Ready(peer)) = connection.next_event() else { panic!("not ready") };
        assert_eq!((peer.socket, peer.identity.as_slice()), (SocketType::Dealer, &b""[..]));
        connection
    };
    for (name, meaning) in [
        ("zmtp-message", Event::Message(message(&[b"", b"waiting"]))),
        ("zmtp-message-long", Event::Message(vec![vec![b'x'; 256]])),
        ("zmtp-pong", Event::Pong { context: b"context".to_vec() }),
    ] {
        let mut connection = open();
        hand_over(&mut connection, &vector(name).concat()).unwrap();
        assert_eq!(connection.next_event(), Some(meaning), "{name}");
    }
    let mut router = Connection::new(SocketType::Router, zmtp::Limits::default());
    hand_over(&mut router, &[vector("zmtp-2-dealer"), vector("zmtp-message")].concat().concat()).unwrap();
    let peer = Peer { socket: SocketType::Dealer, identity: b"me".to_vec() };
    assert_eq!(router.next_event(), Some(Event::Ready(peer)));
    assert_eq!(router.next_event(), Some(Event::Message(message(&[b"", b"waiting"]))));
    let reason = "the peer is a \"DEALER\", which a REQ cannot talk to".to_owned();
    let refused = hand_over(&mut open(), &vector("zmtp-error").concat());
    assert_eq!(refused, Err(ZmtpError::Refused { reason }));
}

#[test]
fn an_event_of_a_later_version_is_one_that_is_not_known() {
    #[derive(serde::Serialize)]
    struct Later<W> {
        at_ms: u64,
        router_life: u32,
        what: W,
    }
    #[derive(serde::Serialize)]
    struct What {
        event: &'static str,
        count: u64,
        masts: u32,
    }
    for (event, meaning) in [("ship_sunk", EventKind::Unknown), ("dropped", EventKind::Dropped { count: 3 })]
    {
        let later = Later { at_ms: 1, router_life: 1, what: What { event, count: 3, masts: 2 } };
        let mut bytes = control::encode(&later);
        let read = control::take::<EventReport>(&mut bytes, control::RESPONSE_LIMIT).unwrap().unwrap();
        assert_eq!(read.what, meaning);
    }
}
