//! `hornpipe lock run`. What `consul lock` got wrong over the years is the list of the first
//! half: signals that were not handed on, commands that were left alone, started too late or
//! ended too late.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hornpipe_lock::{LockError, Locker};
use hornpipe_tests::harness::{
    Ended, Folder, Process, RedisServers, eventually, hornpipe, is_alive, send, state_of, until,
};
use nix::sys::signal::Signal::{
    SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2,
};

use crate::common::{TTL, locker, ms, settle};

/// A command under a lock on these servers, which have just been started.
fn start(servers: &RedisServers, options: &[&str], script: &str) -> Process {
    let list = servers.list();
    let begin = ["lock", "run", "job", "--servers", &list, "--no-restart-guard"];
    Process::start(hornpipe(), &[&begin, options, &["--", "sh", "-c", script]].concat())
}

fn start_on_file(folder: &Folder, options: &[&str], script: &str) -> Process {
    let place = format!("file:{}", folder.path().display());
    let begin = ["lock", "run", "job", "--servers", &place];
    Process::start(hornpipe(), &[&begin, options, &["--", "sh", "-c", script]].concat())
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
}

/// The number that a script has written, once it has.
fn number(path: &Path) -> i32 {
    until("a number is written", Duration::from_secs(20), || lines(path).first()?.parse().ok())
}

fn gone(pid: i32) {
    eventually("the process is gone", || !is_alive(pid));
}

#[test]
fn every_signal_is_handed_on_to_the_whole_group() {
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2] {
        let folder = Folder::new();
        let name = signal.as_str().strip_prefix("SIG").unwrap();
        let heard = folder.file("heard");
        let path = heard.display();
        // Two processes of the group, each of which tells what it hears: the outer one when
        // the inner one has ended, as shells do.
        let script = format!(
            "trap 'echo outer >> {path}' {name}
             sh -c \"trap 'echo inner >> {path}; exit 0' {name}; echo ready >> {path}; while :; do sleep 0.05; done\"
             exit 9"
        );
        let mut run = start_on_file(&folder, &[], &script);
        eventually("they wait", || lines(&heard) == ["ready"]);
        send(run.pid(), signal);
        let ended = run.wait();
        assert_eq!(ended.code(), Some(9), "{name}: {}", ended.stderr);
        assert_eq!(lines(&heard), ["ready", "inner", "outer"], "{name}");
    }
}

