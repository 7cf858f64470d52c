//! Several services in one broker: from a file, brought by workers from elsewhere, and each
//! left alone by what happens to the others.

use std::collections::BTreeMap;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_proto::control::{
    ControlRequest, ControlResponse, ReloadOutcome, Scale, ServiceReport, ServiceRequest, StatusReport,
};
use hornpipe_proto::worker::{Announcement, BrokerMessage, JobMeta, ReplyMeta};
use hornpipe_tests::harness::{
    Breakable, Broker, Client, NativeWorker, Process, Serve, eventually, hornpipe, refused, send,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTTIN, SIGUSR2};

/// The demo worker as the default service, and these tables.
fn file(workers: u32, more: &str) -> String {
    format!("frontend = 0\nbackend = 0\ndrain = \"2s\"\nworkers = {workers}\n{}\n{more}", demo())
}

fn demo() -> String {
    format!("program = [{:?}, \"worker\", \"demo\"]", hornpipe().display().to_string())
}

/// A service with so many demo workers.
fn service(name: &str, workers: u32) -> String {
    format!("[service.{name}]\nworkers = {workers}\n{}\n", demo())
}

fn two(default: u32, images: u32) -> Broker {
    Serve::file(&file(default, &service("images", images)), default + images).start()
}

/// A request for a service by its name.
fn send_to(client: &Client, service: &str, body: &str) {
    let meta = RequestMeta { service: Some(service.into()), ..RequestMeta::default() };
    client.send_native(&meta, body.as_bytes());
}

fn answer(client: &Client) -> (Status, String) {
    let (meta, body) = client.receive_native();
    let body = body.concat();
    (meta.status, String::from_utf8(body).unwrap())
}

fn ask(broker: &Broker, service: &str, body: &str) -> (Status, String) {
    let client = Client::dealer(broker.frontend());
    send_to(&client, service, body);
    answer(&client)
}

fn of<'a>(report: &'a StatusReport, name: &str) -> Option<&'a ServiceReport> {
    report.services.iter().find(|service| service.name == name)
}

fn order(broker: &Broker, name: &str, request: ServiceRequest) -> ControlResponse {
    broker.order(&ControlRequest::Service { name: name.into(), request })
}

/// The pids of the workers of one service, by slot.
fn pids(broker: &Broker, name: &str) -> BTreeMap<u32, i32> {
    let report = broker.status();
    let own = report.workers.iter().filter(|worker| worker.service.as_deref() == Some(name));
    own.filter_map(|worker| Some((worker.slot, worker.pid?))).collect()
}

fn bring(broker: &Broker, name: &str) -> NativeWorker {
    let announcement = Announcement { service: Some(name.into()), ..Announcement::default() };
    let worker = NativeWorker::connect(broker.backend(), &announcement);
    broker.wait_until("the service is open", |report| of(report, name).is_some());
    worker
}

fn expect_job(worker: &NativeWorker) -> (Vec<u8>, JobMeta, Vec<u8>) {
    match worker.receive() {
        (BrokerMessage::Job { token, meta: Some(meta) }, body) => (token, meta, body.concat()),
        other => panic!("a job with details was expected: {other:?}"),
    }
}

#[test]
fn services_of_a_file_have_programs_pools_and_slots_of_their_own() {
    let images = "[service.images]\nworkers = 1\neach = true\n\
                  program = ['sh', '-c', 'printf \"%s %s \" $HORNPIPE_SERVICE $HORNPIPE_SLOT; cat']\n";
    let broker = Serve::file(&file(2, images), 3).start();
    assert_eq!(ask(&broker, "images", "ahoy"), (Status::Ok, "images 10000 ahoy".into()));
    assert_eq!(ask(&broker, "default", "upper ahoy"), (Status::Ok, "AHOY".into()));
    assert_eq!(broker.ask("upper plain"), "PLAIN");
    assert_eq!(ask(&broker, "mail", "ahoy").0, Status::NoService);
    let report = broker.status();
    let slots: Vec<_> =
        report.workers.iter().map(|worker| (worker.slot, worker.service.as_deref().unwrap())).collect();
    assert_eq!(slots, [(0, "default"), (1, "default"), (10_000, "images")]);
    assert_eq!((report.pool.target, report.requests.received, report.requests.answered), (3, 4, 3));
    let (default, images) = (of(&report, "default").unwrap(), of(&report, "images").unwrap());
    assert_eq!((default.pool.target, default.requests.answered), (2, 2));
    assert_eq!((images.pool.target, images.requests.answered), (1, 1));
    assert_eq!(refused(&report, Status::NoService), 1);
    broker.check_counters();
}

