//! What a service manager hears, read from its socket as it would: in which order, from
//! whom, and when it hears nothing.

use std::fs;
use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, Folder, Process, Serve, ServiceManager, eventually, hornpipe, let_pass, send, state_of,
};
use nix::sys::signal::Signal::{SIGCONT, SIGHUP, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR2};
use nix::time::{ClockId, clock_gettime};

/// For `Serve::demo`, with somebody who listens.
fn supervised(serve: Serve, manager: &ServiceManager) -> Serve {
    serve.variable("NOTIFY_SOCKET", manager.name())
}

/// The watchdog names the process that it watches, as systemd does.
fn watched(serve: Serve, manager: &ServiceManager, time: Duration) -> Serve {
    supervised(serve, manager)
        .variable("WATCHDOG_USEC", time.as_micros().to_string())
        .under_shell(r#"WATCHDOG_PID=$$ exec "$@""#)
}

fn microseconds() -> u128 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros()
}

fn verb(broker: &Broker, words: &[&str]) -> Option<i32> {
    let control = broker.control().display().to_string();
    let port = broker.frontend_port().to_string();
    Process::run(hornpipe(), &[&[words[0], &port, "--control", &control], &words[1..]].concat()).code()
}

/// Demo workers whose program can be broken, and mended.
fn breakable(folder: &Folder) -> Serve {
    let command = format!(
        "if [ -e {} ]; then echo broken on purpose; exit 1; fi; exec {} worker demo",
        folder.file("broken").display(),
        hornpipe().display()
    );
    Serve::bare(2).program(["sh", "-c", &command])
}

#[test]
fn it_is_ready_when_a_worker_is_and_names_the_main_process() {
    let (manager, folder) = (ServiceManager::new(), Folder::new());
    let go = folder.file("go");
    let wait = format!(
        "until [ -e {} ]; do sleep 0.05; done; exec {} worker demo",
        go.display(),
        hornpipe().display()
    );
    let serve = Serve::bare(1).program(["sh", "-c", &wait]).options(["--boot-timeout", "60s"]);
    let broker = supervised(serve, &manager).spawn();
    manager.wait_for_sentence(|status| status == "starting: no worker is ready, 0 waiting");
    broker.wait_until("a worker is about to start", |report| {
        report.workers.iter().any(|worker| worker.pid.is_some())
    });
    assert!(manager.all().iter().all(|message| message.value("READY").is_none()), "{:?}", manager.all());
    fs::write(go, "").unwrap();
    let message = manager.expect("READY=1");
    assert_eq!(message.value("MAINPID"), Some(broker.pid().to_string().as_str()));
    manager.wait_for_sentence(|status| status == "1 worker, 0 busy, 0 waiting");
    broker.wait_for_idle(1);
    assert!(manager.all().iter().all(|message| message.pid == broker.pid()), "{:?}", manager.all());
}

#[test]
fn without_workers_of_its_own_it_is_ready_at_once() {
    let manager = ServiceManager::without_a_file();
    let _broker = supervised(Serve::bare(0), &manager).start();
    manager.expect("READY=1");
    manager.wait_for_sentence(|status| status == "0 workers, 0 busy, 0 waiting");
}

#[test]
fn the_sentence_follows_the_load_about_once_a_second_and_is_silent_when_nothing_changes() {
    let manager = ServiceManager::new();
    let broker = supervised(Serve::demo(2), &manager).start();
    manager.expect("READY=1");
    let clients: Vec<_> = (0..3).map(|_client| broker.client()).collect();
    for client in &clients {
        client.send(&[b"sleep 3000"]);
    }
    manager.wait_for_sentence(|status| status == "2 workers, 2 busy, 1 waiting");
    for client in &clients {
        client.receive();
    }
    manager.wait_for_sentence(|status| status == "2 workers, 0 busy, 0 waiting");
    // Thousands of changes are a few lines.
    manager.news();
    let client = broker.client();
    let before = microseconds();
    while microseconds() - before < 3_000_000 {
        client.ask_text("echo x");
    }
    let seconds = usize::try_from((microseconds() - before) / 1_000_000).unwrap();
    let told = manager.news();
    assert!(told.len() <= seconds + 2, "{seconds} s: {told:#?}");
    manager_is_left_alone(&broker, &manager);
}