#[test]
fn no_signal_orphans_the_command() {
    for signal in [SIGQUIT, SIGHUP, SIGTERM, SIGINT, SIGKILL] {
        let folder = Folder::new();
        let pid = folder.file("pid");
        let mut run = start_on_file(&folder, &[], &format!("echo $$ > {}; exec sleep 60", pid.display()));
        let pid = number(&pid);
        send(run.pid(), signal);
        let ended = run.wait();
        gone(pid);
        match signal {
            SIGKILL => assert_eq!(ended.signal(), Some(SIGKILL as i32)),
            _ => assert_eq!(ended.code(), Some(128 + signal as i32), "{signal}"),
        }
        // The lock is free for the next.
        assert_eq!(start_on_file(&folder, &["--wait", "10s"], "true").wait().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_signal_while_it_waits_ends_it_and_nothing_is_started() {
    let servers = RedisServers::start(3);
    let other = locker(&servers);
    let _theirs = other.lock("job", TTL).unwrap();
    let folder = Folder::new();
    for signal in [SIGTERM, SIGINT, SIGQUIT, SIGHUP] {
        let mut run = start(&servers, &[], &format!("touch {}", folder.file("ran").display()));
        eventually("it waits", || run.stderr().contains("waiting"));
        send(run.pid(), signal);
        assert_eq!(run.wait().code(), Some(128 + signal as i32));
    }
    assert!(!folder.file("ran").exists());
}

#[test]
fn a_signal_while_servers_are_asked_starts_nothing_and_leaves_nothing_locked() {
    let servers = RedisServers::start(3);
    servers.0[0].stop();
    servers.0[1].stop();
    let folder = Folder::new();
    let script = format!("touch {}", folder.file("ran").display());
    let mut run = start(&servers, &["--server-timeout", "3s"], &script);
    eventually("the third is asked", || servers.0[2].get("job").is_some());
    send(run.pid(), SIGTERM);
    servers.0[0].go_on();
    servers.0[1].go_on();
    assert_eq!(run.wait().code(), Some(128 + SIGTERM as i32));
    assert!(!folder.file("ran").exists());
    eventually("nothing is locked", || servers.having("job") == 0);
}

#[test]
fn a_command_whose_lock_cannot_be_kept_has_ended_before_somebody_else_can_have_it() {
    let mut servers = RedisServers::start(3);
    let folder = Folder::new();
    let (pid, heard) = (folder.file("pid"), folder.file("heard"));
    // It does not end by TERM, nor does what it has started.
    let script = format!(
        "trap 'echo TERM >> {heard}' TERM; sh -c \"trap '' TERM; echo \\$\\$ > {pid}; while :; do sleep 0.1; done\" &
         while :; do wait; done",
        heard = heard.display(),
        pid = pid.display()
    );
    let mut run = start(&servers, &["--ttl", "3s", "--kill-after", "1s"], &script);
    let inner = number(&pid);
    let locker = locker(&servers);
    settle(&locker);
    servers.0[0].kill();
    servers.0[1].kill();
    let time = hornpipe_tests::harness::Deadline::after(Duration::from_secs(20));
    let ended = run.wait();
    assert!(time.elapsed() < ms(3500), "{:?} after the servers were gone", time.elapsed());
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert_eq!(lines(&heard), ["TERM"]);
    assert!(ended.stderr.contains("cannot be kept"), "{}", ended.stderr);
    gone(inner);
}

#[test]
fn what_the_command_has_started_does_not_outlive_a_lost_lock_either() {
    let mut servers = RedisServers::start(3);
    let folder = Folder::new();
    let pid = folder.file("pid");
    // The command itself ends by TERM.
    let script = format!(
        "sh -c \"trap '' TERM; echo \\$\\$ > {}; while :; do sleep 0.1; done\" & sleep 60",
        pid.display()
    );
    let mut run = start(&servers, &["--ttl", "1500ms", "--kill-after", "500ms"], &script);
    let inner = number(&pid);
    servers.0[0].kill();
    servers.0[1].kill();
    let ended = run.wait();
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    gone(inner);
}

#[test]
fn a_command_whose_lock_is_taken_away_is_ended_at_once() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let pid = folder.file("pid");
    let script = format!("echo $$ > {}; exec sleep 60", pid.display());
    let mut run = start(&servers, &["--ttl", "3s"], &script);
    number(&pid);
    let list = servers.list();
    let arguments = ["lock", "release", "job", "--servers", &list, "--no-restart-guard"];
    assert_eq!(Process::run(hornpipe(), &arguments).code(), Some(2), "without --force");
    assert_eq!(Process::run(hornpipe(), &[&arguments[..], &["--force"]].concat()).code(), Some(0));
    let other = locker(&servers).lock("job", TTL).unwrap();
    let ended = run.wait();
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(ended.stderr.contains("lost"), "{}", ended.stderr);
    // Theirs is not released by the one that lost it.
    assert!(locker(&servers).is_valid(&other).unwrap());
}

#[test]
fn a_holder_that_was_stopped_is_ended_when_it_goes_on_and_its_token_is_smaller() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let (pid, token) = (folder.file("pid"), folder.file("token"));
    let script = format!(
        "echo $HORNPIPE_LOCK_TOKEN > {}; echo $$ > {}; exec sleep 60",
        token.display(),
        pid.display()
    );
    let mut run = start(&servers, &["--ttl", "1500ms", "--kill-after", "500ms"], &script);
    let command = number(&pid);
    for pid in [run.pid(), command] {
        send(pid, SIGSTOP);
        eventually("it stands still", || state_of(pid) == Some('T'));
    }
    // As when a virtual machine is suspended: somebody else takes over.
    let other = locker(&servers);
    let held = until("it runs out", Duration::from_secs(20), || other.lock("job", TTL).ok());
    let first: u64 = lines(&token)[0].parse().unwrap();
    assert!(held.token() > first);
    send(command, SIGCONT);
    send(run.pid(), SIGCONT);
    let ended = run.wait();
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    gone(command);
    assert!(other.is_valid(&held).unwrap());
}

#[test]
fn a_killed_holder_leaves_its_lock_for_its_time_and_no_longer() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let pid = folder.file("pid");
    let run = start(&servers, &["--ttl", "2s"], &format!("echo $$ > {}; exec sleep 60", pid.display()));
    let command = number(&pid);
    let other = locker(&servers);
    settle(&other);
    send(run.pid(), SIGKILL);
    gone(command);
    assert!(matches!(other.try_lock("job", TTL), Err(LockError::Busy { .. })));
    until("it runs out", Duration::from_secs(20), || other.try_lock("job", TTL).ok());
}

