//! `kill -9` of the router: ports stay open, workers stay alive, work goes on.

use std::net::TcpStream;
use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, Client, Deadline, Serve, eventually, let_pass, python, script, send, until,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTERM, SIGTTIN};

/// The promise is 500 ms; a slow and crowded machine gets ten times that.
const BACK: Duration = Duration::from_secs(5);

/// Five deaths within 10 s end the broker, so they are kept further apart.
const APART: Duration = Duration::from_millis(2600);

/// Kills the router, and waits until requests are answered again.
fn kill_router(broker: &Broker) {
    let router = broker.router_pid();
    send(router, SIGKILL);
    until("requests are answered again", BACK, || {
        let client = Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_rcvtimeo(500).unwrap());
        client.send(&[b"echo again"]);
        client.socket().recv_bytes(0).ok().filter(|reply| reply == b"again")
    });
    assert_ne!(broker.router_pid(), router);
}

#[test]
fn workers_keep_their_pids_through_five_deaths_and_serve_a_thousand_requests_each_afterwards() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    for life in 2..=6 {
        let apart = Deadline::after(APART);
        kill_router(&broker);
        assert_eq!(broker.status().router_life, life);
        // The first who is back answers, and the others may be on their way.
        eventually("all are known again", || broker.workers() == workers);
        let client = broker.client();
        while !apart.is_over() {
            assert_eq!(client.ask_text("echo x"), "x");
        }
    }
    // A limit of libzmq's would stop a connection after some 500 messages. Who is idle first
    // gets more of them, so it takes as many as it takes until each has had enough.
    let client = Client::dealer(broker.frontend());
    eventually("each worker has served a thousand", || {
        for _ in 0..100 {
            client.send(&[b"", b"echo x"]);
        }
        for _ in 0..100 {
            assert_eq!(client.receive(), [b"".to_vec(), b"x".to_vec()]);
        }
        broker.status().workers.iter().all(|worker| worker.requests > 1000)
    });
    assert_eq!(broker.workers(), workers);
    broker.check_counters();
}

