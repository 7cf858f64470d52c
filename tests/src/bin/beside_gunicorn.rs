//! Hornpipe beside gunicorn's dirty workers: the same timetables of the same requests on
//! the same machine, in turns. Two Python workers each, asked by Python clients, with
//! the defaults of both but for the number of workers.
//!
//! `cargo run --release -p hornpipe-tests --bin beside_gunicorn -- [ROUNDS]`
//! needs a Python with pyzmq and gunicorn 25 or later; `HPTEST_GUNICORN` names it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]
#![expect(clippy::expect_used, clippy::panic, reason = "what goes wrong ends the comparison")]

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, DEADLINE, Folder, Process, Serve, is_alive, let_pass, python_with_gunicorn, script, send, until,
};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

const WORKERS: u32 = 2;

/// A request of 5 s, and behind it, one after another, four of 50 ms.
const BEHIND_A_LONG_ONE: [&str; 5] = ["0:5000", "100:50", "250:50", "400:50", "550:50"];

/// Ten requests of 500 ms at once.
const STREAM: [&str; 10] = ["0:500"; 10];

/// In the middle of the first two of the ten.
const KILL_AFTER: Duration = Duration::from_millis(250);

/// The timetables take 3 to 10 s.
const PATIENCE: Duration = Duration::from_secs(90);

const ROUNDS: usize = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match words.as_slice() {
        [] => ROUNDS,
        [number] => number.parse().unwrap_or_default(),
        _ => 0,
    };
    if rounds == 0 {
        eprintln!("usage: beside_gunicorn [ROUNDS]   at least one; {ROUNDS} unless given");
        return ExitCode::from(2);
    }
    println!("{}", version(&["-m", "gunicorn", "--version"]));
    println!("{WORKERS} Python workers each, {rounds} rounds in turns");
    let hornpipe = Pool::Hornpipe(start_hornpipe());
    let gunicorn = Pool::Gunicorn(Gunicorn::start());
    let pools = [gunicorn, hornpipe];
    let results = pools.each_ref().map(|_pool| Vec::new());
    let waits = turns(rounds, &pools, results.clone(), |pool| pool.run(&BEHIND_A_LONG_ONE, None));
    let kills = turns(rounds, &pools, results, |pool| {
        let victim = pool.worker();
        pool.run(&STREAM, Some(victim))
    });

    println!("\nfour requests of 50 ms behind one of 5 s, the other worker idle");
    println!("{:<12}{:>14}{:>14}{:>10}", "broker", "longest ms", "median ms", "failed");
    for (pool, answers) in pools.iter().zip(&waits) {
        let short: Vec<u64> =
            answers.iter().flat_map(|round| round.iter().skip(1)).map(Answer::waited).collect();
        let (median, longest) = median_and_longest(short);
        println!("{:<12}{longest:>14}{median:>14}{:>10}", pool.name(), failed(answers));
    }
    println!("\nten requests of 500 ms at once, kill -9 of one of the two workers after {KILL_AFTER:?}");
    println!("{:<12}{:>14}{:>14}{:>10}", "broker", "last one ms", "requests", "failed");
    for (pool, answers) in pools.iter().zip(&kills) {
        let (_median, longest) = median_and_longest(answers.iter().flatten().map(Answer::waited).collect());
        let asked: usize = answers.iter().map(Vec::len).sum();
        println!("{:<12}{longest:>14}{asked:>14}{:>10}", pool.name(), failed(answers));
        if let Some(sample) = answers.iter().flatten().find(|answer| !answer.is_right()) {
            println!("    one of the failures: {}", sample.outcome);
        }
    }
    let [_gunicorn, ours] = [waits, kills].map(|[_theirs, ours]| failed(&ours));
    if ours == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Both pools, one after the other, round after round.
fn turns(
    rounds: usize,
    pools: &[Pool; 2],
    mut results: [Vec<Vec<Answer>>; 2],
    play: impl Fn(&Pool) -> Vec<Answer>,
) -> [Vec<Vec<Answer>>; 2] {
    for _round in 0..rounds {
        for (pool, results) in pools.iter().zip(&mut results) {
            pool.wait_until_whole();
            results.push(play(pool));
        }
    }
    results
}

fn failed(rounds: &[Vec<Answer>]) -> usize {
    rounds.iter().flatten().filter(|answer| !answer.is_right()).count()
}

fn median_and_longest(mut milliseconds: Vec<u64>) -> (u64, u64) {
    milliseconds.sort_unstable();
    let median = milliseconds.get(milliseconds.len() / 2).copied();
    (median.unwrap_or_default(), milliseconds.last().copied().unwrap_or_default())
}