fn run_to_its_end(folder: &Folder, options: &[&str], script: &str) -> Ended {
    start_on_file(folder, options, script).wait()
}

#[test]
fn the_commands_exit_code_is_passed_on() {
    let folder = Folder::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)] {
        assert_eq!(run_to_its_end(&folder, &[], script).code(), Some(code), "{script}");
    }
    let place = format!("file:{}", folder.path().display());
    let of =
        |command: &str| Process::run(hornpipe(), &["lock", "run", "a", "--servers", &place, "--", command]);
    assert_eq!(of("there-is-no-such-command").code(), Some(127));
    assert_eq!(of("/").code(), Some(126));
    // Neither leaves a lock behind.
    assert_eq!(of("true").code(), Some(0));
}

#[test]
fn the_command_is_told_of_its_lock_and_has_our_input_and_output() {
    let folder = Folder::new();
    let place = format!("file:{}", folder.path().display());
    let script = "cat; echo $HORNPIPE_LOCK_NAME $HORNPIPE_LOCK_TOKEN $HORNPIPE_LOCK_UNTIL $(date +%s%3N)";
    let arguments = ["lock", "run", "a b", "--servers", &place, "--ttl", "20s", "--", "sh", "-c", script];
    let ended = Process::start_with_input(hornpipe(), &arguments, b"ahoy\n").wait();
    let (input, told) = ended.stdout.split_once('\n').unwrap();
    assert_eq!(input, "ahoy");
    let numbers: Vec<u64> =
        told.strip_prefix("a b ").unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [token, until, now] = numbers[..] else { panic!("{told}") };
    assert!(token > 0 && now < until && until <= now + 20_000, "{told}");
    let again = Process::run(hornpipe(), &arguments).stdout;
    assert!(again.split(' ').nth(2).unwrap().parse::<u64>().unwrap() > token, "{again}");
}

#[test]
fn who_does_not_wait_is_told_by_an_exit_code_of_their_choice() {
    let servers = RedisServers::start(3);
    let _theirs = locker(&servers).lock("job", TTL).unwrap();
    for (options, code) in [
        (&["--no-wait"][..], 75),
        (&["--wait", "200ms"], 75),
        (&["--no-wait", "--conflict-exit-code", "0"], 0),
    ] {
        let ended = start(&servers, options, "echo ran").wait();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("locked by somebody else"), "{}", ended.stderr);
    }
}

#[test]
fn who_waits_gets_it_when_it_is_released() {
    let servers = RedisServers::start(3);
    let other = locker(&servers);
    let theirs = other.lock("job", TTL).unwrap();
    let mut run = start(&servers, &["--wait", "20s"], "echo ran");
    eventually("it waits", || run.stderr().contains("waiting"));
    other.unlock(&theirs).unwrap();
    let ended = run.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
    settle(&other);
    assert_eq!(servers.having("job"), 0, "it is released");
}

#[test]
fn too_few_servers_are_told_each_with_its_reason() {
    let mut servers = RedisServers::start(3);
    servers.0[1].kill();
    servers.0[2].kill();
    let ended = start(&servers, &["--no-wait"], "echo ran").wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(69), ""), "{}", ended.stderr);
    assert!([1, 2].iter().all(|dead| ended.stderr.contains(&servers.0[*dead].name())), "{}", ended.stderr);
}

/// The example of the README: the same line in the crontab of three machines.
#[test]
fn a_periodic_job_on_three_machines_runs_once() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let script = format!("echo ran >> {}", folder.file("ran").display());
    let options = ["--no-wait", "--hold-for", "2s"];
    let mut machines: Vec<Process> = (0..3).map(|_| start(&servers, &options, &script)).collect();
    let mut codes: Vec<i32> = machines.iter_mut().map(|machine| machine.wait().code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 75, 75]);
    assert_eq!(lines(&folder.file("ran")), ["ran"]);
}

