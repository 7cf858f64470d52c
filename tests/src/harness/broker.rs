//! A broker of a test's own: its own ports, folder, session and log.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport, WorkerReport};
use nix::sys::signal::Signal;

use super::client::Client;
use super::control;
use super::folder::Folder;
use super::process::{Ended, Process};
use super::processes::{Session, send};
use super::programs::hornpipe;
use super::wait::{DEADLINE, eventually, until};

/// The variable that marks everything a broker starts.
const MARK: &str = "HPTEST_MARK";

/// What tests give a broker to drain, unless they say otherwise.
const DRAIN: &str = "2s";

/// What the file of `--config` is called in a broker's folder.
const CONFIG_FILE: &str = "hornpipe.toml";

/// After TERM, before a second one: longer than the drain that tests ask for.
const PATIENCE: Duration = Duration::from_secs(4);

/// How a broker is to be started.
#[derive(Debug, Clone)]
#[must_use]
pub struct Serve {
    ports: (String, String),
    workers: u32,
    control: Option<PathBuf>,
    options: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    program: Vec<OsString>,
    /// A program that is a broker itself, in place of the binary.
    own: Option<PathBuf>,
    /// The binary by another name.
    binary: Option<PathBuf>,
    /// What executes it in its own place.
    wrapper: Vec<OsString>,
    /// What it is told by a file, and not by the command line.
    file: Option<String>,
    /// The backends of the brokers that it serves, if it is a crew.
    connect: Vec<String>,
}

/// A running broker. When it is dropped it is stopped, and must end well and leave no
/// process behind.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    session: Session,
    control: PathBuf,
    endpoints: (String, String),
    workers: u32,
    ended: Option<Ended>,
    may_fail: bool,
    // Last, because the others have files in it.
    folder: Folder,
}

/// A broker that was expected to refuse to run.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// Processes it left behind, in words.
    pub left: String,
}

impl Serve {
    /// `hornpipe serve 0 0 -n N` with the demo worker.
    pub fn demo(workers: u32) -> Self {
        let binary = hornpipe();
        Self::bare(workers).program([binary.as_os_str(), "worker".as_ref(), "demo".as_ref()])
    }

    /// `hornpipe serve 0 0 -n N` and no program.
    pub fn bare(workers: u32) -> Self {
        Self {
            ports: ("0".into(), "0".into()),
            workers,
            control: None,
            options: Vec::new(),
            variables: Vec::new(),
            program: Vec::new(),
            own: None,
            binary: None,
            wrapper: Vec::new(),
            file: None,
            connect: Vec::new(),
        }
    }

    /// `hornpipe worker --connect ... -n N` with the demo worker: a crew for these backends. What
    /// else there is to be said of a broker is true of a crew, but that it has no ports.
    pub fn crew<const N: usize>(workers: u32, backends: [&str; N]) -> Self {
        Self { connect: backends.map(ToOwned::to_owned).into(), ..Self::demo(workers) }
    }

    /// `hornpipe serve --config`: a file with this text, which names the ports, and starts so many
    /// workers.
    pub fn file(text: &str, workers: u32) -> Self {
        Self { file: Some(text.to_owned()), ..Self::bare(workers) }
    }

    /// A program that brings its own handler, with these arguments. It must take its
    /// settings from the environment, as `hornpipe::Server` does.
    pub fn own(program: &str, arguments: &[&str], workers: u32) -> Self {
        let program_arguments = arguments.iter().map(OsString::from).collect();
        Self { own: Some(program.into()), program: program_arguments, ..Self::bare(workers) }
    }

    /// The binary under this name: a copy of it, or a link to it.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// The words of a command before it, which becomes it.
    pub fn under<S: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// A shell command before it, which sees it as `"$@"` and must become it.
    pub fn under_shell(self, command: &str) -> Self {
        self.under(["sh", "-c", command, "sh"])
    }

    /// These words of the command line in place of free ports.
    pub fn ports(mut self, frontend: &str, backend: &str) -> Self {
        self.ports = (frontend.to_owned(), backend.to_owned());
        self
    }

    /// The ports and the control socket of another broker.
    pub fn in_place_of(self, other: &Broker) -> Self {
        let ports = (other.frontend_port().to_string(), other.backend_port().to_string());
        let control = Some(other.control().to_owned());
        Self { ports, control, ..self }
    }