#[test]
fn a_service_that_cannot_start_is_the_end_of_all() {
    let broken = "[service.images]\nworkers = 1\nprogram = ['false']\n";
    let outcome = Serve::file(&file(1, broken), 2).run();
    assert_eq!(outcome.ended.code(), Some(3), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains("service=images"), "{}", outcome.ended.stderr);
    assert_eq!(outcome.left, "");
}

#[test]
fn a_worker_from_elsewhere_opens_a_service_and_it_goes_when_nobody_is_left() {
    let broker = Serve::bare(0).start();
    assert_eq!(ask(&broker, "mail", "x").0, Status::NoService);
    let worker = bring(&broker, "mail");
    let client = Client::dealer(broker.frontend());
    send_to(&client, "mail", "letter");
    let (token, meta, body) = expect_job(&worker);
    assert_eq!((meta.service.as_deref(), body.as_slice()), (Some("mail"), b"letter".as_slice()));
    worker.reply(&token, &ReplyMeta::default(), b"sent");
    assert_eq!(answer(&client), (Status::Ok, "sent".into()));
    // What it holds at its end waits for another for a while, and is told that none comes.
    send_to(&client, "mail", "second");
    expect_job(&worker);
    drop(worker);
    assert_eq!(answer(&client).0, Status::Unavailable);
    let report = broker.wait_until("it is closed", |report| of(report, "mail").is_none());
    assert_eq!((report.requests.received, report.requests.answered), (3, 1));
    assert_eq!(ask(&broker, "mail", "x").0, Status::NoService);
    broker.check_counters();
}

#[test]
fn a_request_waits_for_the_next_worker_of_an_open_service() {
    let broker = Serve::bare(0).start();
    let first = bring(&broker, "mail");
    let client = Client::dealer(broker.frontend());
    send_to(&client, "mail", "letter");
    expect_job(&first);
    drop(first);
    let second = bring(&broker, "mail");
    let (token, meta, _body) = expect_job(&second);
    assert_eq!(meta.attempt, 2);
    second.reply(&token, &ReplyMeta::default(), b"sent");
    assert_eq!(answer(&client), (Status::Ok, "sent".into()));
    assert!(of(&broker.status(), "mail").is_some());
}

#[test]
fn a_worker_goes_to_another_service_by_naming_it() {
    let broker = Serve::bare(0).start();
    let worker = bring(&broker, "mail");
    let client = Client::dealer(broker.frontend());
    send_to(&client, "mail", "letter");
    let (stale, _meta, _body) = expect_job(&worker);
    // It has received one job in all, which it gives up.
    let moved = Announcement { service: Some("images".into()), seen: 1, ..Announcement::default() };
    worker.announce("waiting", &moved);
    broker.wait_until("it belongs there", |report| {
        of(report, "images").is_some_and(|service| service.pool.ready == 1)
    });
    let images = Client::dealer(broker.frontend());
    send_to(&images, "images", "picture");
    let (token, meta, _body) = expect_job(&worker);
    assert_eq!(meta.service.as_deref(), Some("images"));
    // It says so once more, and has received two: the second is not lost by that.
    worker.announce("processing", &Announcement { seen: 2, ..moved });
    worker.reply(&stale, &ReplyMeta::default(), b"too late");
    worker.reply(&token, &ReplyMeta::default(), b"seen");
    assert_eq!(answer(&images), (Status::Ok, "seen".into()));
    let other = bring(&broker, "mail");
    let (token, meta, _body) = expect_job(&other);
    assert_eq!(meta.attempt, 2);
    other.reply(&token, &ReplyMeta::default(), b"sent");
    assert_eq!(answer(&client), (Status::Ok, "sent".into()));
    broker.check_counters();
}

#[test]
fn a_service_with_an_unfit_name_is_not_opened() {
    let broker = Serve::bare(0).start();
    let announcement = Announcement { service: Some("../etc \x1b[31m".into()), ..Announcement::default() };
    let _worker = NativeWorker::connect(broker.backend(), &announcement);
    let report = broker.wait_until("it is counted", |report| report.noise.services_refused == 1);
    assert_eq!(report.services.len(), 1);
    assert_eq!(report.external[0].service, None);
    broker.wait_for_log("is no name for a service");
    assert!(!broker.log().contains('\x1b'));
}

