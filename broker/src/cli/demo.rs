//! `hornpipe demo`: a tour that runs real commands and shows what they say. A broker with an index
//! over Python's standard library; where there is no Python for that, one with the demo worker.

mod stage;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport, WorkerReport};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::clock::now;
use super::exit_code::DemoExit;
use super::operator::Target;
use super::output;
use crate::config::{Address, Environment};
use stage::{Broker, Stage, Woken};

/// The worker of the tour.
const SEARCH: &str = include_str!("demo/search.py");

/// How long a step may take that loads no index.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one may take that does, on a slow machine.
const LONG_PATIENCE: Duration = Duration::from_mins(2);

/// A tour of one minute: an index, eight workers that share it, and what happens to them
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct DemoArguments {
    /// The Python to use, with pyzmq and the package `hornpipe`
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// A small index and no pauses, to try whether it works here
    #[arg(long)]
    fast: bool,
    /// Show it with the built-in demo worker, without Python
    #[arg(long, conflicts_with = "python")]
    no_python: bool,
}

const AFTER: &str = "\
Everything runs on this machine, on free ports of 127.0.0.1 and in a temporary folder, and is gone at the
end. Each line after $ is a command that is really run, and what stands below it is what it says.
The index needs python3 with pyzmq and our package: python3 -m pip install pyzmq ./python (in a checkout the
package is found without that). What is missing is said, and the tour goes on without.

Exit codes: 0 it went as it should · 1 it did not, and says why · 2 usage · 130 Ctrl-C";

/// Milliseconds after which a request is the one that sleeps.
const LONG_MS: u64 = 300;

/// How many lines of the log are shown if something goes wrong.
const LAST_WORDS: usize = 5;

/// Why the tour does not go on.
#[derive(Debug)]
enum End {
    Interrupted,
    Failed(String),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) fn run(arguments: &DemoArguments) -> DemoExit {
    match tour(arguments) {
        Ok(()) => DemoExit::Done,
        Err(End::Interrupted) => {
            output::complain("ended by a signal");
            DemoExit::Interrupted
        }
        Err(End::Failed(why)) => {
            output::complain(format_args!("the tour ends here: {why}"));
            DemoExit::Failed
        }
    }
}

fn tour(arguments: &DemoArguments) -> Result<(), End> {
    let mut stage = Stage::set(Environment::read().for_workers())?;
    let cast =
        if arguments.no_python { Err("--no-python".to_owned()) } else { Cast::find(arguments, &mut stage) };
    let cast = match cast {
        Ok(cast) => cast,
        Err(why) => {
            say(&format!(
                "No index today ({why}): this is the tour with the demo worker, which shares no memory.\n"
            ))?;
            Cast::built_in(&stage)
        }
    };
    Tour::begin(arguments, stage, &cast)?.go_on(&cast)
}

fn say(text: &str) -> Result<(), End> {
    output::print(text.as_bytes()).map_err(End::from)
}

/// Who works, and what is asked.
struct Cast {
    program: Vec<OsString>,
    shown_as: &'static str,
    questions: &'static [&'static str],
    has_index: bool,
}

impl Cast {
    /// Python with all that it takes; else what is missing.
    fn find(arguments: &DemoArguments, stage: &mut Stage) -> Result<Self, String> {
        let python = arguments.python.as_os_str();
        let mut missing = missing_modules(stage, python)?;
        if missing.iter().any(|module| module == "hornpipe")
            && let Some(package) = package_of_checkout(stage.program())
        {
            add_to_path(&mut stage.environment, &package);
            missing = missing_modules(stage, python)?;
        }
        let name = python.to_string_lossy();
        if missing.iter().any(|module| module == "zmq") {
            return Err(format!("{name} has no pyzmq: {name} -m pip install pyzmq, or --python PATH"));
        }
        if !missing.is_empty() {
            return Err(format!(
                "{name} has not our package: {name} -m pip install ./python in a checkout, or --python PATH"
            ));
        }
        let file = stage.folder.join("search.py");
        fs::write(&file, SEARCH).map_err(|error| format!("{}: {error}", file.display()))?;
        let words = [python, OsStr::new("-m"), OsStr::new("hornpipe"), file.as_os_str()];
        Ok(Self {
            program: words.map(OsStr::to_owned).to_vec(),
            shown_as: "python3 -m hornpipe search.py",
            questions: &["about", "asyncio shield cancel", "zip file crc"],
            has_index: true,
        })
    }