    /// More words of the command line.
    pub fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(OsString::from));
        self
    }

    /// One more variable in its environment.
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// What stands after `--`.
    pub fn program<S: Into<OsString>>(mut self, program: impl IntoIterator<Item = S>) -> Self {
        self.program = program.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it, and waits until all its workers are ready.
    pub fn start(self) -> Broker {
        let mut broker = self.spawn();
        broker.wait_until_serving();
        broker
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(self) -> Broker {
        let folder = Folder::new();
        let control = self.control.clone().unwrap_or_else(|| folder.file("control.sock"));
        let mark = folder.path().display().to_string();
        let workers = self.workers.to_string();
        let mut variables = vec![(MARK, OsStr::new(&mark)), ("XDG_RUNTIME_DIR", folder.path().as_os_str())];
        variables.extend(self.variables.iter().map(|(name, value)| (*name, value.as_os_str())));
        let (program, arguments) = match &self.own {
            Some(own) => {
                variables.extend([
                    ("HORNPIPE_CONTROL", control.as_os_str()),
                    ("HORNPIPE_WORKERS", OsStr::new(&workers)),
                    ("HORNPIPE_DRAIN", OsStr::new(DRAIN)),
                ]);
                (own.clone(), self.program.clone())
            }
            None => (self.binary.clone().unwrap_or_else(hornpipe), self.arguments(&folder, &control)),
        };
        let mut words = self.wrapper.clone();
        words.push(program.into_os_string());
        words.extend(arguments);
        let program = words.remove(0);
        let process = Process::start_session(&program, &words, &variables, (&folder, "serve-"));
        let session = Session::new(process.pid(), format!("{MARK}={mark}"));
        Broker {
            process,
            session,
            control,
            endpoints: Default::default(),
            workers: self.workers,
            ended: None,
            may_fail: false,
            folder,
        }
    }

    fn arguments(&self, folder: &Folder, control: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        if !self.connect.is_empty() {
            arguments = ["worker", "--connect", &self.connect.join(",")].map(OsString::from).into();
            arguments.extend(["-n".into(), self.workers.to_string().into()]);
        } else if let Some(text) = &self.file {
            let path = folder.file(CONFIG_FILE);
            std::fs::write(&path, text).unwrap();
            arguments.extend(["--config".into(), path.into()]);
        } else {
            arguments.extend([&self.ports.0, &self.ports.1].map(OsString::from));
            arguments.extend(["-n".into(), self.workers.to_string().into()]);
        }
        arguments.extend(["--control".into(), control.into()]);
        arguments.extend(self.options.iter().cloned());
        if self.file.is_none() && !arguments.iter().any(|argument| argument == "--drain") {
            arguments.extend(["--drain", DRAIN].map(OsString::from));
        }
        if !self.program.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.program.iter().cloned());
        }
        arguments
    }

    /// Starts it, and waits for its end.
    pub fn run(self) -> Outcome {
        let mut broker = self.spawn();
        broker.may_fail = true;
        let ended = broker.wait();
        // What has been killed may take a moment to be gone.
        until_or(Duration::from_secs(2), &mut || broker.session.members().is_empty().then_some(()));
        let left = broker.session.describe();
        Outcome { ended, left }
    }
}

impl Broker {
    /// With so many demo workers.
    pub fn demo(workers: u32) -> Self {
        Serve::demo(workers).start()
    }

    fn wait_until_serving(&mut self) {
        let report = self.look(DEADLINE, "it serves with all its workers", |report| {
            let phase = if self.workers == 0 { "starting" } else { "serving" };
            (report.phase == phase || report.phase == "serving") && report.pool.ready >= self.workers
        });
        self.endpoints = (report.frontend, report.backend);
    }

    /// The parent's process id.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The router's process id.
    pub fn router_pid(&self) -> i32 {
        self.status().router_pid
    }