fn version(words: &[&str]) -> String {
    let ended = Process::run(python_with_gunicorn(), words);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn start_hornpipe() -> Broker {
    let program = [python_with_gunicorn().into_os_string(), script("plain_worker.py").into()];
    Serve::bare(WORKERS).program(program).start()
}

/// What one client got.
#[derive(Debug, Clone)]
struct Answer {
    milliseconds: u64,
    outcome: String,
}

impl Answer {
    fn read(line: &str) -> Option<Self> {
        let (milliseconds, outcome) = line.split_once(' ')?;
        Some(Self { milliseconds: milliseconds.parse().ok()?, outcome: outcome.to_owned() })
    }

    fn waited(&self) -> u64 {
        self.milliseconds
    }

    fn is_right(&self) -> bool {
        self.outcome == "right"
    }
}

#[derive(Debug)]
enum Pool {
    Gunicorn(Gunicorn),
    Hornpipe(Broker),
}

impl Pool {
    fn name(&self) -> &'static str {
        match self {
            Self::Gunicorn(_) => "gunicorn",
            Self::Hornpipe(_) => "hornpipe",
        }
    }

    fn address(&self) -> &str {
        match self {
            Self::Gunicorn(gunicorn) => &gunicorn.socket,
            Self::Hornpipe(broker) => broker.frontend(),
        }
    }

    /// One of the workers, all of which are idle.
    fn worker(&self) -> i32 {
        let worker = match self {
            Self::Gunicorn(gunicorn) => gunicorn.workers().first().copied(),
            Self::Hornpipe(broker) => broker.workers().into_values().next(),
        };
        worker.expect("a pool has a worker")
    }

    fn wait_until_whole(&self) {
        match self {
            Self::Gunicorn(gunicorn) => gunicorn.wait_until_whole(),
            Self::Hornpipe(broker) => {
                broker.wait_for_idle(WORKERS as usize);
            }
        }
    }

    /// Plays a timetable, and kills this worker in the middle of it.
    fn run(&self, timetable: &[&str], victim: Option<i32>) -> Vec<Answer> {
        let script = script("timetable.py");
        let script = script.to_str().expect("the path of a script is text");
        let words = [&[script, self.name(), self.address()], timetable].concat();
        let mut clients = Process::start(python_with_gunicorn(), &words);
        if let Some(victim) = victim {
            until("the clients begin", DEADLINE, || clients.stdout().starts_with("begin").then_some(()));
            let_pass(KILL_AFTER);
            assert!(send(victim, SIGKILL), "the worker had ended by itself");
        }
        let ended = clients.wait_for(PATIENCE).expect("the clients end");
        let answers: Option<Vec<Answer>> = ended.stdout.lines().skip(1).map(Answer::read).collect();
        let answers = answers.filter(|answers| answers.len() == timetable.len());
        answers.unwrap_or_else(|| panic!("the clients broke: {}\n{}", ended.stdout, ended.stderr))
    }
}

/// A gunicorn with dirty workers, asked through its own client.
#[derive(Debug)]
struct Gunicorn {
    process: Process,
    folder: Folder,
    socket: String,
}

impl Gunicorn {
    fn start() -> Self {
        let folder = Folder::new();
        let ready = format!("HPTEST_READY={}", folder.path().display());
        let scripts = script("dirty_app.py");
        let scripts = scripts.parent().and_then(|path| path.to_str()).expect("a script lies in a folder");
        let workers = WORKERS.to_string();
        let words = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", "--chdir", scripts];
        let dirty = ["--env", &ready, "--dirty-workers", &workers, "--dirty-app", "dirty_app:Sleeper"];
        let words = [&words[..], &dirty, &["dirty_app:application"]].concat();
        let process = Process::start(python_with_gunicorn(), &words);
        let mut gunicorn = Self { process, folder, socket: String::new() };
        gunicorn.wait_until_whole();
        let worker = gunicorn.workers().first().map(|pid| gunicorn.folder.file(&pid.to_string()));
        gunicorn.socket = worker.and_then(|file| fs::read_to_string(file).ok()).expect("a worker is ready");
        gunicorn
    }

    /// The pids of the dirty workers that live.
    fn workers(&self) -> Vec<i32> {
        let files = fs::read_dir(self.folder.path()).expect("its folder is there").flatten();
        let pids = files.filter_map(|file| file.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_alive(*pid)).collect()
    }

    fn wait_until_whole(&self) {
        let what = format!("gunicorn has {WORKERS} workers: {}", self.process.stderr());
        until(&what, DEADLINE, || (self.workers().len() == WORKERS as usize).then_some(()));
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        // It ends its workers itself, if it is asked.
        send(self.process.pid(), SIGTERM);
        self.process.wait_for(DEADLINE);
    }
}