    fn built_in(stage: &Stage) -> Self {
        let words = [stage.program().as_os_str(), OsStr::new("worker"), OsStr::new("demo")];
        Self {
            program: words.map(OsStr::to_owned).to_vec(),
            shown_as: "hornpipe worker demo",
            questions: &["upper ahoy", "pid"],
            has_index: false,
        }
    }
}

/// Which of what is needed this Python does not have.
fn missing_modules(stage: &Stage, python: &OsStr) -> Result<Vec<String>, String> {
    // A folder of that name in the working directory is found too, and has no origin.
    let look = "from importlib.util import find_spec\n\
                print(*[name for name in ('zmq', 'hornpipe') if not getattr(find_spec(name), 'origin', None)])";
    let name = python.to_string_lossy();
    let looked = stage.run(python, &["-c".into(), look.into()]);
    let looked =
        looked.map_err(|error| format!("{name} cannot be run: {error}; --python PATH names another"))?;
    if !looked.status.success() {
        return Err(format!("{name} does not work here; --python PATH names another"));
    }
    Ok(String::from_utf8_lossy(&looked.stdout).split_whitespace().map(ToOwned::to_owned).collect())
}

/// The package beside a program that was built in the repository.
fn package_of_checkout(program: &Path) -> Option<PathBuf> {
    let folders = program.ancestors().skip(1).take(4).map(|folder| folder.join("python/src"));
    folders.into_iter().find(|folder| folder.join("hornpipe/__init__.py").is_file())
}

fn add_to_path(environment: &mut Vec<(OsString, OsString)>, package: &Path) {
    let mut path = package.as_os_str().to_owned();
    environment.retain(|(name, value)| {
        let is_it = name == "PYTHONPATH";
        if is_it {
            path.push(":");
            path.push(value);
        }
        !is_it
    });
    environment.push(("PYTHONPATH".into(), path));
}

/// The tour, once its broker serves.
struct Tour {
    stage: Stage,
    broker: Broker,
    target: Target,
    port: String,
    pause: Duration,
    load: u64,
    savings: Option<String>,
    /// The end of the broker's log.
    log: VecDeque<String>,
}

impl Tour {
    fn begin(arguments: &DemoArguments, stage: Stage, cast: &Cast) -> Result<Self, End> {
        say(&format!("$ hornpipe serve 0 0 -n 8 --max 16 -- {}\n", cast.shown_as))?;
        let control = stage.folder.join("control.sock");
        let mut words: Vec<OsString> = ["serve", "0", "0", "-n", "8", "--max", "16", "--boot-timeout", "2m"]
            .map(OsString::from)
            .to_vec();
        words.extend(["--control".into(), control.clone().into()]);
        if arguments.fast {
            words.extend(["--env".into(), "DEMO_FILES=60".into()]);
        }
        words.push("--".into());
        words.extend(cast.program.iter().cloned());
        let began = now();
        let broker = stage.serve(&words)?;
        // The port is not known yet, and the socket is named.
        let frontend: Address =
            "1".parse().map_err(|_error| End::Failed("a port is no address".to_owned()))?;
        let mut tour = Self {
            target: Target::new(frontend, Some(control), Duration::from_secs(2)),
            stage,
            broker,
            port: String::new(),
            pause: if arguments.fast { Duration::ZERO } else { Duration::from_secs(2) },
            load: if arguments.fast { 2 } else { 25 },
            savings: None,
            log: VecDeque::new(),
        };
        let report = tour.until("eight workers are ready", LONG_PATIENCE, |report| {
            report.pool.ready == 8 && report.phase == "serving"
        })?;
        report.frontend.rsplit(':').next().unwrap_or_default().clone_into(&mut tour.port);
        let took = now().saturating_sub(began);
        say(&format!("  port {}, 8 workers ready after {:.1} s\n", tour.port, took.as_secs_f64()))?;
        if cast.has_index {
            let deadline = now() + PATIENCE;
            while tour.savings.is_none() && now() < deadline {
                tour.rest(Duration::from_millis(100))?;
            }
            if let Some(savings) = &tour.savings {
                say(&format!("  memory {savings}\n"))?;
            }
        }
        Ok(tour)
    }

