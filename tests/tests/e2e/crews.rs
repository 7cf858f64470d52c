//! A crew: workers that another process supervises, over one connection to the broker.

use std::fs;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::control::{ControlRequest, ControlResponse, Scale, StatusReport};
use hornpipe_proto::worker::{Announcement, BrokerMessage, ReplyMeta};
use hornpipe_tests::harness::{
    Broker, Client, Folder, NativeWorker, Process, Serve, eventually, hornpipe, is_alive, refused, send,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1};

/// A broker without workers of its own.
fn broker() -> Broker {
    Serve::bare(0).start()
}

/// A crew of so many demo workers, all known to the broker.
fn crew_of(broker: &Broker, workers: u32) -> Broker {
    let crew = Serve::crew(workers, [broker.backend()]).start();
    wait_for_external(broker, workers);
    crew
}

fn wait_for_external(broker: &Broker, count: u32) -> StatusReport {
    broker.wait_until(&format!("{count} workers from elsewhere are idle"), |report| {
        let idle = report.external.iter().filter(|worker| worker.state == "waiting").count();
        report.external.len() == count as usize && idle == report.external.len()
    })
}

fn names(report: &StatusReport) -> Vec<String> {
    let mut names: Vec<String> = report.external.iter().filter_map(|worker| worker.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn a_broker_shows_where_the_workers_of_a_crew_are_and_gives_them_work() {
    let broker = broker();
    let crew = crew_of(&broker, 2);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim();
    assert_eq!(names(&broker.status()), [format!("{host}:0"), format!("{host}:1")]);
    let links = crew.status().brokers;
    assert_eq!((links.len(), links[0].broker.as_str()), (1, broker.backend()));
    assert_eq!((links[0].connected, links[0].workers), (true, 2));
    assert_eq!(broker.ask("upper ahoy"), "AHOY");
    // Each of them works by itself.
    let clients = [broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"sleep 300"]);
    }
    crew.wait_for_in_flight(2);
    for client in &clients {
        assert_eq!(client.receive(), [b"slept 300"]);
    }
    wait_for_external(&broker, 2);
    broker.check_counters();
    crew.check_counters();
}

#[test]
fn a_request_keeps_what_its_client_said_and_a_reply_what_its_worker_said() {
    let broker = broker();
    let crew = crew_of(&broker, 2);
    let client = Client::dealer(broker.frontend());
    let meta = |id: &str| RequestMeta { id: id.into(), ..RequestMeta::default() };
    client.send_native(&RequestMeta { more: true, ..meta("parts") }, b"parts 3 0");
    let parts: Vec<_> = (0..4).map(|_| client.receive_native().0).collect();
    assert_eq!(parts.iter().map(|part| part.more).collect::<Vec<_>>(), [true, true, true, false]);
    // More than may be on their way at once, and the client reads none of them apart.
    client.send_native(&meta("joined"), b"parts 40 0");
    assert!(client.receive_native().1.len() > 40);
    client.send_native(&meta("failed"), b"fail not today");
    let (reply, _body) = client.receive_native();
    assert_eq!((reply.status, reply.message.as_deref()), (Status::Error, Some("not today")));
    let affinity = Some("a".to_owned());
    let pids: Vec<_> = (0..4)
        .map(|_| {
            client.send_native(&RequestMeta { affinity: affinity.clone(), ..meta("pid") }, b"pid");
            client.receive_native().1
        })
        .collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    let large = vec![b'x'; 3 << 20];
    let body = [b"echo ".as_slice(), &large].concat();
    assert_eq!(broker.client().ask(&body).len(), large.len());
    crew.check_counters();
}

#[test]
fn a_request_that_is_taken_back_frees_its_worker() {
    let broker = broker();
    let crew = Serve::crew(1, [broker.backend()]).options(["--cancel-grace", "20s"]).start();
    wait_for_external(&broker, 1);
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "long".into(), ..RequestMeta::default() };
    client.send_native(&meta, b"sleep 60000");
    crew.wait_for_in_flight(1);
    client.send_native(&RequestMeta { cancel: true, ..meta }, b"");
    assert_eq!(client.receive_native().0.status, Status::Cancelled);
    let pid = crew.workers()[&0].to_string();
    assert_eq!(broker.ask("pid"), pid, "the same worker goes on");
    // And one that is out of time.
    let late = RequestMeta { timeout_ms: Some(100), ..RequestMeta::default() };
    client.send_native(&late, b"sleep 60000");
    assert_eq!(client.receive_native().0.status, Status::Timeout);
    assert_eq!(broker.ask("pid"), pid);
}

