//! The promises, one by one.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use hornpipe::parent::listeners::{Access, ListenError, Port, UnixSocket};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::driver::{Scenario, Scratch, eventually, exists, is_alive, state};

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}

cases![
    the_router_learns_how_each_worker_ended,
    a_program_that_is_not_there_is_named,
    a_directory_that_is_not_there_stops_the_pool_with_its_reason,
    a_closure_runs_in_the_child_and_its_panic_is_an_ending,
    a_child_has_no_descriptor_but_its_own,
    a_program_has_the_signals_of_a_fresh_process_and_a_closure_those_of_a_server,
    a_worker_does_not_run_before_the_router_is_told,
    a_worker_is_asked_and_then_killed_with_its_whole_group,
    what_a_worker_leaves_behind_is_killed,
    a_stranger_is_reaped_and_not_counted,
    the_death_of_the_parent_ends_everything,
    a_worker_ends_with_the_parent_where_no_router_could_kill_it,
    a_stopped_router_still_ends_with_the_parent,
    another_user_is_still_tied_to_the_parent,
    a_new_router_is_told_who_lives_and_what_to_remember,
    connections_wait_while_there_is_no_router,
    a_router_that_keeps_dying_ends_the_pool,
    signals_are_handed_on,
    an_upgrade_is_refused_where_there_is_no_program_to_execute,
    without_a_program_nothing_is_started,
    a_place_is_used_once,
    a_stop_that_takes_too_long_is_ended,
    a_router_that_ignores_a_stop_has_five_seconds_more,
    the_router_says_how_the_pool_ends,
    a_router_that_dies_while_stopping_is_not_replaced,
    a_worker_that_floods_its_output_starves_nobody,
    the_router_learns_of_workers_that_somebody_stopped,
    a_process_with_threads_is_refused,
    titles_are_shown_and_the_environment_stays,
    a_taken_port_names_its_holder,
    a_free_port_is_told,
    names_and_other_addresses_are_understood,
    a_dead_socket_is_replaced_and_a_live_one_is_not,
    a_file_that_is_no_socket_stays,
    a_long_path_is_refused_by_name,
    a_directory_is_made_for_its_owner_alone,
];

