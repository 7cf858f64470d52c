//! Net::Server::ZMQ's words, and its weaknesses, which hornpipe must not have. Those that
//! have a theme of their own (deaths, signals, bad input) are tested there.

use std::fs;
use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, Client, Deadline, PlainWorker, Process, Serve, cpu_time, eventually, hornpipe, let_pass, send,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTTIN};

#[test]
fn its_option_words_are_accepted_with_dashes_and_underscores() {
    let spellings: [[&str; 5]; 2] = [
        ["--min-servers=3", "--max-servers=4", "--max-requests=1000", "--check-for-dead=30", "--log-level=2"],
        ["--min_servers=3", "--max_servers=4", "--max_requests=1000", "--check_for_dead=30", "--log_level=2"],
    ];
    for options in spellings {
        let folder = hornpipe_tests::harness::Folder::new();
        let control = folder.file("c.sock").display().to_string();
        let mut arguments = vec!["serve", "0", "0", "--control", &control];
        arguments.extend(options);
        let mut process = Process::start(hornpipe(), &arguments);
        let report = hornpipe_tests::harness::until("it serves", Duration::from_secs(20), || {
            assert!(process.is_running(), "{}", process.stderr());
            hornpipe_tests::harness::status_of(folder.file("c.sock").as_path())
                .filter(|report| report.pool.ready == 3)
        });
        assert_eq!((report.pool.target, report.pool.max), (3, 4));
        send(process.pid(), nix::sys::signal::Signal::SIGTERM);
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn max_servers_is_the_ceiling_and_may_be_small() {
    let broker = Serve::demo(1).options(["--max-servers", "2"]).start();
    for _ in 0..3 {
        broker.signal(SIGTTIN);
        broker.wait_for_idle(2);
    }
    assert_eq!(broker.status().pool.target, 2);
}

#[test]
fn max_requests_replaces_a_worker_and_loses_nothing() {
    let broker = Serve::demo(2).options(["--max-requests", "5"]).start();
    let first = broker.workers();
    let client = broker.client();
    for number in 0..100 {
        let text = format!("{number}");
        assert_eq!(client.ask_text(&format!("echo {text}")), text);
    }
    let report = broker.wait_until("workers were replaced", |report| {
        report.workers.iter().all(|worker| worker.incarnation > 1) && report.pool.ready >= 2
    });
    assert_eq!(report.requests.retried, 0);
    assert!(first.values().all(|pid| !broker.workers().values().any(|other| other == pid)));
    broker.check_counters();
}

#[test]
fn spare_servers_by_their_old_names_keep_their_number() {
    let options = ["--max_servers", "6", "--min_spare_servers", "3", "--max_spare_servers", "4"];
    let broker = Serve::demo(2).options(options).start();
    // The floor is `min_servers`, and three are wanted idle.
    broker.wait_for_idle(3);
    let ended = Process::run(hornpipe(), &["serve", "0", "0", "--min_spare_servers", "2"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--max"), "{}", ended.stderr);
}

#[test]
fn the_pid_file_is_written_guards_against_a_second_start_and_goes_at_the_end() {
    let folder = hornpipe_tests::harness::Folder::new();
    let file = folder.file("pid");
    let option = ["--pid-file", file.to_str().unwrap()];
    let broker = Serve::demo(1).options(option).start();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", broker.pid()));
    let second = Serve::demo(1).options(option).run();
    assert_ne!(second.ended.code(), Some(0));
    assert!(second.ended.stderr.contains(&broker.pid().to_string()), "{}", second.ended.stderr);
    assert_eq!(second.left, "");
    assert_eq!(broker.ask("echo x"), "x");
    drop(broker);
    assert!(!file.exists());

    // One that a killed broker has left stands in nobody's way.
    let mut broker = Serve::demo(1).options(option).start();
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    broker.wait();
    assert!(file.exists());
    let broker = Serve::demo(1).options(option).start();
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", broker.pid()));
}

#[test]
fn user_and_group_are_really_dropped_or_refused() {
    let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("every system has nobody");
    let group = nix::unistd::Group::from_gid(nobody.gid).unwrap().unwrap().name;
    let options = ["--user", "nobody", "--group", &group, "--insecure"];
    if !nix::unistd::Uid::effective().is_root() {
        let outcome = Serve::bare(1).options(options).run();
        assert_ne!(outcome.ended.code(), Some(0), "only root can become another user");
        return;
    }
    let broker = Serve::bare(2).options(options).options(["--attempts", "3"]).start();
    let expected = format!("Uid:\t{0}\t{0}\t{0}\t{0}\n", nobody.uid);
    let pids: Vec<i32> = broker.workers().into_values().chain([broker.router_pid()]).collect();
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&expected), "{status}");
    }
    assert_eq!(broker.ask("x"), "x");
    for pid in broker.workers().into_values() {
        send(pid, SIGKILL);
    }
    assert_eq!(broker.ask("x"), "x");
}

#[test]
fn workers_really_live_in_their_root_directory_and_folder() {
    if !nix::unistd::Uid::effective().is_root() {
        let outcome = Serve::bare(1).options(["--chroot", "/tmp"]).run();
        assert_ne!(outcome.ended.code(), Some(0), "only root can change its root directory");
        return;
    }
    let folder = hornpipe_tests::harness::Folder::new();
    fs::create_dir(folder.file("home")).unwrap();
    let options = ["--chroot", folder.path().to_str().unwrap(), "--chdir", "/home"];
    let broker = Serve::bare(2).options(options).start();
    for pid in broker.workers().into_values().chain([broker.router_pid()]) {
        assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), folder.path());
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), folder.file("home"));
    }
    assert_eq!(broker.ask("x"), "x");
    send(broker.router_pid(), SIGKILL);
    broker.wait_until("a new router serves", |report| report.router_life == 2 && report.pool.ready == 2);
    assert_eq!(broker.ask("x"), "x");
}

