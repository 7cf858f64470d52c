//! Who may ask and who may order: the operators' socket and the one for readers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use hornpipe_tests::harness::{Broker, Ended, Folder, Process, Serve, eventually, hornpipe, send};
use nix::sys::signal::Signal::SIGKILL;
use nix::unistd::Uid;

/// A verb with its words, where `PORT` is the broker's.
const READS: [&[&str]; 6] = [
    &["status", "PORT", "--json"],
    &["status", "PORT", "--slot", "0"],
    &["workers", "PORT"],
    &["check", "PORT"],
    &["poison", "list", "PORT"],
    &["poison", "show", "PORT", "1"],
];

const ORDERS: [&[&str]; 11] = [
    &["scale", "PORT", "3"],
    &["reload", "PORT"],
    &["recycle", "PORT", "0"],
    &["pause", "PORT"],
    &["pause", "PORT", "--refuse"],
    &["resume", "PORT"],
    &["upgrade", "PORT"],
    &["stop", "PORT"],
    &["poison", "show", "PORT", "1", "--body"],
    &["poison", "retry", "PORT", "1"],
    &["poison", "drop", "PORT", "--all"],
];

fn ask(program: &[&str], broker: &Broker, socket: &Path, words: &[&str]) -> Ended {
    let (port, socket) = (broker.frontend_port().to_string(), socket.display().to_string());
    let words = words.iter().map(|word| if *word == "PORT" { port.as_str() } else { *word });
    let mut all: Vec<&str> = program.iter().copied().chain(words).collect();
    all.extend(["--control", &socket]);
    Process::run(all[0], &all[1..])
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn the_readers_socket_answers_questions_and_takes_no_orders() {
    let folder = Folder::new();
    let socket = folder.file("read.sock");
    let broker = Serve::demo(2).options(["--control-read", socket.to_str().unwrap()]).start();
    assert_eq!(mode(&socket), 0o600, "without a group it is for its owner");
    let client = broker.client();
    client.send(&[b"exit 3"]);
    client.receive_error(hornpipe_proto::Status::Poison);
    broker.wait_for_idle(2);
    let hornpipe = hornpipe().display().to_string();
    for words in READS {
        let ended = ask(&[&hornpipe], &broker, &socket, words);
        assert_eq!(ended.code(), Some(0), "{words:?}: {}", ended.stderr);
    }
    for words in ORDERS {
        let ended = ask(&[&hornpipe], &broker, &socket, words);
        assert_ne!(ended.code(), Some(0), "{words:?}: {}", ended.stdout);
        let sentence = "this socket answers questions, and ";
        assert!(ended.stderr.contains(sentence), "{words:?}: {}", ended.stderr);
    }
    let report = broker.status();
    assert_eq!((report.phase.as_str(), report.pool.target, report.pool.generation), ("serving", 2, 0));
    assert!(ask(&[&hornpipe], &broker, &socket, READS[4]).stdout.contains("exit code 3"));
}

#[test]
fn the_readers_socket_outlives_routers_and_programs_and_goes_with_the_broker() {
    let folder = Folder::new();
    let socket = folder.file("read.sock");
    let broker = Serve::demo(1).options(["--control-read", socket.to_str().unwrap()]).start();
    let hornpipe = hornpipe().display().to_string();
    let status = || ask(&[&hornpipe], &broker, &socket, READS[0]).stdout;
    let port = broker.frontend_port().to_string();
    let path = socket.display().to_string();
    let events = Process::start(&hornpipe, &["events", &port, "--control", &path]);
    eventually("events are told to readers", || events.stdout().contains(" hello "));
    assert!(send(broker.router_pid(), SIGKILL));
    broker.wait_until("the next router serves", |report| report.router_life == 2);
    assert!(status().contains("\"router_life\": 2"));
    let upgraded = ask(&[&hornpipe], &broker, broker.control(), &["upgrade", "PORT"]);
    assert_eq!(upgraded.code(), Some(0), "{}", upgraded.stderr);
    assert!(status().contains("\"router_life\": 3"));
    eventually("the stream goes on", || events.stdout().matches(" hello ").count() == 3);
    drop(broker);
    assert!(!socket.exists());
}

#[test]
fn a_group_needs_its_socket() {
    let outcome = Serve::demo(1).options(["--control-group", "0"]).run();
    assert_eq!(outcome.ended.code(), Some(2), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains("--control-read PATH"), "{}", outcome.ended.stderr);
}

/// Only root can be somebody else: for another user, the modes alone are looked at.
#[test]
fn other_users_may_read_where_their_group_may_and_order_nowhere() {
    let folder = Folder::new();
    let socket = folder.file("read.sock");
    let group = if Uid::effective().is_root() { 65534 } else { nix::unistd::Gid::effective().as_raw() };
    let broker = Serve::demo(1)
        .options(["--control-read", socket.to_str().unwrap(), "--control-group", &group.to_string()])
        .start();
    assert_eq!((mode(&socket), socket.metadata().unwrap().gid()), (0o660, group));
    if !Uid::effective().is_root() {
        return;
    }
    // Nobody must be able to reach the program and both sockets.
    let own = folder.file("hornpipe");
    fs::copy(hornpipe(), &own).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let own = own.display().to_string();
    let as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", &own];
    let read = ask(&as_nobody, &broker, &socket, READS[0]);
    assert_eq!(read.code(), Some(0), "{}", read.stderr);
    let closed = ask(&as_nobody, &broker, broker.control(), READS[0]);
    assert_eq!(closed.code(), Some(5), "{}", closed.stdout);
    // A mode that somebody has widened by mistake gives nobody any rights.
    for open in [broker.control().parent().unwrap(), broker.control()] {
        let mode = open.metadata().unwrap().mode();
        fs::set_permissions(open, Permissions::from_mode(mode | 0o777)).unwrap();
    }
    fs::set_permissions(broker.control().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let refused = ask(&as_nobody, &broker, broker.control(), READS[0]);
    assert_eq!(refused.code(), Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("user 65534 is no operator of this broker: ask as user 0"));
    let ordered = ask(&as_nobody, &broker, broker.control(), ORDERS[0]);
    assert_eq!((ordered.code(), broker.status().pool.target), (Some(1), 1), "{}", ordered.stdout);
}