fn the_router_learns_how_each_worker_ended() {
    let mut scenario = Scenario::start("endings");
    let first = scenario.expect("told Exited { place: Place { slot: 0, incarnation: 1 }");
    assert!(first.contains("Code(3)"), "{first}");
    let second = scenario.expect("told Exited { place: Place { slot: 1,");
    assert!(second.contains("Signal(9)"), "{second}");
    let third = scenario.expect("told Exited { place: Place { slot: 2,");
    assert!(third.contains(r#"last_lines: ["one", "two", "thr\\u{1b}ee"]"#), "{third}");
    assert_eq!(scenario.expect("line 2.1 one"), "");
    assert_eq!(scenario.expect("line 2.1 two"), "");
    assert_eq!(scenario.expect("line 2.1 thr"), r"\u{1b}ee");
    let fourth = scenario.expect("told Exited { place: Place { slot: 3,");
    assert!(fourth.contains(r#"last_lines: ["line 11", "#) && fourth.contains(r#""line 30"]"#), "{fourth}");
    assert_eq!(scenario.expect("line 4.1"), "ipc://crew 4 1 7 kept");
}

fn a_program_that_is_not_there_is_named() {
    let mut scenario = Scenario::start("unexecutable");
    let ending = scenario.expect("told Exited");
    let expected = r#"NotExecuted { program: "no-such-program", why: "no such file or directory" }"#;
    assert!(ending.contains(expected), "{ending}");
}

fn a_directory_that_is_not_there_stops_the_pool_with_its_reason() {
    let mut scenario = Scenario::start("unprepared");
    let error = scenario.expect("error");
    assert!(
        error.starts_with("the router died 5 times within 10 s, the last time with exit code 1"),
        "{error}"
    );
    assert!(scenario.log().contains("cannot change to /no/such/directory: no such file or directory"));
}

fn a_closure_runs_in_the_child_and_its_panic_is_an_ending() {
    let mut scenario = Scenario::start("closures");
    assert_eq!(scenario.expect("line 0.1"), "generation 7 at ipc://crew");
    let first = scenario.expect("told Exited { place: Place { slot: 0,");
    assert!(first.contains("Code(7)"), "{first}");
    let second = scenario.expect("told Exited { place: Place { slot: 1,");
    assert!(second.contains("Code(101)") && second.contains("the handler is broken"), "{second}");
    assert_eq!(scenario.expect("line 2.1 worker has"), "[0, 1, 2]");
}

fn a_child_has_no_descriptor_but_its_own() {
    let mut scenario = Scenario::start("descriptors");
    // Three of its own, the link, four listeners, and two files for the journal.
    let router = scenario.expect("router has");
    assert_eq!(router.split(',').count(), 10, "{router}");
    scenario.expect("line 0.1 listed");
    scenario.kill();
    // The fourth is the listing itself.
    let ending = scenario_lines_with(&mut scenario, "->");
    assert_eq!(ending.len(), 4, "{ending:?}");
    assert!(ending[0].ends_with("0 -> /dev/null"), "{ending:?}");
}

fn scenario_lines_with(scenario: &mut Scenario, text: &str) -> Vec<String> {
    scenario.all().into_iter().filter(|line| line.starts_with("line") && line.contains(text)).collect()
}

fn a_program_has_the_signals_of_a_fresh_process_and_a_closure_those_of_a_server() {
    let mut scenario = Scenario::start("dispositions");
    for set in ["SigBlk:", "SigIgn:"] {
        assert_eq!(signal_set(&scenario.expect(&format!("line 0.1 {set}"))), 0, "{set}");
    }
    let mut scenario = Scenario::start("closures");
    assert_eq!(signal_set(&scenario.expect("line 2.1 SigBlk:")), 0);
    let ignored = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    let bits: u64 = ignored.iter().map(|signal| 1 << (*signal as i32 - 1)).sum();
    assert_eq!(signal_set(&scenario.expect("line 2.1 SigIgn:")), bits);
}

/// Without the two that the C library keeps to itself: they stay as whoever started the
/// test has them.
fn signal_set(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap() & !(0b11 << 31)
}

fn a_worker_does_not_run_before_the_router_is_told() {
    let mut scenario = Scenario::start("told_first");
    scenario.expect("pool is ready");
    scenario.expect("link is full");
    let router = scenario.expect_number("router");
    // The first worker could be told, the second not.
    let children = || -> Vec<i32> {
        let pid = scenario.pid();
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().map(|child| child.parse().unwrap()).filter(|child| *child != router).collect()
    };
    let [first, second] = children()[..] else { panic!("not two workers: {:?}", children()) };
    eventually("the first worker runs", || name(first) == "sleep");
    eventually("the second worker waits", || state(second) == Some('S'));
    assert_ne!(name(second), "sleep");
    std::fs::write(scenario.scratch.0.join("fifo"), b"x").unwrap();
    scenario.expect("told at last");
    eventually("the second worker runs", || name(second) == "sleep");
}

fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn a_worker_is_asked_and_then_killed_with_its_whole_group() {
    let mut scenario = Scenario::start("ladder");
    let grandchild = scenario.expect_number("line 0.1 grandchild");
    scenario.signal(Signal::SIGTTOU);
    // TERM went to the whole group: the grandchild had no objection, the worker has.
    scenario.expect("line 0.1 no");
    eventually("the grandchild is gone", || !exists(grandchild));
    scenario.signal(Signal::SIGHUP);
    let ending = scenario.expect("told Exited");
    assert!(ending.contains("Signal(9)"), "{ending}");
}

fn what_a_worker_leaves_behind_is_killed() {
    let mut scenario = Scenario::start("leftovers");
    let ending = scenario.expect("told Exited");
    assert!(ending.contains("Code(0)"), "{ending}");
    let grandchild = scenario.expect_number("line 0.1 grandchild");
    eventually("the grandchild is gone", || !exists(grandchild));
}

fn a_stranger_is_reaped_and_not_counted() {
    let mut scenario = Scenario::start("stranger");
    let stranger = scenario.expect_number("line 0.1 stranger");
    let parent = scenario.pid();
    let has_parent = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()) == Some(parent)
    };
    eventually("the stranger is the parent's", || has_parent(stranger));
    std::fs::write(scenario.scratch.0.join("fifo"), b"\n").unwrap();
    eventually("the stranger is reaped", || !exists(stranger));
    scenario.kill();
    scenario.never_said("told Exited");
}

fn the_death_of_the_parent_ends_everything() {
    let mut scenario = Scenario::start("staying");
    let router = scenario.expect_number("router");
    let worker = scenario.expect_number("line 0.1 up");
    scenario.kill();
    scenario.expect("lifeline ended");
    eventually("the worker is gone", || !is_alive(worker));
    eventually("the router is gone", || !is_alive(router));
}

fn a_worker_ends_with_the_parent_where_no_router_could_kill_it() {
    let mut scenario = Scenario::start("staying");
    let router = scenario.expect_number("router");
    let worker = scenario.expect_number("line 0.1 up");
    kill_both(&mut scenario, router);
    eventually("the worker is gone", || !is_alive(worker));
}

/// Kills the router and then the parent, which has no time to start another.
fn kill_both(scenario: &mut Scenario, router: i32) {
    scenario.signal(Signal::SIGSTOP);
    eventually("the parent is stopped", || state(scenario.pid()) == Some('T'));
    kill(Pid::from_raw(router), Signal::SIGKILL).unwrap();
    eventually("the router is dead", || !is_alive(router));
    scenario.kill();
}

fn a_stopped_router_still_ends_with_the_parent() {
    // Orphans come to this process, which is of their session. Elsewhere the kernel wakes a
    // process group that loses its last tie to its session.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut scenario = Scenario::start("staying");
    let router = scenario.expect_number("router");
    let worker = scenario.expect_number("line 0.1 up");
    for pid in [router, worker] {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        eventually("it is stopped", || state(pid) == Some('T'));
    }
    scenario.kill();
    eventually("the worker is gone", || !is_alive(worker));
    eventually("the router is gone", || !is_alive(router));
    nix::sys::prctl::set_child_subreaper(false).unwrap();
}

fn another_user_is_still_tied_to_the_parent() {
    if !nix::unistd::Uid::effective().is_root() {
        return println!("only root can try this");
    }
    let mut scenario = Scenario::start("nobody");
    let router = scenario.expect_number("router");
    for expected in ["65534", "65533", "65533 65532", "0027", "-3", "/usr"] {
        assert_eq!(scenario.expect(&format!("line 0.1 {expected}")), "");
    }
    let worker = scenario.expect_number("line 0.1 up");
    kill_both(&mut scenario, router);
    eventually("the worker is gone", || !is_alive(worker));
}

fn a_new_router_is_told_who_lives_and_what_to_remember() {
    let mut scenario = Scenario::start("restart");
    assert_eq!(scenario.expect("life 1 finds"), ", used 0, blob None");
    let first = scenario.expect_number("line 0.1 up");
    let second = scenario.expect_number("line 1.1 up");
    // It leaves a blob and an order behind; only the blob counts.
    let router = scenario_router(&mut scenario, 1);
    scenario.signal(Signal::SIGHUP);
    eventually("the router is dead", || !is_alive(router));
    scenario.signal(Signal::SIGCONT);
    let found = scenario.expect("life 2 finds");
    for expected in [format!("0.1 pid {first}"), format!("1.1 pid {second}")] {
        assert!(found.contains(&expected), "{found}");
    }
    assert!(found.ends_with(", used 2, blob Some([1, 2, 3])"), "{found}");
    // Killed this time, while a worker is stopped.
    let router = scenario_router(&mut scenario, 2);
    kill(Pid::from_raw(second), Signal::SIGSTOP).unwrap();
    scenario.expect("told Halted { place: Place { slot: 1,");
    kill(Pid::from_raw(router), Signal::SIGKILL).unwrap();
    scenario.expect("life 3 finds");
    scenario.expect("told Halted { place: Place { slot: 1,");
    scenario.signal(Signal::SIGTTOU);
    let ending = scenario.expect("told Exited { place: Place { slot: 0,");
    assert!(ending.contains("Signal(15)"), "{ending}");
    assert!(is_alive(second));
}

fn scenario_router(scenario: &mut Scenario, life: u32) -> i32 {
    loop {
        let said = scenario.expect("router");
        if let Some(pid) = said.strip_suffix(&format!(" life {life}")) {
            return pid.parse().unwrap();
        }
    }
}

fn connections_wait_while_there_is_no_router() {
    let mut scenario = Scenario::start("restart");
    let address = scenario.expect("frontend");
    let router = scenario_router(&mut scenario, 1);
    // Stopped, so that nothing restarts the router before the connection is made.
    scenario.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(router), Signal::SIGKILL).unwrap();
    eventually("the router is dead", || !is_alive(router));
    let connection = TcpStream::connect(address);
    scenario.signal(Signal::SIGCONT);
    connection.unwrap();
    scenario_router(&mut scenario, 2);
}

fn a_router_that_keeps_dying_ends_the_pool() {
    let mut scenario = Scenario::start("deaths");
    let error = scenario.expect("error");
    assert!(
        error.starts_with("the router died 5 times within 10 s, the last time with exit code 9"),
        "{error}"
    );
    assert_eq!(scenario.exit_code(), Some(1));
    scenario.never_said("life 6");
}

fn signals_are_handed_on() {
    let mut scenario = Scenario::start("signals");
    let router = scenario.expect_number("router");
    for (signal, word) in [
        (Signal::SIGHUP, "Hup"),
        (Signal::SIGTTIN, "Ttin"),
        (Signal::SIGTTOU, "Ttou"),
        (Signal::SIGUSR1, "Usr1"),
        (Signal::SIGQUIT, "Quit"),
        (Signal::SIGINT, "Int"),
        (Signal::SIGTERM, "Term"),
    ] {
        // The router itself is hit too, as by `pkill`, and does not mind.
        kill(Pid::from_raw(router), signal).unwrap();
        scenario.signal(signal);
        scenario.expect(&format!("told Signal({word})"));
        if word == "Usr1" {
            scenario.expect("reopened");
        }
    }
    assert!(is_alive(router));
}

fn an_upgrade_is_refused_where_there_is_no_program_to_execute() {
    let mut scenario = Scenario::start("signals");
    let router = scenario.expect_number("router");
    scenario.signal(Signal::SIGUSR2);
    scenario.expect("told UpgradeRefused");
    scenario.signal(Signal::SIGHUP);
    scenario.expect("told Signal(Hup)");
    assert!(is_alive(router));
}

fn without_a_program_nothing_is_started() {
    let mut scenario = Scenario::start("no_program");
    let answer = scenario.expect("told NotStarted");
    assert!(answer.contains("there is no program"), "{answer}");
}

fn a_place_is_used_once() {
    let mut scenario = Scenario::start("used_twice");
    scenario.expect("told Started");
    let answer = scenario.expect("told NotStarted");
    assert!(answer.contains("the place was used before"), "{answer}");
}

fn a_stop_that_takes_too_long_is_ended() {
    let mut scenario = Scenario::start("stop_bounded");
    let router = scenario.expect_number("router");
    let worker = scenario.expect_number("line 0.1 up");
    let begin = Instant::now();
    scenario.signal(Signal::SIGTERM);
    assert_eq!(scenario.exit_code(), Some(1));
    // The router's estimate and 5 s, not the minute that the parent was told first.
    let took = begin.elapsed().as_secs();
    assert!((5..60).contains(&took), "that was another deadline: {took} s");
    assert!(!exists(router) && !exists(worker));
}

fn a_router_that_ignores_a_stop_has_five_seconds_more() {
    let mut scenario = Scenario::start("signals");
    let router = scenario.expect_number("router");
    let begin = Instant::now();
    scenario.signal(Signal::SIGTERM);
    scenario.expect("told Signal(Term)");
    assert_eq!(scenario.exit_code(), Some(1));
    assert!(5 <= begin.elapsed().as_secs(), "that was too early");
    assert!(!exists(router));
}

fn the_router_says_how_the_pool_ends() {
    let mut scenario = Scenario::start("finished");
    let worker = scenario.expect_number("line 0.1 up");
    let socket = scenario.scratch.0.join("sockets/crew");
    assert!(socket.exists());
    scenario.signal(Signal::SIGTERM);
    assert_eq!(scenario.exit_code(), Some(3));
    assert!(!exists(worker));
    assert!(!socket.exists() && !scenario.scratch.0.join("sockets/control").exists());
    scenario.expect("pool is ready");
    scenario.never_said("pool is ready");
}

fn a_router_that_dies_while_stopping_is_not_replaced() {
    let mut scenario = Scenario::start("dies_stopping");
    let worker = scenario.expect_number("line 0.1 up");
    scenario.signal(Signal::SIGINT);
    assert_eq!(scenario.exit_code(), Some(1));
    assert!(!exists(worker));
    assert!(scenario.log().contains("router died while the pool was stopping"));
    scenario.never_said("life 2");
}

fn a_worker_that_floods_its_output_starves_nobody() {
    let mut scenario = Scenario::start("flood");
    scenario.expect("flooded");
    for _round in 0..20 {
        let begin = Instant::now();
        scenario.signal(Signal::SIGHUP);
        scenario.expect("told Signal(Hup)");
        assert!(begin.elapsed().as_millis() < 1000, "a signal took {:?}", begin.elapsed());
    }
}

fn the_router_learns_of_workers_that_somebody_stopped() {
    let mut scenario = Scenario::start("staying");
    let worker = Pid::from_raw(scenario.expect_number("line 0.1 up"));
    for _round in 0..3 {
        kill(worker, Signal::SIGSTOP).unwrap();
        scenario.expect("told Halted");
        kill(worker, Signal::SIGCONT).unwrap();
        scenario.expect("told Continued");
    }
}

fn a_process_with_threads_is_refused() {
    let mut scenario = Scenario::start("threads");
    let error = scenario.expect("error");
    assert!(error.contains("2 threads") && error.contains("busybody"), "{error}");
}

fn titles_are_shown_and_the_environment_stays() {
    let mut scenario = Scenario::start("titles");
    assert_eq!(scenario.expect("path"), std::env::var("PATH").unwrap());
    scenario.expect("titled");
    let router = scenario.expect_number("router");
    let worker = scenario.expect_number("line 0.1 up");
    assert_eq!(title(scenario.pid()), "hornpipe: parent 6660 6661");
    assert_eq!(title(router), "hornpipe: router");
    assert_eq!(title(worker), "hornpipe: worker 0 [waiting]");
    assert_eq!(name(scenario.pid()), "hornpipe");
    let begin =
        std::process::Command::new("ps").args(["-o", "args=", "-p", &scenario.pid().to_string()]).output();
    if let Ok(shown) = begin {
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim_end(), "hornpipe: parent 6660 6661");
    }
}