#[test]
fn a_worker_that_dies_is_replaced_by_its_crew_and_its_request_tried_by_another() {
    let broker = broker();
    let crew = crew_of(&broker, 2);
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    let report = crew.wait_for_in_flight(1);
    let busy = report.workers.iter().find(|worker| worker.state == "processing").unwrap().pid.unwrap();
    send(busy, SIGKILL);
    assert_eq!(client.receive(), [b"slept 500"]);
    assert_eq!(broker.status().requests.retried, 1);
    crew.wait_for_idle(2);
    wait_for_external(&broker, 2);
    // One that nobody can do is given up after as many attempts as the broker allows.
    let client = broker.client();
    client.send(&[b"kill9"]);
    client.receive_error(Status::Lost);
    // What cannot be read costs one worker, and its client hears of it.
    client.send(&[b"junk"]);
    client.receive_error(Status::Error);
    crew.wait_for_idle(2);
    wait_for_external(&broker, 2);
    assert_eq!(broker.ask("echo x"), "x");
    broker.check_counters();
}

#[test]
fn a_crew_is_operated_like_a_broker() {
    let broker = broker();
    let crew = crew_of(&broker, 1);
    crew.signal(SIGTTIN);
    wait_for_external(&broker, 2);
    assert!(matches!(
        crew.order(&ControlRequest::Scale(Scale::To(3))),
        ControlResponse::Scaled { from: 2, to: 3 }
    ));
    wait_for_external(&broker, 3);
    crew.order(&ControlRequest::Scale(Scale::To(1)));
    wait_for_external(&broker, 1);
    let before = crew.workers();
    crew.signal(SIGHUP);
    crew.wait_until("there is another generation", |report| {
        report.pool.generation == 1 && report.pool.reload.is_none() && report.workers.len() == 1
    });
    assert_ne!(crew.workers(), before);
    wait_for_external(&broker, 1);
    assert_eq!(broker.ask("echo x"), "x");
    // While it is paused its workers are nobody's.
    crew.order(&ControlRequest::Pause { refuse: false });
    wait_for_external(&broker, 0);
    crew.order(&ControlRequest::Resume);
    wait_for_external(&broker, 1);
    let ready = ControlResponse::Check { ready: true, reason: "ready".into() };
    assert_eq!(crew.order(&ControlRequest::Check), ready);
}

#[test]
fn a_request_that_ends_workers_of_a_crew_by_itself_is_poison() {
    let broker = broker();
    let crew = crew_of(&broker, 2);
    assert_eq!(broker.ask("exit 9"), "ERR poison 2 workers ended while they had it, the last: exit code 9");
    crew.wait_for_idle(2);
    wait_for_external(&broker, 2);
    // Of a signal that anybody can have sent nobody knows whose doing it was.
    assert_eq!(broker.ask("kill9"), "ERR lost 2 workers ended without a reply, the last: killed by signal 9");
    let report = broker.wait_until("the end is counted", |report| refused(report, Status::Lost) == 1);
    assert_eq!((refused(&report, Status::Poison), report.requests.retried), (1, 2));
    broker.check_counters();
    crew.check_counters();
}

#[test]
fn a_crews_parent_takes_the_signals_of_a_broker() {
    let folder = Folder::new();
    let (file, rotated) = (folder.file("log"), folder.file("log.1"));
    let broker = broker();
    let logs = ["--drain", "100ms", "--log-file", file.to_str().unwrap()];
    let mut crew = Serve::crew(2, [broker.backend()]).options(logs).start();
    wait_for_external(&broker, 2);
    crew.signal(SIGTTOU);
    wait_for_external(&broker, 1);
    fs::rename(&file, &rotated).unwrap();
    crew.signal(SIGUSR1);
    eventually("there is a new file", || file.exists());
    // Longer than `--drain` allows, and QUIT waits for it all the same.
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    crew.wait_for_in_flight(1);
    crew.signal(SIGQUIT);
    assert_eq!(client.receive(), [b"slept 500"]);
    assert_eq!(crew.wait().code(), Some(0));
    wait_for_external(&broker, 0);
    assert_eq!(broker.status().requests.retried, 0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("stopped"), "what was logged later is in the new file: {text}");
}

#[test]
fn a_crew_that_stops_finishes_what_it_has() {
    let broker = broker();
    let mut crew = crew_of(&broker, 2);
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    crew.wait_for_in_flight(1);
    crew.signal(SIGTERM);
    // The idle one is offered no more, the busy one until it has replied.
    broker.wait_until("one is left", |report| report.external.len() == 1);
    assert_eq!(client.receive(), [b"slept 500"]);
    assert_eq!(crew.wait().code(), Some(0));
    wait_for_external(&broker, 0);
    assert_eq!(broker.status().requests.retried, 0);
}