#[test]
fn scaling_and_reloading_one_service_leaves_the_other_alone() {
    let broker = two(2, 1);
    let before = pids(&broker, "default");
    let scaled = order(&broker, "images", ServiceRequest::Scale(Scale::By(2)));
    assert_eq!(scaled, ControlResponse::Scaled { from: 1, to: 3 });
    broker.wait_for_idle(5);
    let images = pids(&broker, "images");
    assert_eq!(images.keys().copied().collect::<Vec<_>>(), [10_000, 10_001, 10_002]);
    let reload = ServiceRequest::Reload { surge: None, wait: true };
    let ControlResponse::Reload(report) = order(&broker, "images", reload) else { panic!("no report") };
    assert_eq!(report.outcome, ReloadOutcome::Finished { workers: 3 });
    assert_eq!((report.generation, report.service.as_deref()), (1, Some("images")));
    broker.wait_for_idle(5);
    assert!(pids(&broker, "images").values().all(|pid| !images.values().any(|old| old == pid)));
    assert_eq!(pids(&broker, "default"), before);
    let report = broker.status();
    assert_eq!(of(&report, "default").unwrap().pool.generation, 0);
    assert_eq!(of(&report, "images").unwrap().pool.generation, 1);
}

#[test]
fn a_signal_to_reload_is_for_all_and_one_to_grow_for_the_default_service() {
    let broker = two(1, 1);
    broker.signal(SIGTTIN);
    broker.wait_for_idle(3);
    assert_eq!((pids(&broker, "default").len(), pids(&broker, "images").len()), (2, 1));
    broker.signal(SIGHUP);
    broker.wait_until("both are renewed", |report| {
        report.services.iter().all(|service| service.pool.generation == 1 && service.pool.reload.is_none())
    });
    let ControlResponse::Reload(report) = broker.order(&ControlRequest::Reload { surge: None, wait: true })
    else {
        panic!("no report")
    };
    assert_eq!((report.generation, report.outcome), (2, ReloadOutcome::Finished { workers: 3 }));
}

#[test]
fn a_router_death_costs_no_worker_of_any_service() {
    let broker = two(2, 1);
    order(&broker, "images", ServiceRequest::Scale(Scale::To(2)));
    broker.wait_for_idle(4);
    let before = (pids(&broker, "default"), pids(&broker, "images"));
    let router = broker.router_pid();
    assert!(send(router, SIGKILL));
    broker.wait_until("there is another router with all its workers", |report| {
        report.router_pid != router && report.pool.ready == 4
    });
    assert_eq!((pids(&broker, "default"), pids(&broker, "images")), before);
    assert_eq!(of(&broker.status(), "images").unwrap().pool.target, 2);
    assert_eq!(ask(&broker, "images", "upper still"), (Status::Ok, "STILL".into()));
    assert_eq!(broker.ask("upper here"), "HERE");
}

#[test]
fn a_broken_service_fails_by_itself() {
    let program = Breakable::new();
    let words: Vec<String> =
        program.program().iter().map(|word| format!("{:?}", word.to_str().unwrap())).collect();
    let images = format!("[service.images]\nworkers = 1\nprogram = [{}]\n", words.join(", "));
    let broker = Serve::file(&file(1, &images), 2).start();
    let before = pids(&broker, "default");
    program.break_it();
    assert!(send(pids(&broker, "images")[&10_000], SIGKILL));
    broker.wait_until("it fails", |report| of(report, "images").unwrap().phase == "failing");
    assert_eq!(ask(&broker, "images", "x").0, Status::Unavailable);
    assert_eq!(broker.ask("upper fine"), "FINE");
    let report = broker.status();
    assert_eq!(
        (of(&report, "default").unwrap().phase.as_str(), report.phase.as_str()),
        ("serving", "failing")
    );
    let check = |request: &ControlRequest| match broker.order(request) {
        ControlResponse::Check { ready, reason } => (ready, reason),
        other => panic!("no check: {other:?}"),
    };
    assert_eq!(check(&ControlRequest::Check), (false, "images: failing: workers cannot start".into()));
    let own = ControlRequest::Service { name: "default".into(), request: ServiceRequest::Check };
    assert_eq!(check(&own), (true, "ready".into()));
    program.mend();
    broker.wait_until("it serves again", |report| report.phase == "serving");
    assert_eq!(ask(&broker, "images", "upper again"), (Status::Ok, "AGAIN".into()));
    assert_eq!(pids(&broker, "default"), before);
}