fn title(pid: i32) -> String {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.trim_end_matches('\0').to_owned()
}

fn a_taken_port_names_its_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    for host in ["127.0.0.1", "*"] {
        match Port::bind(host, address.port()) {
            Err(error @ ListenError::PortTaken { holder: Some((pid, _)), .. }) if pid == own => {
                assert!(error.to_string().contains(&format!("(pid {own})")), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

fn a_free_port_is_told() {
    let port = Port::bind("127.0.0.1", 0).unwrap();
    assert_ne!(port.address.port(), 0);
    TcpStream::connect(port.address).unwrap();
    // Its connection still times out somewhere, and yet the port is free at once.
    drop(port.descriptor);
    Port::bind("127.0.0.1", port.address.port()).unwrap();
}

fn names_and_other_addresses_are_understood() {
    assert!(Port::bind("localhost", 0).unwrap().address.ip().is_loopback());
    assert!(Port::bind("*", 0).unwrap().address.ip().is_unspecified());
    if std::fs::exists("/proc/net/if_inet6").unwrap() {
        assert!(Port::bind("[::1]", 0).unwrap().address.is_ipv6());
    }
    let foreign = Port::bind("192.0.2.1", 0).unwrap_err();
    assert!(matches!(foreign, ListenError::BadAddress { .. }), "{foreign:?}");
    let nonsense = Port::bind("no such host", 0).unwrap_err();
    assert!(matches!(nonsense, ListenError::BadAddress { .. }), "{nonsense:?}");
}

fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let scratch = Scratch::new();
    let path = scratch.0.join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = UnixSocket::bind(&path, Access::default()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap();
    let refused = UnixSocket::bind(&path, Access::default()).unwrap_err();
    assert!(matches!(refused, ListenError::SocketInUse { .. }), "{refused:?}");
    UnixStream::connect(&path).unwrap();
    drop(socket);
    UnixSocket::bind(&path, Access::default()).unwrap();
}

fn a_file_that_is_no_socket_stays() {
    let scratch = Scratch::new();
    let path = scratch.0.join("letter");
    std::fs::write(&path, "dear reader").unwrap();
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let refused = UnixSocket::bind(path, Access::default()).unwrap_err();
        assert!(matches!(refused, ListenError::NotASocket { .. }), "{refused:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear reader");
}

fn a_long_path_is_refused_by_name() {
    let scratch = Scratch::new();
    let room = 107 - scratch.0.as_os_str().len() - 1;
    UnixSocket::bind(&scratch.0.join("x".repeat(room)), Access::default()).unwrap();
    let refused = UnixSocket::bind(&scratch.0.join("x".repeat(room + 1)), Access::default()).unwrap_err();
    assert!(matches!(refused, ListenError::PathTooLong { length: 108, .. }), "{refused:?}");
}

fn a_directory_is_made_for_its_owner_alone() {
    let scratch = Scratch::new();
    let path = scratch.0.join("made/for/socket");
    UnixSocket::bind(&path, Access::default()).unwrap();
    assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let open = scratch.0.join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let refused = UnixSocket::bind(&open.join("socket"), Access::default()).unwrap_err();
    assert!(matches!(refused, ListenError::UnsafeDirectory { .. }), "{refused:?}");
}
