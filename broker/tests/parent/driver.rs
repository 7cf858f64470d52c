//! Starts a scenario, hears what it says, signals it, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A directory of its own, removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hornpipe-parent-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A parent process that plays a scenario.
pub(crate) struct Scenario {
    process: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
    pub(crate) scratch: Scratch,
}

impl Scenario {
    pub(crate) fn start(name: &str) -> Self {
        let scratch = Scratch::new();
        nix::unistd::mkfifo(&scratch.0.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let log = std::fs::File::create(scratch.0.join("log")).unwrap();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["scenario", name])
            // The last lines of a panic are to be its message.
            .env_remove("RUST_BACKTRACE")
            .arg(&scratch.0)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, lines, heard: Vec::new(), scratch }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.process.id().try_into().unwrap()
    }

    /// Waits for a line that begins with this, and gives the rest. What was said before
    /// it and not asked for may be asked for later.
    pub(crate) fn expect(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            if let Some(line) = self.heard.get(at) {
                if let Some(rest) = line.strip_prefix(beginning) {
                    let rest = rest.trim().to_owned();
                    self.heard.remove(at);
                    return rest;
                }
                at += 1;
                continue;
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(end) => self.fail(&format!("never said {beginning:?} ({end})")),
            }
        }
    }

    /// Waits for a line that begins with this and ends with a number.
    pub(crate) fn expect_number(&mut self, beginning: &str) -> i32 {
        let rest = self.expect(beginning);
        rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap()
    }

    /// All that was said and not asked for, until everything has ended.
    pub(crate) fn all(&mut self) -> Vec<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.heard.clone(),
                Err(RecvTimeoutError::Timeout) => self.fail("its output does not end"),
            }
        }
    }

    /// Asserts that no such line was said, now that everything has ended.
    pub(crate) fn never_said(&mut self, text: &str) {
        if self.all().iter().any(|line| line.contains(text)) {
            self.fail(&format!("said {text:?}"));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end, and gives the exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            pause();
        }
        self.fail("does not end")
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("log")).unwrap_or_default()
    }

    fn fail(&self, why: &str) -> ! {
        panic!("the scenario {why}\nunasked: {:#?}\nlog:\n{}", self.heard, self.log())
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        pause();
    }
}

/// Between two looks at what no descriptor tells of.
fn pause() {
    nix::poll::poll(&mut [], 2_u8).ok();
}

/// Whether there is such a process, a zombie not counted.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether there is such a process, a zombie counted.
pub(crate) fn exists(pid: i32) -> bool {
    state(pid).is_some()
}

/// The state of a process, as a letter.
pub(crate) fn state(pid: i32) -> Option<char> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(") ")?.1.chars().next()
}