#[test]
fn resizing_a_service_under_load_loses_nothing_and_delays_no_other() {
    const REQUESTS: usize = 400;
    let broker = two(1, 2);
    let client = Client::dealer(broker.frontend());
    for _request in 0..REQUESTS {
        send_to(&client, "images", "sleep 5");
    }
    for target in [6, 1, 4, 2] {
        order(&broker, "images", ServiceRequest::Scale(Scale::To(target)));
        // Behind all of them it would have to wait.
        assert_eq!(broker.ask("upper at once"), "AT ONCE");
        broker.wait_until("the pool has come to its target", |report| {
            let own = report.workers.iter().filter(|worker| worker.service.as_deref() == Some("images"));
            own.count() == target as usize
        });
    }
    for _request in 0..REQUESTS {
        assert_eq!(answer(&client).0, Status::Ok);
    }
    let report = broker.status();
    let images = of(&report, "images").unwrap();
    assert_eq!((images.requests.answered, images.requests.retried), (REQUESTS as u64, 0));
    broker.check_counters();
}

#[test]
fn a_file_read_again_changes_one_service_under_load_and_loses_nothing() {
    const REQUESTS: usize = 300;
    let broker = two(1, 1);
    let before = pids(&broker, "default");
    let client = Client::dealer(broker.frontend());
    for _request in 0..REQUESTS {
        send_to(&client, "images", "sleep 5");
    }
    let marked = format!("{}env = [\"MARK=new\"]\n", service("images", 4));
    broker.rewrite_file(&file(1, &marked));
    broker.signal(SIGHUP);
    broker.wait_until("it has its new size, of a new generation", |report| {
        let images = of(report, "images").unwrap();
        (images.pool.target, images.pool.generation, images.pool.reload) == (4, 1, None)
    });
    for _request in 0..REQUESTS {
        assert_eq!(answer(&client).0, Status::Ok);
    }
    let report = broker.wait_for_idle(5);
    assert_eq!(of(&report, "default").unwrap().pool.target, 1);
    assert_eq!(of(&report, "images").unwrap().requests.answered, REQUESTS as u64);
    // Its workers are made as the file says now, those of the other service as ever.
    let has_mark = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).unwrap().windows(8).any(|one| one == b"MARK=new")
    };
    assert!(pids(&broker, "images").values().all(has_mark));
    assert!(!pids(&broker, "default").values().any(has_mark));
    // HUP is for all of them.
    assert!(pids(&broker, "default").values().all(|pid| !before.values().any(|old| old == pid)));
    broker.check_counters();
}

#[test]
fn an_upgrade_with_another_file_keeps_each_services_workers_and_slots() {
    let broker = two(1, 1);
    let before = (pids(&broker, "default"), pids(&broker, "images"));
    // Now it is the second of three, and was the first of two.
    broker.rewrite_file(&file(1, &(service("audio", 1) + &service("images", 1))));
    let router = broker.router_pid();
    broker.signal(SIGUSR2);
    broker.wait_until("the next router has all workers", |report| {
        report.router_pid != router && report.pool.ready == 3
    });
    assert_eq!((pids(&broker, "default"), pids(&broker, "images")), before);
    assert_eq!(pids(&broker, "audio").into_keys().collect::<Vec<_>>(), [20_000]);
    // And now it is not there any more: its workers finish and go.
    broker.rewrite_file(&file(1, &service("audio", 1)));
    let router = broker.router_pid();
    broker.signal(SIGUSR2);
    broker.wait_until("its worker is gone, and so is it", |report| {
        report.router_pid != router && report.pool.ready == 2 && of(report, "images").is_none()
    });
    assert_eq!(pids(&broker, "default"), before.0);
    assert_eq!(ask(&broker, "images", "x").0, Status::NoService);
}

