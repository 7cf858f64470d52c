//! Ports that a service manager has bound: which is which, what is wrong with one, and that
//! they stay open from one broker to the next.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;

use hornpipe_tests::harness::{
    Broker, Folder, Outcome, Process, Serve, descriptors, eventually, has, hornpipe, python, script, send,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal::{SIGKILL, SIGUSR2};

/// Under a service manager that hands over such sockets.
fn activated(serve: Serve, sockets: &[&str]) -> Serve {
    let mut words = vec![python().display().to_string(), script("socket_activate.py").display().to_string()];
    words.extend(sockets.iter().map(|socket| (*socket).to_owned()));
    words.push("--".into());
    serve.under(words)
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The ports of frontend and backend.
fn ports(broker: &Broker) -> (u16, u16) {
    (broker.frontend_port(), broker.backend_port())
}

fn expect_refused(outcome: &Outcome, words: &str) {
    let stderr = &outcome.ended.stderr;
    assert_eq!(outcome.ended.code(), Some(2), "{words}: {stderr}");
    assert!(stderr.contains(words), "{words:?} is not said:\n{stderr}");
    assert_eq!(outcome.left, "");
}

#[test]
fn sockets_are_taken_by_their_names_in_whatever_order_they_come() {
    let (frontend, backend) = (free_port(), free_port());
    let sockets = [
        "LISTEN_FDNAMES=backend:frontend",
        &format!("tcp=127.0.0.1:{backend}"),
        &format!("tcp=127.0.0.1:{frontend}"),
    ];
    let broker = activated(Serve::demo(2), &sockets).start();
    assert_eq!(ports(&broker), (frontend, backend));
    assert_eq!(broker.ask("echo x"), "x");
    // The open file of a service manager may block, and must not.
    let flags = |number: i32| {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", broker.pid())).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
        i32::from_str_radix(&flags, 8).unwrap()
    };
    for number in [3, 4] {
        assert_ne!(flags(number) & nix::libc::O_NONBLOCK, 0, "{number} blocks");
        assert_ne!(flags(number) & nix::libc::O_CLOEXEC, 0, "{number} is inherited");
    }
    for worker in broker.workers().into_values() {
        let links = fs::read_dir(format!("/proc/{worker}/fd")).unwrap().flatten();
        let sockets = links.filter_map(|link| fs::read_link(link.path()).ok());
        let listening = listening_inodes(frontend).into_iter().chain(listening_inodes(backend));
        let listening: Vec<String> = listening.map(|inode| format!("socket:[{inode}]")).collect();
        assert_eq!(listening.len(), 2);
        assert!(!sockets.into_iter().any(|path| listening.contains(&path.display().to_string())));
    }
}

/// The inodes of what listens on that port.
fn listening_inodes(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let place = format!("0100007F:{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|line| line[1] == place && line[3] == "0A").map(|line| line[9].to_owned()).collect()
}

#[test]
fn without_names_of_ours_the_first_is_the_frontend_and_the_second_the_backend() {
    let (frontend, backend) = (free_port(), free_port());
    let (first, second) = (format!("tcp=127.0.0.1:{frontend}"), format!("tcp=127.0.0.1:{backend}"));
    for names in ["LISTEN_FDNAMES=hornpipe@1.socket:hornpipe@1.socket", "OTHER=1"] {
        let broker = activated(Serve::demo(1), &[names, &first, &second]).start();
        assert_eq!(ports(&broker), (frontend, backend), "{names}");
    }
    let alone = activated(Serve::demo(1), &[&first]).start();
    assert_eq!(alone.frontend_port(), frontend);
    assert_ne!(alone.backend_port(), backend);
    assert_eq!(alone.ask("echo x"), "x");
}

#[test]
fn a_backend_alone_is_taken_by_its_name() {
    let backend = free_port();
    let sockets = ["LISTEN_FDNAMES=backend", &format!("tcp=127.0.0.1:{backend}")];
    let broker = activated(Serve::demo(1).ports("0", &backend.to_string()), &sockets).start();
    assert_eq!(broker.backend_port(), backend);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let port = free_port();
    let sockets = ["LISTEN_PID=1", "LISTEN_FDNAMES=frontend", &format!("tcp=127.0.0.1:{port}")];
    let broker = activated(Serve::demo(1), &sockets).start();
    assert_ne!(broker.frontend_port(), port);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_request_waits_in_the_open_port_while_one_broker_follows_another() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    fcntl(&port, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let socket = format!("fd={}", port.as_raw_fd());
    let endpoint = format!("tcp://{}", port.local_addr().unwrap());
    let serve = || activated(Serve::demo(1), &[&socket]);
    let first = serve().start();
    assert_eq!(first.frontend(), endpoint);
    assert_eq!(first.ask("echo first"), "first");
    drop(first);
    // Nobody serves, and still the connection is accepted.
    let client = hornpipe_tests::harness::Client::req(&endpoint);
    client.send(&[b"echo second"]);
    let _second = serve().start();
    assert_eq!(client.receive(), [b"second"]);
}

#[test]
fn the_next_router_and_the_next_program_serve_on_the_same_sockets() {
    let (frontend, backend) = (free_port(), free_port());
    let (first, second) = (format!("tcp=127.0.0.1:{frontend}"), format!("tcp=127.0.0.1:{backend}"));
    let sockets = [first.as_str(), &second];
    let broker = activated(Serve::demo(1), &sockets).start();
    let workers = broker.workers();
    let inode = listening_inodes(frontend);
    send(broker.router_pid(), SIGKILL);
    broker.wait_until("another router serves", |report| report.router_life == 2 && report.pool.ready == 1);
    assert_eq!(broker.ask("echo x"), "x");
    let open = descriptors(broker.pid());
    for life in 3..=4 {
        broker.signal(SIGUSR2);
        broker.wait_until("the next program serves", |report| {
            report.router_life == life && report.pool.ready == 1
        });
        assert_eq!(broker.ask("echo x"), "x");
    }
    assert_eq!((ports(&broker), broker.workers()), ((frontend, backend), workers));
    assert_eq!((listening_inodes(frontend), descriptors(broker.pid())), (inode, open));
    assert!(!broker.log().contains("another is asked for"), "{}", broker.log());
}

#[test]
fn what_is_handed_over_must_be_where_the_command_line_wants_it() {
    let (port, other) = (free_port().to_string(), free_port().to_string());
    let socket = format!("tcp=127.0.0.1:{port}");
    let same = activated(Serve::demo(1).ports(&port, "0"), &[&socket]).start();
    assert_eq!(same.ask("echo x"), "x");
    drop(same);
    let outcome = activated(Serve::demo(1).ports(&other, "0"), &[&socket]).run();
    expect_refused(
        &outcome,
        &format!(
            "listens on 127.0.0.1:{port}, and 127.0.0.1:{other} is asked for: write the same on the command line"
        ),
    );
    // An open port stays closed to others unless a flag says so.
    let open = format!("tcp=0.0.0.0:{port}");
    let outcome = activated(Serve::demo(1).ports(&port, "0"), &[&open]).run();
    expect_refused(&outcome, &format!("listens on 0.0.0.0:{port}, and 127.0.0.1:{port} is asked for"));
    let outcome = activated(Serve::demo(1).ports(&format!("*:{port}"), "0"), &[&open]).run();
    expect_refused(&outcome, "--insecure");
    // What systemd makes of a bare port is all of both families.
    for open in [open, format!("tcp=[::]:{port}")] {
        let serve = Serve::demo(1).ports(&format!("*:{port}"), "0").options(["--insecure"]);
        let broker = activated(serve, &[&open]).start();
        let client = hornpipe_tests::harness::Client::req(&format!("tcp://127.0.0.1:{port}"));
        assert_eq!(client.ask_text("echo x"), "x", "{open}");
        drop(broker);
    }
}

#[test]
fn what_is_no_port_is_refused_by_name_before_anything_starts() {
    let folder = Folder::new();
    let place = |name: &str| folder.file(name).display().to_string();
    for (socket, words) in [
        ("bound=127.0.0.1:0".to_owned(), "(descriptor 3) does not listen"),
        ("udp=127.0.0.1:0".to_owned(), "(descriptor 3) does not listen"),
        (format!("unix={}", place("socket")), "(descriptor 3) is no TCP socket"),
        (format!("file={}", place("file")), "(descriptor 3) is no socket"),
    ] {
        expect_refused(&activated(Serve::demo(1), &[&socket]).run(), words);
    }
    // The number of one that is missing may be somebody else's by now, who keeps it.
    let log = place("log");
    let serve = Serve::demo(1).options(["--log-file", &log]);
    expect_refused(
        &activated(serve, &["closed=x"]).run(),
        "the frontend that the service manager hands over",
    );
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let tcp = "tcp=127.0.0.1:0";
    for (sockets, words) in [
        (vec![tcp, tcp, tcp], "cannot be told apart: there are 3"),
        (vec!["LISTEN_FDNAMES=frontend:frontend", tcp, tcp], "two are named \"frontend\""),
        (vec!["LISTEN_FDNAMES=frontend", tcp, tcp], "LISTEN_FDS says 2 and LISTEN_FDNAMES names 1"),
        (vec!["LISTEN_FDNAMES=frontend:other", tcp, tcp], "one is named \"other\""),
        (
            vec!["LISTEN_FDNAMES=control", tcp],
            "one is named \"control\", and that socket hornpipe makes itself",
        ),
        (vec!["LISTEN_FDS=many", tcp], "LISTEN_FDS is \"many\""),
    ] {
        expect_refused(&activated(Serve::demo(1), &sockets).run(), words);
    }
}

#[test]
fn systemds_own_activator_starts_a_broker_at_the_first_connection() {
    if !has("systemd-socket-activate") {
        return;
    }
    let (folder, port) = (Folder::new(), free_port());
    let (listen, control) = (format!("--listen=127.0.0.1:{port}"), folder.file("control.sock"));
    let (binary, words) = (hornpipe(), control.display().to_string());
    let port_word = port.to_string();
    let arguments = [
        &listen,
        "--fdname=frontend",
        binary.to_str().unwrap(),
        "serve",
        &port_word,
        "0",
        "-n",
        "1",
        "--control",
        &words,
    ];
    let mut process = Process::start("systemd-socket-activate", &arguments);
    eventually("it listens", || !listening_inodes(port).is_empty());
    let client = hornpipe_tests::harness::Client::req(&format!("tcp://127.0.0.1:{port}"));
    assert_eq!(client.ask_text("hello"), "hello");
    send(process.pid(), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}