/// One whose clock is behind comes when the job has long ended, and finds the lock held.
#[test]
fn a_lock_is_held_for_its_time_also_when_the_command_has_ended() {
    let folder = Folder::new();
    let ran = folder.file("ran");
    let mut first =
        start_on_file(&folder, &["--hold-for", "60s"], &format!("echo ran > {}; exit 3", ran.display()));
    eventually("it has run", || lines(&ran) == ["ran"]);
    assert_eq!(start_on_file(&folder, &["--no-wait"], "true").wait().code(), Some(75));
    send(first.pid(), SIGTERM);
    assert_eq!(first.wait().code(), Some(3), "the code of its command");
    assert_eq!(start_on_file(&folder, &["--no-wait"], "true").wait().code(), Some(0));
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let servers = RedisServers::start(1);
    let options = ["--ttl", "1500ms", "--kill-after", "500ms", "--at-most", "100ms"];
    let ended = start(&servers, &options, "exec sleep 60").wait();
    assert_eq!(ended.code(), Some(76), "{}", ended.stderr);
    assert!(ended.stderr.contains("--at-most"), "{}", ended.stderr);
}

#[test]
fn a_long_command_is_renewed_for() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let go = folder.file("go");
    let script = format!("while ! test -e {}; do sleep 0.02; done; echo done", go.display());
    let mut run = start(&servers, &["--ttl", "1500ms"], &script);
    let other = locker(&servers);
    eventually("it is held", || other.is_locked("job").unwrap());
    let end = other.now() + ms(2500);
    // All the time, longer than it would live by itself.
    while other.now() < end {
        assert!(matches!(other.try_lock("job", TTL), Err(LockError::Busy { .. })));
    }
    fs::write(go, "").unwrap();
    let ended = run.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "done\n"), "{}", ended.stderr);
}

/// `nohup` ignores HUP for all that it starts.
#[test]
fn what_was_ignored_stays_ignored() {
    let folder = Folder::new();
    let place = format!("file:{}", folder.path().display());
    let (pid, go) = (folder.file("pid"), folder.file("go"));
    let script = format!(
        "trap '' HUP; exec {} lock run job --servers {place} -- sh -c 'echo $$ > {}; while ! test -e {}; do sleep 0.02; done'",
        hornpipe().display(),
        pid.display(),
        go.display()
    );
    let mut run = Process::start("sh", &["-c", &script]);
    number(&pid);
    send(run.pid(), SIGHUP);
    fs::write(go, "").unwrap();
    assert_eq!(run.wait().code(), Some(0));
}

/// Then the kernel reaps in our place, and nothing is left to wait for.
#[test]
fn a_command_is_waited_for_also_where_the_end_of_children_was_ignored() {
    let folder = Folder::new();
    let script = format!(
        "trap '' CHLD; exec {} lock run job --servers file:{} -- sh -c 'sleep 0.3; echo done; exit 5'",
        hornpipe().display(),
        folder.path().display()
    );
    // Unlike other shells, bash ignores it when told to.
    let ended = Process::run("bash", &["-c", &script]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(5), "done\n"), "{}", ended.stderr);
}

#[test]
fn settings_that_cannot_be_meant_are_usage() {
    for (options, word) in [
        (&["--ttl", "4s", "--kill-after", "3s"][..], "half of --ttl"),
        (&["--servers", "redis://ann:secret@"], "is no server"),
        (&["--servers", "nowhere"], "is no place"),
        (&["--servers", "redis://127.0.0.1:1", "--ttl", "2m"], "longest"),
        (&["--servers", "@there-is-no-such-file"], "cannot read servers"),
        (&["--wait", "1s", "--no-wait"], "cannot be used with"),
    ] {
        let arguments = [&["lock", "run", "job"], options, &["--", "true"]].concat();
        let ended = Process::run(hornpipe(), &arguments);
        assert_eq!(ended.code(), Some(2), "{options:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(word) && !ended.stderr.contains("secret"),
            "{options:?}: {}",
            ended.stderr
        );
    }
}

#[test]
fn servers_may_be_in_a_file() {
    let servers = RedisServers::start(3);
    let folder = Folder::new();
    let list = folder.file("servers");
    fs::write(&list, format!("# ours\n{}\n", servers.urls().join("\n"))).unwrap();
    let place = format!("@{}", list.display());
    let arguments = ["lock", "run", "job", "--servers", &place, "--no-restart-guard", "--", "echo", "ran"];
    let ended = Process::run(hornpipe(), &arguments);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "ran\n"), "{}", ended.stderr);
}

/// A library's lock and a command's exclude each other.
#[test]
fn a_file_is_one_lock_for_programs_and_for_the_shell() {
    let folder = Folder::new();
    let locker = Locker::files(folder.path());
    let held = locker.lock("job", TTL).unwrap();
    assert_eq!(start_on_file(&folder, &["--no-wait"], "true").wait().code(), Some(75));
    locker.unlock(&held).unwrap();
    assert_eq!(start_on_file(&folder, &["--no-wait"], "true").wait().code(), Some(0));
}
