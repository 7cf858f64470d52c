//! The screen of a report that has something of everything.

use hornpipe_proto::Status;
use hornpipe_proto::control::{
    ExternalReport, LastExit, PausedReport, PoolReport, QueueReport, RequestReport, TargetReport,
    WorkerReport,
};

use super::*;

fn report() -> StatusReport {
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
            target: 2,
            min: 1,
            max: 1024,
            ready: 2,
            processing: 1,
            generation: 0,
            reload: None,
            probed: 0,
            spawned: 3,
            exited: 1,
            autoscale: true,
            last_change: Some(TargetReport {
                from: 1,
                to: 2,
                cause: "queue wait: 3 waiting, the oldest for 51 ms".into(),
                ago_ms: 2000,
            }),
            degraded: Some("1 of 2 workers cannot start: exit code 1".into()),
            paused: Some(PausedReport { refuses: false, for_ms: 61_000 }),
        },
        queue: QueueReport {
            backlog_len: 0,
            backlog_limit: 10_000,
            held_bytes: 1024,
            held_bytes_limit: 256 << 20,
            oldest_ms: None,
        },
        requests: RequestReport {
            received: 12,
            answered: 10,
            refused: vec![(Status::Busy, 0), (Status::Timeout, 1)],
            dropped: 0,
            waiting: 0,
            in_flight: 1,
            retried: 0,
            parts: 0,
            prefetched: 0,
            withdrawn: 0,
        },
        noise: NoiseReport { stale_replies: 3, ..NoiseReport::default() },
        workers: vec![
            WorkerReport {
                slot: 0,
                pid: Some(4713),
                incarnation: 1,
                generation: 0,
                state: "waiting".into(),
                age_ms: 8_099_000,
                requests: 9,
                private_bytes: Some(31_400_000),
                shared_bytes: Some(1_000_000),
                processing_ms: None,
                ahead: 0,
                last_exit: None,
                service: None,
            },
            WorkerReport {
                slot: 1,
                pid: Some(9120),
                incarnation: 2,
                generation: 0,
                state: "processing".into(),
                age_ms: 61_000,
                requests: 1,
                private_bytes: None,
                shared_bytes: None,
                processing_ms: Some(120),
                ahead: 0,
                last_exit: Some(LastExit { reason: "killed by SIGKILL".into(), ago_ms: 61_000 }),
                service: None,
            },
        ],
        external: vec![ExternalReport {
            name: Some("evil\x1b[31m\nname".into()),
            state: "waiting".into(),
            age_ms: 5,
            requests: 0,
            service: None,
        }],
        services: Vec::new(),
        brokers: Vec::new(),
    }
}

#[test]
fn several_services_have_a_line_each() {
    let mut report = report();
    let service = |name: &str, configured| ServiceReport {
        name: name.into(),
        configured,
        phase: "serving".into(),
        pool: report.pool.clone(),
        queue: report.queue.clone(),
        requests: report.requests.clone(),
    };
    report.services = vec![service("default", true), service("brought", false)];
    report.workers[1].service = Some("default".into());
    report.external[0].service = Some("brought".into());
    let screen = screen(&report);
    for expected in [
        "SERVICE  STATE    READY  WANTED    WAITING  RUNNING  RECEIVED  ANSWERED  ERRORS  GEN\n",
        "default  serving  2      2         0        1        12        10        1       0\n",
        "brought  serving  2      external  0        1        12        10        1       0\n",
        "1     9120  default  processing  1m01s  1",
        "target    default: 2   autoscaling   1 to 2 2s ago, queue wait",
        "degraded  brought: 1 of 2 workers cannot start: exit code 1\n",
        "EXTERNAL              SERVICE  STATE    AGE  REQUESTS\n",
    ] {
        assert!(screen.contains(expected), "{expected}\n{screen}");
    }
}

#[test]
fn the_screen_shows_what_there_is() {
    let expected = "\
hornpipe 0.1.0   clients tcp://127.0.0.1:6660   workers tcp://127.0.0.1:6661   SERVING
parent    pid 4711   up 2h15m   router pid 4712, the 2nd of this parent
requests  12 received   10 answered   1 timeout   1 running
queue     0 of 10000   1KiB of 256MiB held
workers   2 ready of 2 wanted (1 to 1024)   and 1 external   1 processing   generation 0   3 started   1 ended
paused    for 1m01s: requests wait until hornpipe resume
target    2   autoscaling   1 to 2 2s ago, queue wait: 3 waiting, the oldest for 51 ms
degraded  1 of 2 workers cannot start: exit code 1
noise     3 stale replies
SLOT  PID   STATE       AGE    REQUESTS  PRIVATE  SHARED  NOW    INC  GEN  LAST EXIT
0     4713  waiting     2h14m  9         29MiB    977KiB  -      1    0    -
1     9120  processing  1m01s  1         -        -       120ms  2    0    1m01s ago: killed by SIGKILL
";
    let screen = screen(&report());
    assert!(screen.starts_with(expected), "{screen}");
}

#[test]
fn a_workers_name_cannot_draw_on_the_terminal() {
    let screen = screen(&report());
    assert!(screen.contains("evil\\u{1b}[31m\\nname"), "{screen}");
    assert!(!screen.contains('\x1b'));
}

#[test]
fn json_has_an_object_for_each_worker() {
    let value: serde_json::Value = serde_json::from_str(&json(&report())).unwrap();
    let worker = &value["workers"][1];
    for (key, expected) in [("slot", 1), ("pid", 9120), ("incarnation", 2), ("generation", 0)] {
        assert_eq!(worker[key], expected, "{key}");
    }
    assert_eq!(worker["state"], "processing");
}