/// Nobody is told anything, and the parent sleeps.
fn manager_is_left_alone(broker: &Broker, manager: &ServiceManager) {
    let_pass(Duration::from_millis(1500));
    manager.news();
    let before = wake_ups(broker.pid());
    let_pass(Duration::from_secs(3));
    assert_eq!(manager.news(), []);
    assert_eq!(wake_ups(broker.pid()), before, "an idle parent is woken");
}

fn wake_ups(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_reload_is_told_with_its_time_and_so_is_its_end() {
    let manager = ServiceManager::new();
    let broker = supervised(Serve::demo(2), &manager).start();
    manager.expect("READY=1");
    for generation in 1..=3 {
        let before = microseconds();
        broker.signal(SIGHUP);
        let reloading = manager.expect("RELOADING=1");
        let time: u128 = reloading.value("MONOTONIC_USEC").unwrap().parse().unwrap();
        assert!(before <= time && time <= microseconds(), "{before} {time}");
        manager.expect("READY=1");
        let report = broker.status();
        assert_eq!((report.pool.generation, report.pool.reload.is_none()), (generation, true));
    }
    // One that an operator asks for is told as well.
    assert_eq!(verb(&broker, &["reload", "--wait"]), Some(0));
    manager.expect("RELOADING=1");
    manager.expect("READY=1");
    assert!(manager.all().iter().all(|message| message.pid == broker.pid()), "{:?}", manager.all());
}

#[test]
fn a_reload_that_fails_ends_too_and_the_sentence_says_why() {
    let (manager, folder) = (ServiceManager::new(), Folder::new());
    let broker = supervised(breakable(&folder), &manager).start();
    manager.expect("READY=1");
    fs::write(folder.file("broken"), "").unwrap();
    broker.signal(SIGHUP);
    manager.expect("RELOADING=1");
    manager.expect("READY=1");
    let why = "2 workers, 0 busy, 0 waiting; reload to generation 1 failed: ";
    manager.wait_for_sentence(|status| status.starts_with(why));
    fs::remove_file(folder.file("broken")).unwrap();
    broker.signal(SIGHUP);
    manager.expect("RELOADING=1");
    manager.expect("READY=1");
    manager.wait_for_sentence(|status| status == "2 workers, 0 busy, 0 waiting");
}

#[test]
fn each_hup_is_told_also_one_that_takes_the_place_of_another() {
    let (manager, folder) = (ServiceManager::new(), Folder::new());
    let slow = format!("sleep 0.4; exec {} worker demo", hornpipe().display());
    let broker = supervised(Serve::bare(2).program(["sh", "-c", &slow]), &manager).start();
    manager.expect("READY=1");
    broker.signal(SIGHUP);
    let first = manager.expect("RELOADING=1");
    broker.wait_until("it reloads", |report| report.pool.reload.is_some());
    broker.signal(SIGHUP);
    let second = manager.expect("RELOADING=1");
    assert_ne!(first, second, "the second has a time of its own");
    manager.expect("READY=1");
    assert_eq!(broker.status().pool.generation, 2);
    drop(folder);
}

#[test]
fn a_stop_is_told_before_it_begins_with_the_time_that_it_may_take() {
    for (signal, time) in [(SIGTERM, "66"), (SIGQUIT, "30")] {
        let manager = ServiceManager::new();
        let mut broker = supervised(Serve::demo(1).options(["--drain", "60s"]), &manager).start();
        manager.expect("READY=1");
        let client = broker.client();
        client.send(&[b"sleep 1500"]);
        broker.wait_for_in_flight(1);
        broker.signal(signal);
        manager.expect("STOPPING=1");
        let extended = manager.wait_for("EXTEND_TIMEOUT_USEC", |_time| true);
        // The drain, 5 s for the router's end, and a little for what must be killed.
        let seconds = Duration::from_micros(extended.parse().unwrap()).as_secs_f64().round();
        assert!((seconds - time.parse::<f64>().unwrap()).abs() < 6.0, "{signal}: {seconds}");
        manager.wait_for_sentence(|status| status == "draining: 1 worker, 1 busy, 0 waiting");
        assert_eq!(client.receive(), [b"slept 1500"]);
        assert_eq!(broker.wait().code(), Some(0));
        let turns = manager.news().into_iter().filter(|message| message.value("READY").is_some());
        assert_eq!(turns.count(), 0, "nothing comes after a stop");
    }
}

#[test]
fn a_stop_by_the_verb_and_one_that_nobody_asked_for_are_told_too() {
    let manager = ServiceManager::new();
    let mut broker = supervised(Serve::demo(1), &manager).start();
    manager.expect("READY=1");
    assert_eq!(verb(&broker, &["stop"]), Some(0));
    manager.expect("STOPPING=1");
    assert_eq!(broker.wait().code(), Some(0));
    let manager = ServiceManager::new();
    let outcome = supervised(Serve::bare(1).program(["false"]), &manager).run();
    assert_eq!(outcome.ended.code(), Some(3), "{}", outcome.ended.stderr);
    manager.expect("STOPPING=1");
}

#[test]
fn the_watchdog_gets_its_signs_of_life_and_none_of_a_router_that_hangs() {
    let manager = ServiceManager::new();
    let time = Duration::from_millis(400);
    let broker = watched(Serve::demo(1), &manager, time).start();
    manager.expect("READY=1");
    let beats = |count: usize, what: &str| {
        manager.news();
        let mut heard = 0;
        eventually(what, || {
            heard += manager.news().iter().filter(|message| message.value("WATCHDOG") == Some("1")).count();
            count <= heard
        });
    };
    beats(4, "there are four signs of life");
    let router = broker.router_pid();
    send(router, SIGSTOP);
    eventually("the router is stopped", || state_of(router) == Some('T'));
    // An answer may be under way.
    let_pass(time);
    manager.news();
    let_pass(time * 5);
    assert_eq!(manager.news(), [], "the router hangs, and somebody says that it lives");
    send(router, SIGCONT);
    beats(4, "it goes on");
    // The next router is asked as this one was.
    send(router, SIGKILL);
    broker.wait_until("there is another", |report| report.router_life == 2 && report.pool.ready == 1);
    beats(4, "the next one lives");
    assert!(manager.all().iter().all(|message| message.pid == broker.pid()), "{:?}", manager.all());
    let turns = manager.all().iter().filter(|message| message.value("RELOADING").is_some()).count();
    assert_eq!(turns, 0, "the death of a router is no reload");
}

#[test]
fn a_watchdog_for_another_process_gets_nothing() {
    let manager = ServiceManager::new();
    let serve = supervised(Serve::demo(1), &manager).variable("WATCHDOG_USEC", "100000");
    let broker = serve.variable("WATCHDOG_PID", "1").start();
    manager.expect("READY=1");
    manager_is_left_alone(&broker, &manager);
    assert!(manager.all().iter().all(|message| message.value("WATCHDOG").is_none()));
}

#[test]
fn a_watchdog_that_cannot_be_read_is_refused() {
    let manager = ServiceManager::new();
    let outcome = supervised(Serve::demo(1), &manager).variable("WATCHDOG_USEC", "30s").run();
    assert_eq!(outcome.ended.code(), Some(2), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains("WATCHDOG_USEC is \"30s\""), "{}", outcome.ended.stderr);
}

#[test]
fn an_upgrade_is_a_reload_after_which_the_same_process_is_ready() {
    let manager = ServiceManager::new();
    let time = Duration::from_millis(400);
    let broker = watched(Serve::demo(2), &manager, time).start();
    let (pid, workers) = (broker.pid(), broker.workers());
    manager.expect("READY=1");
    for life in 2..=3 {
        let before = microseconds();
        broker.signal(SIGUSR2);
        let reloading = manager.expect("RELOADING=1");
        assert!(before <= reloading.value("MONOTONIC_USEC").unwrap().parse().unwrap());
        let ready = manager.expect("READY=1");
        assert_eq!(ready.value("MAINPID"), Some(pid.to_string().as_str()));
        let report = broker.status();
        assert_eq!((report.router_life, report.pid), (life, pid));
        manager.wait_for("WATCHDOG", |_value| true);
    }
    assert_eq!(broker.workers(), workers);
    assert!(manager.all().iter().all(|message| message.pid == pid), "{:?}", manager.all());
    broker.signal(SIGHUP);
    manager.expect("RELOADING=1");
    manager.expect("READY=1");
    drop(broker);
    manager.expect("STOPPING=1");
}

#[test]
fn an_upgrade_that_is_refused_is_not_told() {
    let (manager, folder) = (ServiceManager::new(), Folder::new());
    let link = folder.file("hornpipe");
    std::os::unix::fs::symlink(hornpipe(), &link).unwrap();
    let broker = supervised(Serve::demo(1).binary(&link), &manager).start();
    manager.expect("READY=1");
    fs::remove_file(&link).unwrap();
    assert_eq!(verb(&broker, &["upgrade"]), Some(1));
    drop(broker);
    manager.expect("STOPPING=1");
}

#[test]
fn a_hup_in_the_middle_of_an_upgrade_is_told_and_done() {
    let manager = ServiceManager::new();
    let broker = supervised(Serve::demo(2).options(["--drain", "20s"]), &manager).start();
    manager.expect("READY=1");
    let client = broker.client();
    client.send(&[b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGUSR2);
    manager.expect("RELOADING=1");
    broker.wait_until("it hands over", |report| report.phase == "handing over");
    let before = microseconds();
    broker.signal(SIGHUP);
    let again = manager.expect("RELOADING=1");
    assert!(before <= again.value("MONOTONIC_USEC").unwrap().parse().unwrap());
    assert_eq!(client.receive(), [b"slept 1500"]);
    manager.expect("READY=1");
    let report = broker.status();
    assert_eq!((report.router_life, report.pool.generation), (2, 1));
}

#[test]
fn a_manager_that_does_not_read_delays_nobody_and_hears_what_matters_later() {
    let manager = ServiceManager::new();
    let mut broker = watched(Serve::demo(1), &manager, Duration::from_millis(20)).start();
    // Its queue is full after some ten messages.
    let_pass(Duration::from_secs(1));
    for _request in 0..100 {
        assert_eq!(broker.ask("echo x"), "x");
    }
    let client = broker.client();
    client.send(&[b"sleep 1000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    broker.wait_until("it drains", |report| report.phase == "draining");
    manager.expect("READY=1");
    manager.expect("STOPPING=1");
    assert_eq!(client.receive(), [b"slept 1000"]);
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn a_socket_that_leads_nowhere_is_one_line_of_the_log() {
    for (name, words) in [
        ("/no/such/socket", "leads nowhere"),
        ("@hornpipe-nobody", "leads nowhere"),
        ("vsock:2:9", "of no use"),
    ] {
        let broker = Serve::demo(1).variable("NOTIFY_SOCKET", name).start();
        broker.signal(SIGHUP);
        broker.wait_until("it has reloaded", |report| report.pool.generation == 1);
        assert_eq!(broker.ask("echo x"), "x");
        let lines = broker.log().matches("service manager").count();
        assert_eq!((lines, broker.log().matches(words).count()), (1, 1), "{name}: {}", broker.log());
    }
}

#[test]
fn what_the_manager_says_is_not_for_workers() {
    let manager = ServiceManager::new();
    let time = Duration::from_mins(1);
    let variables = |broker: &Broker| {
        let found = broker.ask("");
        let ours = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_"];
        assert!(found.contains("HPTEST_MARK="), "{found}");
        assert!(!ours.iter().any(|name| found.contains(name)), "{found}");
    };
    let each = watched(Serve::bare(1).options(["--each"]).program(["env"]), &manager, time);
    variables(
        &each
            .variable("LISTEN_FDNAMES", "frontend")
            .variable("LISTEN_FDS", "1")
            .variable("LISTEN_PID", "1")
            .start(),
    );
    // A program that speaks the protocol, by what the kernel says of it.
    let broker = watched(Serve::demo(1), &manager, time).start();
    let environment = fs::read(format!("/proc/{}/environ", broker.workers()[&0])).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
}

#[test]
fn without_a_manager_an_idle_parent_is_never_woken() {
    let broker = Broker::demo(2);
    let_pass(Duration::from_secs(1));
    let before = wake_ups(broker.pid());
    let_pass(Duration::from_secs(3));
    assert_eq!(wake_ups(broker.pid()), before);
}