#[test]
fn verbs_name_a_service_and_an_unknown_one_is_told_which_there_are() {
    let broker = two(1, 1);
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let run = |words: &[&str]| Process::run(hornpipe(), &[words, &["--control", &control]].concat());
    let ended = run(&["scale", &port, "+1", "--service", "images"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "workers: 1 -> 2\n"));
    let ended = run(&["scale", &port, "+1", "--service", "nobody"]);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("there are default, images"), "{}", ended.stderr);
    broker.wait_for_idle(3);
    let ended = run(&["reload", &port, "--wait", "--service", "images"]);
    assert_eq!(
        (ended.code(), ended.stdout.as_str()),
        (Some(0), "images: reloaded: generation 1, 2 workers\n")
    );
    assert_eq!(run(&["check", &port, "--service", "images"]).code(), Some(0));
    let ended = run(&["status", &port]);
    assert!(ended.stdout.contains("\nimages   serving  2      2 "), "{}", ended.stdout);
    let asked = Process::run(hornpipe(), &["req", "-s", "images", &port, "upper ahoy"]);
    assert_eq!(asked.stdout, "AHOY\n");
}

#[test]
fn poison_has_one_numbering_and_each_service_its_own() {
    let broker = two(1, 1);
    assert_eq!(ask(&broker, "images", "exit 3").0, Status::Poison);
    assert_eq!(ask(&broker, "default", "exit 3").0, Status::Poison);
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let run = |words: &[&str]| Process::run(hornpipe(), &[words, &["--control", &control]].concat());
    let listed = |words: &[&str]| {
        let value: serde_json::Value = serde_json::from_str(&run(words).stdout).unwrap();
        let entries = value["entries"].as_array().unwrap().clone();
        entries
            .iter()
            .map(|entry| (entry["number"].as_u64().unwrap(), entry["service"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let (images, default) = ((1, "images".to_owned()), (2, "default".to_owned()));
    assert_eq!(listed(&["poison", "list", &port, "--json"]), [images.clone(), default.clone()]);
    assert_eq!(listed(&["poison", "list", &port, "--json", "--service", "images"]), [images]);
    broker.wait_for_idle(2);
    assert_eq!(run(&["poison", "retry", &port, "1"]).code(), Some(4));
    assert_eq!(run(&["poison", "drop", &port, "--all", "--service", "images"]).code(), Some(0));
    assert_eq!(listed(&["poison", "list", &port, "--json"]), [default]);
}

#[test]
fn lines_of_requests_and_events_name_the_service() {
    let text = file(1, &service("images", 1));
    let broker = Serve::file(&text, 2).options(["--access-log"]).start();
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let verb = Process::start(hornpipe(), &["events", &port, "--control", &control, "--json"]);
    eventually("the stream has begun", || verb.stdout().contains("\"event\":\"hello\""));
    assert_eq!(ask(&broker, "images", "echo x").0, Status::Ok);
    assert_eq!(broker.ask("echo x"), "x");
    for (name, slot) in [("images", 10_000), ("default", 0)] {
        let line = format!("service={name} client=");
        eventually("its request is told", || {
            broker.log().lines().any(|told| told.contains(&line) && told.contains(&format!(" slot={slot} ")))
        });
    }
    order(&broker, "images", ServiceRequest::Scale(Scale::To(2)));
    broker.order(&ControlRequest::Scale(Scale::To(2)));
    let told = |named: bool| {
        let changes = verb.stdout();
        let mut changes = changes.lines().filter(|line| line.contains("\"event\":\"target_changed\""));
        changes.any(|line| line.contains("\"service\":\"images\"") == named)
    };
    eventually("both changes are told, one with its service", || told(true) && told(false));
}

#[test]
fn a_pause_is_for_all_services_also_for_those_that_open_meanwhile() {
    let broker = two(1, 1);
    broker.order(&ControlRequest::Pause { refuse: false });
    let worker = bring(&broker, "mail");
    let clients = ["default", "images", "mail"].map(|name| {
        let client = Client::dealer(broker.frontend());
        send_to(&client, name, "echo held");
        client
    });
    let report = broker.wait_until("all of them wait", |report| report.requests.waiting == 3);
    assert_eq!((report.phase.as_str(), report.requests.in_flight), ("paused", 0));
    broker.order(&ControlRequest::Resume);
    for client in &clients[..2] {
        assert_eq!(answer(client), (Status::Ok, "held".into()));
    }
    let (token, _meta, body) = expect_job(&worker);
    worker.reply(&token, &ReplyMeta::default(), &body);
    assert_eq!(answer(&clients[2]), (Status::Ok, "echo held".into()));
    broker.check_counters();
}