#[test]
fn nobody_spins_while_there_is_nothing_to_do() {
    let broker = Serve::bare(3).start();
    let worker = PlainWorker::connect_anonymous(broker.backend());
    worker.say("waiting");
    broker.wait_until("it is known", |report| report.external.len() == 1);
    let _client = broker.client();
    let members = broker.session().members();
    let used = || members.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    let_pass(Duration::from_secs(2));
    // One process of Net::Server::ZMQ uses all of the time there is.
    let spent = used().saturating_sub(before);
    assert!(spent < Duration::from_millis(200), "{spent:?} in two seconds");
}

#[test]
fn workers_that_left_in_any_way_eat_no_later_request() {
    let broker = Broker::demo(4);
    let client = broker.client();
    let mut workers = broker.workers().into_values();
    send(workers.next().unwrap(), SIGKILL);
    for number in 0..12 {
        assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
    }
    broker.signal(SIGHUP);
    for number in 0..12 {
        assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
    }
    broker.signal(nix::sys::signal::Signal::SIGTTOU);
    for number in 0..12 {
        assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
    }
    // Workers that came by themselves and were killed.
    let external: Vec<PlainWorker> =
        (0..4).map(|_| PlainWorker::connect_anonymous(broker.backend())).collect();
    for worker in &external {
        worker.say("waiting");
    }
    broker.wait_until("all are known", |report| report.external.len() == 4);
    drop(external);
    for number in 0..12 {
        assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
    }
    broker.check_counters();
}

#[test]
fn a_client_that_comes_back_at_once_fifty_times_is_heard_every_time() {
    let broker = Broker::demo(2);
    for number in 0..50 {
        let client = Client::connect(zmq::REQ, broker.frontend(), |socket| {
            socket.set_identity(b"client_4711").unwrap();
        });
        assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
    }
}

#[test]
fn answers_never_come_from_the_workers_of_another_instance() {
    let first = Serve::bare(2).options(["--lines"]).program(["sed", "-u", "s/^/first /"]).start();
    let (frontend, backend) = (first.frontend_port().to_string(), first.backend_port().to_string());
    let second = Serve::bare(2).ports(&frontend, &backend).options(["--lines"]);
    let outcome = second.program(["sed", "-u", "s/^/second /"]).run();
    assert_eq!(outcome.ended.code(), Some(4));
    for _ in 0..10 {
        assert_eq!(first.ask("x"), "first x");
    }
    assert!(first.status().external.is_empty());
}

#[test]
fn bodies_are_never_logged() {
    let broker = Serve::demo(1).options(["--log-level", "4"]).start();
    let client = broker.client();
    assert_eq!(client.ask_text("echo my secret"), "my secret");
    client.ask_text("fail another secret");
    client.send(&[b"sleep 300"]);
    broker.wait_for_in_flight(1);
    drop(client);
    assert!(!broker.log().contains("secret"), "{}", broker.log());
}

#[test]
fn a_failing_handler_costs_no_process() {
    let broker = Broker::demo(1);
    let pid = broker.ask("pid");
    let client = broker.client();
    for _ in 0..50 {
        assert_eq!(client.ask_text("fail x"), "ERR error x");
    }
    assert_eq!(broker.ask("pid"), pid);
}

#[test]
fn repair_needs_no_traffic() {
    let broker = Broker::demo(2);
    let before = broker.workers();
    for pid in before.values() {
        send(*pid, SIGKILL);
    }
    let deadline = Deadline::after(Duration::from_secs(5));
    eventually("both are replaced", || {
        let now = broker.workers();
        now.len() == 2 && now.values().all(|pid| !before.values().any(|old| old == pid))
    });
    assert!(!deadline.is_over(), "it took {:?}", deadline.elapsed());
}

#[test]
fn our_client_command_has_the_options_of_zmq_client_and_never_hangs() {
    let broker = Serve::bare(1).start();
    let folder = hornpipe_tests::harness::Folder::new();
    let (one, two) = (folder.file("one"), folder.file("two"));
    fs::write(&one, "first ").unwrap();
    fs::write(&two, "second\n").unwrap();
    let files = [one.to_str().unwrap(), two.to_str().unwrap()];
    let arguments =
        ["req", "-t", "10", "-r", "2", "-e", broker.frontend(), "-i", "client_7", files[0], files[1]];
    let ended = Process::run(hornpipe(), &arguments);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "first second\n"), "{}", ended.stderr);
    let ended =
        Process::start_with_input(hornpipe(), &["req", "-e", broker.frontend()], b"from stdin\n").wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "from stdin\n"), "{}", ended.stderr);
    drop(broker);
    let ended = Process::run(hornpipe(), &["req", "-t", "1", "-r", "2", "-e", "tcp://127.0.0.1:9", files[0]]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(5), ""), "complaints are no reply");
    assert!(!ended.stderr.is_empty() && ended.waited < Duration::from_secs(5));
}