    fn go_on(mut self, cast: &Cast) -> Result<(), End> {
        for question in cast.questions {
            self.rest(self.pause)?;
            self.show(&["req", &self.port.clone(), question])?;
        }
        self.rest(self.pause)?;
        let seconds = self.load.to_string();
        say(&format!("$ hornpipe bench {} -c 32 --prefix 'echo ' -t {seconds}s &\n", self.port))?;
        let words = ["bench", &self.port, "-c", "32", "--prefix", "echo ", "-t", &seconds, "--json"];
        let load = self.stage.begin(&words.map(OsString::from))?;
        self.until("requests run", PATIENCE, |report| report.requests.answered > 100)?;
        self.rest(self.pause)?;
        self.grow()?;
        self.rest(self.pause)?;
        self.kill_one()?;
        self.rest(self.pause)?;
        self.show(&["reload", &self.port.clone(), "--wait"])?;
        let ended = load.wait_with_output()?;
        self.read();
        let figures = self.figures(&ended.stdout)?;
        say(&format!("$ hornpipe stop {}\n", self.port))?;
        self.broker.stop(PATIENCE);
        say(&format!("\n{figures}\n"))
    }

    fn grow(&mut self) -> Result<(), End> {
        let pid = self.broker.pid();
        say(&format!("$ kill -TTIN {pid}   (four times)\n"))?;
        let began = now();
        for target in 9..=12 {
            // Two that come at once are one signal.
            self.broker.signal(Signal::SIGTTIN);
            self.until("the pool is to grow", PATIENCE, |report| report.pool.target == target)?;
        }
        self.until("twelve workers are ready", LONG_PATIENCE, |report| report.pool.ready == 12)?;
        let took = now().saturating_sub(began);
        say(&format!("  12 workers, the new ones ready after {} ms\n", took.as_millis()))
    }

    fn kill_one(&mut self) -> Result<(), End> {
        let port = self.port.clone();
        say(&format!("$ hornpipe req {port} -v 'sleep 1000' &\n"))?;
        let asked = self.stage.begin(&["req", &port, "-v", "sleep 1000"].map(OsString::from))?;
        // No other request takes so long.
        let has_it = |worker: &WorkerReport| worker.processing_ms.is_some_and(|time| LONG_MS <= time);
        let busy = self.until("a worker sleeps", PATIENCE, |report| report.workers.iter().any(has_it))?;
        let victim = busy.workers.iter().find(|worker| has_it(worker));
        let Some((slot, pid)) = victim.and_then(|worker| Some((worker.slot, worker.pid?))) else {
            return Err(End::Failed("no worker sleeps".to_owned()));
        };
        say(&format!("$ kill -9 {pid}   (slot {slot}, which has it)\n"))?;
        let began = now();
        kill(Pid::from_raw(pid), Signal::SIGKILL)
            .map_err(|errno| End::Failed(format!("cannot kill {pid}: {}", errno.desc())))?;
        self.until("the worker is replaced", PATIENCE, |report| {
            report.pool.ready == 12 && report.workers.iter().any(|worker| is_successor(worker, slot, pid))
        })?;
        let took = now().saturating_sub(began).as_millis();
        say(&format!(
            "  slot {slot} works again after {took} ms; its request is with another worker, and answered:\n"
        ))?;
        let ended = asked.wait_with_output()?;
        say(&indented(&[ended.stdout, ended.stderr].concat()))?;
        if ended.status.success() { Ok(()) } else { Err(End::Failed("the request was lost".to_owned())) }
    }