#[test]
fn a_killed_agent_costs_what_was_in_hand_and_no_worker() {
    let broker = broker();
    let crew = crew_of(&broker, 2);
    let workers = crew.workers();
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    crew.wait_for_in_flight(1);
    send(crew.router_pid(), SIGKILL);
    assert_eq!(client.receive(), [b"slept 500"]);
    assert_eq!(broker.status().requests.retried, 1);
    wait_for_external(&broker, 2);
    assert_eq!(crew.workers(), workers);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_killed_crew_leaves_nothing_behind_and_its_work_goes_to_another() {
    let broker = broker();
    let mut killed = crew_of(&broker, 1);
    let client = broker.client();
    client.send(&[b"sleep 500"]);
    killed.wait_for_in_flight(1);
    let other = Serve::crew(1, [broker.backend()]).start();
    broker.wait_until("both are known", |report| report.external.len() == 2);
    killed.let_it_fail();
    send(killed.pid(), SIGKILL);
    killed.wait();
    killed.wait_until_nothing_is_left();
    assert_eq!(client.receive(), [b"slept 500"]);
    other.wait_for_idle(1);
    wait_for_external(&broker, 1);
}

#[test]
fn programs_that_know_no_zeromq_and_plain_workers_serve_from_elsewhere_too() {
    let broker = broker();
    let each = Serve::crew(2, [broker.backend()]).options(["--each"]).program(["tr", "a-z", "A-Z"]).start();
    wait_for_external(&broker, 2);
    for _ in 0..10 {
        assert_eq!(broker.ask("ahoy"), "AHOY");
    }
    drop(each);
    wait_for_external(&broker, 0);
    let fresh = Serve::crew(2, [broker.backend()]).options(["--max-requests", "1"]).start();
    wait_for_external(&broker, 2);
    for _ in 0..10 {
        assert_eq!(broker.ask("echo x"), "x");
    }
    assert_eq!(broker.status().requests.retried, 0, "a worker that is replaced takes no job along");
    drop(fresh);
}

#[test]
fn a_crew_may_serve_a_service_of_its_own() {
    let broker = broker();
    let crew = Serve::crew(1, [broker.backend()]).options(["--service", "images"]).start();
    broker.wait_until("the service is there", |report| {
        report.external.iter().any(|worker| worker.service.as_deref() == Some("images"))
    });
    let client = Client::dealer(broker.frontend());
    let images = RequestMeta { service: Some("images".into()), ..RequestMeta::default() };
    client.send_native(&images, b"upper x");
    assert_eq!(client.receive_native().1, [b"X"]);
    drop(crew);
}

#[test]
fn what_a_crew_cannot_do_is_refused_with_a_sentence() {
    for (arguments, words) in [
        (&["--connect", "tcp://broker.invalid:6661"][..], "--insecure"),
        (&["--connect", "*:6661"], "name one machine"),
        (&["--connect", "6661,6661"], "twice"),
        (&["--connect", "6661", "--attempts", "3"], "hornpipe serve"),
        (&["--connect", "6661", "--name", "6661"], "begins with a letter"),
        (&["-n", "2"], "--connect"),
    ] {
        let arguments = [&["worker"], arguments].concat();
        let ended = Process::run(hornpipe(), &arguments);
        assert_eq!(ended.code(), Some(2), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{arguments:?}: {}", ended.stderr);
    }
    let ended = Process::run(hornpipe(), &["status", "no-such-crew"]);
    assert_eq!(ended.code(), Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains("crew no-such-crew"), "{}", ended.stderr);
}

#[test]
fn several_workers_of_one_connection_are_kept_apart() {
    let broker = broker();
    let member = |member| Announcement { member: Some(member), ..Announcement::default() };
    let agent = NativeWorker::connect(broker.backend(), &member(1));
    agent.announce("waiting", &member(7));
    broker.wait_until("both are known", |report| report.external.len() == 2);
    let clients = [broker.client(), broker.client()];
    for client in &clients {
        client.send(&[b"x"]);
    }
    let mut jobs = [1, 2].map(|_| match agent.receive() {
        (BrokerMessage::Job { token, meta: Some(meta) }, _body) => (meta.member, token),
        other => panic!("no job: {other:?}"),
    });
    jobs.sort();
    assert_eq!([jobs[0].0, jobs[1].0], [Some(1), Some(7)]);
    // One leaves, and what it had not seen goes to the other when that is free.
    agent.announce("exiting", &member(7));
    broker.wait_until("one has left", |report| report.external.len() == 1);
    // What it says afterwards is nobody's reply.
    agent.reply(&jobs[1].1, &ReplyMeta::default(), b"late");
    agent.reply(&jobs[0].1, &ReplyMeta::default(), b"first");
    let (BrokerMessage::Job { token, meta: Some(meta) }, _body) = agent.receive() else { panic!("no job") };
    assert_eq!((meta.member, meta.attempt), (Some(1), 1), "it was never tried");
    agent.reply(&token, &ReplyMeta::default(), b"second");
    let mut replies = clients.map(|client| client.receive().remove(0));
    replies.sort();
    assert_eq!(replies, [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(broker.status().noise.stale_replies, 1);
    // Rubbish costs the connection's workers their trust, and nobody else anything.
    agent.announce("nonsense", &member(1));
    agent.announce("waiting", &Announcement::default());
    agent.announce("exiting", &member(99));
    eventually("it is counted", || broker.status().noise.malformed_workers >= 2);
    agent.announce("waiting", &member(1));
    let client = broker.client();
    client.send(&[b"x"]);
    let (BrokerMessage::Job { token, .. }, _body) = agent.receive() else { panic!("no job") };
    agent.reply(&token, &ReplyMeta::default(), b"third");
    assert_eq!(client.receive(), [b"third"]);
    drop(agent);
    broker.wait_until("all have left", |report| report.external.is_empty());
    assert!(is_alive(broker.router_pid()));
}
