//! The pid file: whose it is, when it is stale, and what is none.

use std::fs;
use std::path::{Path, PathBuf};

use hornpipe_tests::harness::{Broker, Folder, Outcome, Process, Serve, eventually};

fn with_pid_file(path: &Path) -> Serve {
    Serve::demo(1).options(["--pid-file", path.to_str().unwrap()])
}

fn expect_refused(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.ended.code(), Some(1), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains(words), "{words:?} is not said:\n{}", outcome.ended.stderr);
    assert_eq!(outcome.left, "");
}

#[test]
fn a_pid_file_is_stale_if_nobody_has_locked_it_whoever_has_the_pid_by_now() {
    let folder = Folder::new();
    let file = folder.file("pid");
    let dead = Process::start("true", &[]).pid();
    // This process lives, and is no broker: its pid was used before.
    for text in [format!("{dead}\n"), format!("{}\n", std::process::id()), String::new()] {
        fs::write(&file, &text).unwrap();
        let broker = with_pid_file(&file).start();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", broker.pid()), "{text:?}");
        drop(broker);
        assert!(!file.exists());
    }
}

#[test]
fn what_is_no_pid_file_is_left_alone() {
    let folder = Folder::new();
    let precious = folder.file("precious.toml");
    fs::write(&precious, "workers = 4\n").unwrap();
    expect_refused(&with_pid_file(&precious).run(), "is no pid file");
    let link = folder.file("link");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    expect_refused(&with_pid_file(&link).run(), "is a symbolic link");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "workers = 4\n");
    let fifo = folder.file("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    expect_refused(&with_pid_file(&fifo).run(), "is no pid file");
    assert!(fifo.exists() && link.exists());
    for (path, words) in [
        (folder.path().to_owned(), "cannot write the pid file"),
        (folder.file("missing").join("pid"), "cannot write the pid file"),
        (PathBuf::from("/proc/hornpipe.pid"), "cannot write the pid file"),
        (PathBuf::from("/dev/null"), "is no pid file"),
    ] {
        expect_refused(&with_pid_file(&path).run(), words);
    }
}

#[test]
fn a_pid_file_that_another_broker_has_made_in_its_place_is_that_ones() {
    let folder = Folder::new();
    let file = folder.file("pid");
    let first = with_pid_file(&file).start();
    fs::remove_file(&file).unwrap();
    let second = with_pid_file(&file).start();
    drop(first);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", second.pid()));
    expect_refused(&with_pid_file(&file).run(), &format!("belongs to the running process {}", second.pid()));
    assert_eq!(second.ask("echo x"), "x");
}

#[test]
fn of_ten_brokers_that_want_one_pid_file_at_once_one_has_it() {
    let folder = Folder::new();
    let file = folder.file("pid");
    for _round in 0..3 {
        let mut brokers: Vec<Broker> = (0..10).map(|_broker| with_pid_file(&file).spawn()).collect();
        brokers.iter_mut().for_each(Broker::let_it_fail);
        // Of the others each has ended with its reason: none waits, none shares it.
        eventually("one is left", || {
            brokers.iter_mut().map(Broker::is_running).filter(|runs| *runs).count() == 1
        });
        let at = brokers.iter_mut().position(Broker::is_running).unwrap();
        let holder = brokers.remove(at);
        let own = format!("{}\n", holder.pid());
        eventually("it has the file", || fs::read_to_string(&file).is_ok_and(|text| text == own));
        for broker in &mut brokers {
            assert_eq!(broker.wait().code(), Some(1), "{}", broker.log());
            assert!(broker.log().contains("the pid file"), "{}", broker.log());
        }
        holder.wait_until("it serves", |report| report.phase == "serving");
    }
}