    /// The last line.
    fn figures(&mut self, bench: &[u8]) -> Result<String, End> {
        let told: Value = serde_json::from_slice(bench).map_err(|_error| {
            End::Failed("the load came to no result: the broker's log may say why".to_owned())
        })?;
        let count = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or(0);
        let time = |key: &str| {
            told.pointer(&format!("/latency_us/{key}")).and_then(Value::as_f64).unwrap_or(0.0) / 1000.0
        };
        let bad = count("sent").saturating_sub(count("ok"));
        let memory = self.savings.as_ref().map_or(String::new(), |savings| format!(", memory {savings}"));
        let figures = format!(
            "{} requests in {} s, {bad} lost or wrong, p50 {:.1} ms, p99 {:.1} ms; meanwhile 4 workers came, 1 was killed, \
             12 were renewed{memory}",
            count("sent"),
            self.load,
            time("p50"),
            time("p99"),
        );
        if bad == 0 { Ok(figures) } else { Err(End::Failed(figures)) }
    }

    /// Runs one of our verbs and shows it.
    fn show(&mut self, words: &[&str]) -> Result<(), End> {
        let quoted: Vec<String> = words
            .iter()
            .map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() })
            .collect();
        say(&format!("$ hornpipe {}\n", quoted.join(" ")))?;
        let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
        if words.first() == Some(&"reload") {
            all.extend(["--control".into(), self.stage.folder.join("control.sock").into()]);
        }
        let ended = self.stage.run(self.stage.program().as_os_str(), &all)?;
        self.rest(Duration::ZERO)?;
        say(&indented(&ended.stdout))?;
        if ended.status.success() {
            return Ok(());
        }
        Err(End::Failed(String::from_utf8_lossy(&ended.stderr).trim().to_owned()))
    }

    /// Lets time pass, while the broker's screen is read.
    fn rest(&mut self, time: Duration) -> Result<(), End> {
        let deadline = now() + time;
        loop {
            let left = deadline.saturating_sub(now());
            let woken = self.stage.wait(&self.broker, left.min(Duration::from_millis(20)));
            self.read();
            if woken == Woken::BySignal {
                return Err(End::Interrupted);
            }
            if !self.broker.is_running() {
                return Err(End::Failed(format!("the broker has ended: {}", self.last_words())));
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    fn read(&mut self) {
        for line in self.broker.lines() {
            if let Some(savings) = line.trim_start().strip_prefix("memory ") {
                self.savings.get_or_insert(savings.to_owned());
            }
            self.log.push_back(line);
            if LAST_WORDS < self.log.len() {
                self.log.pop_front();
            }
        }
    }

    fn last_words(&self) -> String {
        self.log.iter().map(|line| output::harmless(line) + "\n").collect()
    }

    /// Waits until the broker's state is as wished.
    fn until(
        &mut self,
        what: &str,
        within: Duration,
        check: impl Fn(&StatusReport) -> bool,
    ) -> Result<StatusReport, End> {
        let deadline = now() + within;
        loop {
            if let Some(ControlResponse::Status(report)) = self.target.try_ask(&ControlRequest::Status)
                && check(&report)
            {
                return Ok(*report);
            }
            if deadline <= now() {
                let why = format!("waited in vain until {what}; the log ends so:\n{}", self.last_words());
                return Err(End::Failed(why));
            }
            self.rest(Duration::from_millis(10))?;
        }
    }
}

fn is_successor(worker: &WorkerReport, slot: u32, pid: i32) -> bool {
    worker.slot == slot && worker.pid.is_some_and(|new| new != pid) && worker.state != "starting"
}

fn indented(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        text.push_str("  ");
        text.push_str(&output::harmless(line));
        text.push('\n');
    }
    text
}