    /// Its folder, for files of the test.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The file that it was started with, from now on with this text.
    pub fn rewrite_file(&self, text: &str) {
        // At once, as a deployment does it.
        let new = self.folder.file("new.toml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.file(CONFIG_FILE)).unwrap();
    }

    /// Where its control socket is.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Every process that it has started.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Where clients connect.
    pub fn frontend(&self) -> &str {
        &self.endpoints.0
    }

    /// Where workers connect that it did not start.
    pub fn backend(&self) -> &str {
        &self.endpoints.1
    }

    /// The number of the frontend's port.
    pub fn frontend_port(&self) -> u16 {
        port(&self.endpoints.0)
    }

    /// The number of the backend's port.
    pub fn backend_port(&self) -> u16 {
        port(&self.endpoints.1)
    }

    /// Waits until the log has these words: it is written by others, in their own time.
    pub fn wait_for_log(&self, words: &str) {
        eventually(&format!("{words:?} is in the log"), || self.log().contains(words));
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// What it has printed so far.
    pub fn screen(&self) -> String {
        self.process.stdout()
    }

    /// A REQ client of it.
    pub fn client(&self) -> Client {
        Client::req(self.frontend())
    }

    /// Asks one question as a REQ client.
    pub fn ask(&self, body: &str) -> String {
        self.client().ask_text(body)
    }

    /// The state of everything.
    pub fn status(&self) -> StatusReport {
        self.look(DEADLINE, "it tells its status", |_report| true)
    }

    /// Waits until its status is so.
    pub fn wait_until(&self, what: &str, check: impl FnMut(&StatusReport) -> bool) -> StatusReport {
        self.look(DEADLINE, what, check)
    }

    /// Waits until its status is so, no longer than this.
    pub fn look(
        &self,
        within: Duration,
        what: &str,
        mut check: impl FnMut(&StatusReport) -> bool,
    ) -> StatusReport {
        let mut last = None;
        let mut look = || {
            last = control::status_of(&self.control);
            last.clone().filter(&mut check)
        };
        // The report that was not as expected says more than that it was not.
        let deadline = super::wait::Deadline::after(within);
        until_or(within, &mut look).unwrap_or_else(|| {
            panic!("waited {:?} in vain until {what}: {last:#?}", deadline.elapsed());
        })
    }

    /// Asks the control socket.
    pub fn order(&self, request: &ControlRequest) -> ControlResponse {
        until("it answers an operator", DEADLINE, || control::ask(&self.control, request))
    }

    /// The pids of workers that could take a request or have one, by slot.
    pub fn workers(&self) -> BTreeMap<u32, i32> {
        let serves = |worker: &&WorkerReport| matches!(worker.state.as_str(), "waiting" | "processing");
        self.status()
            .workers
            .iter()
            .filter(serves)
            .filter_map(|worker| Some((worker.slot, worker.pid?)))
            .collect()
    }

    /// Waits until so many workers are idle, and no others are there.
    pub fn wait_for_idle(&self, count: usize) -> StatusReport {
        self.wait_until(&format!("{count} workers are idle"), |report| {
            report.workers.len() == count && report.workers.iter().all(|worker| worker.state == "waiting")
        })
    }

    /// Waits until so many requests are in workers' hands, and begun, as far as workers tell that.
    pub fn wait_for_in_flight(&self, count: u64) -> StatusReport {
        self.wait_until(&format!("{count} requests are in flight"), |report| {
            report.requests.in_flight == count && control::all_have_begun(report)
        })
    }

    /// Sends a signal to the parent.
    pub fn signal(&self, signal: Signal) {
        assert!(send(self.pid(), signal), "the parent has ended\n{}", self.log());
    }

    /// That no request is unaccounted for.
    pub fn check_counters(&self) {
        let report = self.status();
        let requests = &report.requests;
        let refused: u64 = requests.refused.iter().map(|(_status, count)| count).sum();
        let sum = requests.answered + refused + requests.dropped + requests.waiting + requests.in_flight;
        assert_eq!(requests.received, sum, "the counters do not add up: {report:#?}");
    }

    /// Its end is the test's business: it may have any exit code, and may be killed.
    pub fn let_it_fail(&mut self) {
        self.may_fail = true;
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Ended {
        let ended = self.process.wait();
        self.ended = Some(ended.clone());
        ended
    }

    /// Waits for its end, no longer than this.
    pub fn wait_for(&mut self, within: Duration) -> Option<Ended> {
        let ended = self.process.wait_for(within);
        self.ended.clone_from(&ended);
        ended
    }

    /// Whether its parent still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits until no process of it is left.
    pub fn wait_until_nothing_is_left(&self) {
        let gone = until_or(DEADLINE, &mut || self.session.members().is_empty().then_some(()));
        assert!(gone.is_some(), "processes are left behind:\n{}", self.session.describe());
    }

    fn stop(&mut self) -> Option<Ended> {
        if self.ended.is_none() {
            send(self.pid(), Signal::SIGTERM);
            if self.wait_for(PATIENCE).is_none() {
                send(self.pid(), Signal::SIGTERM);
                self.wait_for(DEADLINE);
            }
        }
        self.ended.clone()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.len().saturating_sub(200);
            #[allow(clippy::print_stderr, reason = "the test has failed, and this is why")]
            {
                eprintln!("--- the broker printed:\n{}", self.screen());
                eprintln!("--- the broker logged:\n{}", lines[shown..].join("\n"));
                eprintln!("--- its processes:\n{}", self.session.describe());
            }
            self.session.kill();
            return;
        }
        let ended = self.stop();
        let left = until_or(Duration::from_secs(3), &mut || self.session.members().is_empty().then_some(()));
        let described = self.session.describe();
        self.session.kill();
        let log = self.log();
        assert!(left.is_some(), "processes are left behind:\n{described}\n--- the broker logged:\n{log}");
        let Some(ended) = ended else { panic!("the broker did not end at two TERM\n{log}") };
        assert!(
            self.may_fail || ended.code() == Some(0),
            "the broker ended with {:?}\n--- it logged:\n{log}",
            ended.status
        );
    }
}

fn until_or<T>(within: Duration, look: &mut dyn FnMut() -> Option<T>) -> Option<T> {
    let deadline = super::wait::Deadline::after(within);
    until("", DEADLINE * 2, || {
        let is_over = deadline.is_over();
        match look() {
            Some(found) => Some(Some(found)),
            None => is_over.then_some(None),
        }
    })
}

fn port(endpoint: &str) -> u16 {
    let digits = endpoint.rsplit(':').next().unwrap();
    digits.parse().unwrap_or_else(|_error| panic!("no port in {endpoint:?}"))
}
