//! The picture at two sizes, and what keys do to it.

use hornpipe_proto::Status;
use hornpipe_proto::control::{
    LastExit, NoiseReport, PausedReport, PoolReport, QueueReport, RequestReport, Scale, StatusReport,
    WorkerReport,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn worker(slot: u32, state: &str) -> WorkerReport {
    WorkerReport {
        slot,
        pid: (state != "backoff").then_some(4713 + i32::try_from(slot).unwrap()),
        incarnation: 1,
        generation: 0,
        state: state.into(),
        age_ms: 8_099_000,
        requests: 9,
        private_bytes: Some(31_400_000),
        shared_bytes: None,
        processing_ms: (state == "processing").then_some(1234),
        ahead: 0,
        last_exit: (slot == 1).then(|| LastExit { reason: "announced: \x1b[31mred".into(), ago_ms: 61_000 }),
        service: None,
    }
}

fn report(workers: u32) -> StatusReport {
    let states = ["waiting", "processing", "starting", "backoff"];
    StatusReport {
        version: "0.1.0".into(),
        frontend: "tcp://127.0.0.1:6660".into(),
        backend: "tcp://127.0.0.1:6661".into(),
        pid: 4711,
        router_pid: 4712,
        router_life: 2,
        uptime_ms: 8_100_000,
        phase: "serving".into(),
        pool: PoolReport {
            target: workers,
            min: 1,
            max: 64,
            ready: 4,
            processing: 1,
            generation: 0,
            reload: None,
            probed: 0,
            spawned: 3,
            exited: 1,
            autoscale: false,
            last_change: None,
            degraded: None,
            paused: None,
        },
        queue: QueueReport {
            backlog_len: 12,
            backlog_limit: 10_000,
            held_bytes: 1024,
            held_bytes_limit: 256 << 20,
            oldest_ms: Some(51),
        },
        requests: RequestReport { received: 1000, ..RequestReport::default() },
        noise: NoiseReport::default(),
        workers: (0..workers).map(|slot| worker(slot, states[slot as usize % 4])).collect(),
        external: Vec::new(),
        services: Vec::new(),
        brokers: Vec::new(),
    }
}

/// A minute of a hundred requests a second, and ten errors in the last one.
fn view(workers: u32) -> View {
    let mut view = View::new("6660".into(), report(workers));
    for second in 1..=70 {
        let mut next = report(workers);
        next.uptime_ms += second * 1000;
        next.requests.received += second * 100;
        if second == 70 {
            next.requests.refused = vec![(Status::Busy, 10)];
        }
        view.take(next);
    }
    view
}

fn drawn(view: &View, (columns, rows): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| picture::draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..rows).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn a_small_screen_has_everything_that_is_looked_at_first() {
    let lines = drawn(&view(6), (80, 24));
    assert_eq!(lines[0], "hornpipe 0.1.0  port 6660  SERVING  up 2h16m  router 2");
    assert_eq!(lines[1], "workers   4 ready of 6 (1 to 64)  busy 25%  generation 0");
    assert_eq!(lines[2], "requests  100.0/s  errors 10.0/s  queue 12 of 10000  oldest 51ms");
    assert!(lines[4].contains("requests/s in the last minute, 100 at most"), "{lines:#?}");
    assert!(lines[7].chars().filter(|bar| *bar == '█').count() == 60, "{lines:#?}");
    assert_eq!(
        lines[8].split_whitespace().collect::<Vec<_>>(),
        ["SLOT", "PID", "STATE", "AGE", "REQS", "NOW", "PRIV", "SHARED", "LAST", "EXIT"]
    );
    assert_eq!(lines[9], "0    4713    waiting    2h14m  9         -       29MiB    -        -");
    assert!(lines[10].starts_with("1    4714    processing 2h14m  9         1234ms"), "{}", lines[10]);
    assert!(lines[12].starts_with("3    -       backoff"), "{}", lines[12]);
    assert!(lines[23].starts_with("up/down select") && lines[23].ends_with("q quit"), "{}", lines[23]);
}

#[test]
fn slots_of_other_services_are_shown_whole() {
    let mut view = view(2);
    view.report.workers[1].slot = 20_003;
    let lines = drawn(&view, (80, 24));
    assert!(lines[9].starts_with("0     4713    waiting"), "{}", lines[9]);
    assert!(lines[10].starts_with("20003 4714    processing"), "{}", lines[10]);
}

#[test]
fn a_large_screen_has_room_for_long_reasons_and_nothing_draws_on_it() {
    let lines = drawn(&view(40), (200, 60));
    assert!(lines[10].ends_with("1m01s ago: announced: \\u{1b}[31mred"), "{}", lines[10]);
    let rows = lines.iter().filter(|line| line.contains("2h14m")).count();
    assert_eq!(rows, 40);
    assert!(lines[59].starts_with("up/down select"));
}

#[test]
fn the_selected_worker_is_always_on_the_screen() {
    let mut view = view(64);
    for _ in 0..63 {
        assert_eq!(view.press(Key::Down), Next::Go);
    }
    let lines = drawn(&view, (80, 24));
    assert!(lines.iter().any(|line| line.starts_with("63   ")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.starts_with("0    ")), "{lines:#?}");
    view.press(Key::Down);
    assert_eq!(view.selected, 63);
    view.take(report(3));
    assert_eq!(view.selected, 2);
}

#[test]
fn a_tiny_screen_harms_nobody() {
    for size in [(1, 1), (10, 3), (80, 5), (3, 60)] {
        let mut view = view(6);
        drawn(&view, size);
        view.press(Key::Help);
        drawn(&view, size);
    }
}

#[test]
fn whatever_changes_something_is_asked_about_first() {
    let recycle = ControlRequest::Recycle { slot: 1, wait: false };
    let reload = ControlRequest::Reload { surge: None, wait: false };
    for (key, question, request) in [
        (Key::More, "One worker more? y/n", ControlRequest::Scale(Scale::By(1))),
        (Key::Less, "One worker less? y/n", ControlRequest::Scale(Scale::By(-1))),
        (Key::Recycle, "Another process for slot 1? y/n", recycle),
        (Key::Reload, "Reload: fresh workers for all slots? y/n", reload),
        (Key::Pause, "Pause: hand out no request? y/n", ControlRequest::Pause { refuse: false }),
    ] {
        let mut view = view(4);
        view.press(Key::Down);
        assert_eq!(view.press(key), Next::Go);
        assert_eq!(drawn(&view, (80, 24))[23], question);
        assert_eq!(view.press(Key::Other), Next::Go, "no is no");
        assert_eq!(view.line, Line::Keys);
        view.press(key);
        assert_eq!(view.press(Key::Yes), Next::Send(request));
    }
    let mut paused = view(4);
    let mut next = report(4);
    next.pool.paused = Some(PausedReport { refuses: false, for_ms: 5 });
    paused.take(next);
    paused.press(Key::Pause);
    assert_eq!(paused.press(Key::Yes), Next::Send(ControlRequest::Resume));
    assert_eq!(paused.press(Key::Quit), Next::Quit);
}

#[test]
fn a_lost_broker_is_said_and_what_was_known_stays() {
    let mut view = view(4);
    view.lost = Some("no broker with frontend port 6660 here".into());
    let lines = drawn(&view, (80, 24));
    assert_eq!(lines[3], "lost: no broker with frontend port 6660 here");
    assert!(lines[9].starts_with("0    4713"));
    view.take(report(4));
    assert_eq!(view.lost, None);
    assert_eq!(view.rates.now, None, "another count begins");
}