#[test]
fn a_busy_worker_survives_with_its_request_and_serves_on() {
    let broker = Broker::demo(1);
    let pid = broker.workers()[&0];
    let client = broker.client();
    client.send(&[b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    send(broker.router_pid(), SIGKILL);
    let report =
        broker.wait_until("it is adopted", |report| report.router_life == 2 && report.pool.ready == 1);
    assert_eq!(report.workers[0].pid, Some(pid));
    assert_eq!(broker.ask("pid"), pid.to_string());
    assert_eq!(broker.workers()[&0], pid);
    // Nobody waits for that reply any more.
    assert!(client.receive_within(Duration::ZERO).is_none());
}

#[test]
fn plain_programs_are_replaced() {
    let program = [python().into_os_string(), script("plain_worker.py").into()];
    let broker = Serve::bare(2).program(program).start();
    let workers = broker.workers();
    send(broker.router_pid(), SIGKILL);
    let report = broker.wait_until("both are replaced", |report| {
        let new = |pid: Option<i32>| pid.is_some_and(|pid| !workers.values().any(|old| *old == pid));
        report.workers.len() == 2
            && report.workers.iter().all(|worker| worker.state == "waiting" && new(worker.pid))
    });
    assert_eq!(report.router_life, 2);
    let client = broker.client();
    for _ in 0..10 {
        assert_eq!(client.ask_text("hello"), "HELLO");
    }
}

#[test]
fn programs_behind_an_adapter_survive() {
    let broker = Serve::bare(1).options(["--lines"]).program(["sh", "-c", "while read l; do echo $$; done"]);
    let broker = broker.start();
    let program = broker.ask("x");
    send(broker.router_pid(), SIGKILL);
    broker.wait_until("it is adopted", |report| report.router_life == 2 && report.pool.ready == 1);
    assert_eq!(broker.ask("x"), program);
}

#[test]
fn the_ports_stay_open() {
    let broker = Broker::demo(1);
    send(broker.router_pid(), SIGKILL);
    for port in [broker.frontend_port(), broker.backend_port()] {
        TcpStream::connect(("127.0.0.1", port)).expect("the parent keeps the ports");
    }
    broker.wait_until("a new router serves", |report| report.router_life == 2 && report.pool.ready == 1);
}

#[test]
fn our_own_client_retries_by_itself() {
    let broker = Broker::demo(2);
    let client = hornpipe_client::Client::connect(broker.frontend()).unwrap();
    std::thread::scope(|scope| {
        let reply = scope.spawn(move || client.ask("sleep 700"));
        broker.wait_for_in_flight(1);
        send(broker.router_pid(), SIGKILL);
        let reply = reply.join().unwrap().unwrap();
        assert_eq!(reply.bytes(), b"slept 700");
    });
}

#[test]
fn the_operators_wishes_survive() {
    let broker = Broker::demo(2);
    broker.signal(SIGTTIN);
    broker.wait_for_idle(3);
    let workers = broker.workers();
    send(broker.router_pid(), SIGKILL);
    let report = broker.wait_until("a new router knows them all", |report| {
        report.router_life == 2 && report.pool.ready == 3
    });
    assert_eq!(report.pool.target, 3);
    assert_eq!(broker.workers(), workers);
}

#[test]
fn a_worker_that_died_with_the_router_is_replaced() {
    let broker = Broker::demo(2);
    let workers = broker.workers();
    send(broker.router_pid(), SIGKILL);
    send(workers[&0], SIGKILL);
    let report = broker.wait_until("all is well again", |report| {
        report.router_life == 2
            && report.workers.iter().all(|worker| worker.state == "waiting")
            && report.pool.ready == 2
    });
    assert_ne!(report.workers[0].pid, Some(workers[&0]));
    assert_eq!(report.workers[1].pid, Some(workers[&1]));
}

#[test]
fn a_router_that_keeps_dying_ends_the_broker_and_leaves_nothing() {
    let mut broker = Broker::demo(2);
    broker.let_it_fail();
    // Five in a row that had no time to serve. On a busy machine one may have had it.
    let mut last = 0;
    eventually("it gives up", || {
        let report = hornpipe_tests::harness::status_of(broker.control());
        let next = report.map(|report| report.router_pid).filter(|pid| *pid != last);
        if let Some(router) = next {
            last = router;
            send(router, SIGKILL);
        }
        !broker.is_running()
    });
    let ended = broker.wait();
    assert_eq!(ended.code(), Some(1));
    broker.wait_until_nothing_is_left();
    assert!(ended.stderr.contains("router"), "{}", ended.stderr);
}

#[test]
fn a_reload_goes_on_under_the_next_router() {
    let broker = Broker::demo(4);
    broker.signal(SIGHUP);
    broker.wait_until("it has begun", |report| report.workers.iter().any(|worker| worker.generation == 1));
    send(broker.router_pid(), SIGKILL);
    let report = broker.wait_until("it is done", |report| {
        report.router_life == 2
            && report.workers.len() == 4
            && report.workers.iter().all(|worker| worker.generation == 1 && worker.state == "waiting")
    });
    assert_eq!(report.pool.target, 4);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_stop_in_the_moment_of_the_death_ends_everything() {
    for patience in [0, 1, 3, 10, 30] {
        let mut broker = Broker::demo(2);
        broker.let_it_fail();
        send(broker.router_pid(), SIGKILL);
        let_pass(Duration::from_millis(patience));
        broker.signal(SIGTERM);
        let ended = broker.wait();
        assert!(matches!(ended.code(), Some(0 | 1)), "{:?}", ended.status);
        broker.wait_until_nothing_is_left();
    }
}

#[test]
fn our_own_clients_lose_nothing_through_four_deaths() {
    let broker = Serve::demo(3).options(["--attempts", "5"]).start();
    let time = Deadline::after(Duration::from_secs(10));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (broker, time) = (&broker, &time);
            scope.spawn(move || {
                let client = hornpipe_client::Client::builder().endpoint(broker.frontend()).tries(20);
                let client = client.build().unwrap();
                for number in 0.. {
                    if time.is_over() {
                        break;
                    }
                    let text = format!("{thread} {number}");
                    let reply = client.ask(format!("echo {text}")).unwrap();
                    assert_eq!(reply.bytes(), text.as_bytes());
                }
            });
        }
        for _ in 0..4 {
            let apart = Deadline::after(Duration::from_millis(2500));
            kill_router(&broker);
            let_pass(apart.left());
        }
    });
    broker.check_counters();
}
