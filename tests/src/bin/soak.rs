//! The end-to-end tests that take longer than a test suite may, with their figures.
//!
//! `cargo run --release -p hornpipe-tests --bin soak -- --kills-for 11m --requests 1000000`
//! kills one worker a second under load, and fails unless every request had exactly one
//! right answer. The other modes are in [`USAGE`]; docs/TESTS.md says what each proves.
//! Build the binary with the same profile first: `cargo build --release -p hornpipe`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{
    Breakable, Broker, Chaos, Client, Deadline, Fairness, Figures, HALT_TIMEOUT, Halts, KeyedLoad, Kills,
    Serve, cpu_time, descriptors, in_words, let_pass, rank, resident, send,
};
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};

const USAGE: &str = "\
usage: soak [--kills-for TIME] [--requests N]   TIME as in 90s or 10m
       soak idle             what a broker costs that has nothing to do
       soak recycle N        whether router and parent grow while N requests wear workers out
       soak poison N         20 requests that end their workers, among N
       soak fair TIME        whether a request ever waits while a worker is idle
       soak stopped-workers ROUNDS
       soak stopped-brokers ROUNDS
       soak killed-brokers ROUNDS
       soak keys TIME        requests with keys, and a router killed each second
       soak reloads N        how long requests of 200 ms take while workers are reloaded N times
       soak broken TIME      how often a program is started that ends at once";

/// How long a broker is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(20);

/// What it may cost meanwhile, of one core, in percent.
const IDLE_LIMIT: f64 = 1.0;

/// How soon a killed worker's request must be with an idle one, and the pool whole again, 99 times
/// of 100.
const REDISPATCH_LIMIT: Duration = Duration::from_millis(20);
const WHOLE_LIMIT: Duration = Duration::from_millis(250);

/// How often the former is tried.
const IDLE_KILLS: u32 = 100;

/// How long router and parent are stopped.
const HALT: Duration = Duration::from_secs(5);

/// How much later than its time-out the client of a stopped worker may be told, 99 times
/// of 100. One that the machine itself keeps waiting is no fault of the broker.
const LATE_LIMIT: Duration = Duration::from_millis(100);

/// How long a request may wait beside an idle worker.
const BOTH_LIMIT: Duration = Duration::from_millis(10);

/// In what time everything of a killed broker must be gone.
const GONE_LIMIT: Duration = Duration::from_secs(1);

/// How many slots have the program that ends at once, beside one that serves.
const BROKEN: u32 = 8;

/// How often it may be started in one slot in the first minute.
const FORKS_LIMIT: u32 = 12;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let passed = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["idle"] => Some(idle()),
        ["recycle", requests] => requests.parse().ok().map(recycle),
        ["poison", requests] => requests.parse().ok().map(poison),
        ["fair", time] => duration(time).map(fair),
        ["stopped-workers", rounds] => rounds.parse().ok().map(stopped_workers),
        ["stopped-brokers", rounds] => rounds.parse().ok().map(stopped_brokers),
        ["keys", time] => duration(time).map(keys),
        ["killed-brokers", rounds] => rounds.parse().ok().map(killed_brokers),
        ["reloads", rounds] => rounds.parse().ok().map(reloads),
        ["broken", time] => duration(time).map(broken),
        _ => parse(&words).map(|chaos| kill(&chaos)),
    };
    match passed {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(words: &[String]) -> Option<Chaos> {
    let mut chaos = Chaos {
        clients: 8,
        time: Duration::from_mins(10),
        requests: 1_000_000,
        kill_every: Duration::from_secs(1),
    };
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--kills-for" => chaos.time = duration(value)?,
            [name, value] if name == "--requests" => chaos.requests = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(chaos)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s')?, 1),
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}

fn kill(chaos: &Chaos) -> bool {
    // The first one is killed after a second.
    let chaos = Chaos { time: chaos.time + chaos.kill_every, ..*chaos };
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let figures = chaos.run(&broker);
    tell(&figures);
    println!("retried  {}", broker.status().requests.retried);
    broker.check_counters();
    let within = |what: &str, times: &[Duration], limit: Duration| {
        let is_met = rank(times, 99).is_some_and(|most| most <= limit);
        println!("{what} within {limit:?}, 99 times of 100: {}", if is_met { "yes" } else { "no" });
        is_met
    };
    // Under that load a request waits until one of the workers is free.
    let redispatched = Kills::beside_idle_workers(&broker, IDLE_KILLS);
    tell_times("from a kill until an idle worker has the request", &redispatched);
    let met = [
        within("an idle worker has the request", &redispatched, REDISPATCH_LIMIT),
        within("the pool is whole", &figures.kills.whole, WHOLE_LIMIT),
    ];
    let enough = figures.kills.count + 1 >= chaos.time.as_secs();
    is_flawless(&figures) && figures.kills.unrepaired == 0 && enough && met == [true; 2]
}

/// Nothing is lost, and nothing done twice.
fn keys(time: Duration) -> bool {
    let broker = Serve::demo(4).options(["--keys", "1000000"]).start();
    let workers = broker.workers();
    let load = KeyedLoad { clients: 8, time, kill_every: Duration::from_secs(1) };
    let figures = load.run(&broker);
    println!("asked    {}", figures.asked);
    println!("right    {}", figures.right);
    println!("lost     {}", figures.lost);
    println!("doubled  {}", figures.doubled);
    println!("routers  {} killed", figures.kills);
    println!(
        "workers  {} of {} live on",
        broker.workers().values().filter(|pid| workers.values().any(|old| old == *pid)).count(),
        workers.len()
    );
    if let Some(sample) = &figures.sample {
        println!("one of the errors: {sample}");
    }
    figures.right == figures.asked && figures.lost == 0 && figures.doubled == 0
}

fn is_flawless(figures: &Figures) -> bool {
    figures.right == figures.sent && figures.doubled == 0
}

fn tell(figures: &Figures) {
    println!("sent     {}", figures.sent);
    println!("right    {}", figures.right);
    println!("errors   {}", figures.errors);
    println!("lost     {}", figures.lost);
    println!("wrong    {}", figures.wrong);
    println!("doubled  {}", figures.doubled);
    println!("kills    {}", figures.kills.count);
    if let Some(sample) = &figures.sample {
        println!("one of the errors: {sample}");
    }
    // As an operator sees it who looks each millisecond, beside the load on the same cores.
    tell_times("from a kill until another worker has the request", &figures.kills.redispatched);
    tell_times("from a kill until the pool is at its size again", &figures.kills.whole);
    if figures.kills.unrepaired > 0 {
        println!("kills after which the pool stayed too small: {}", figures.kills.unrepaired);
    }
}

fn tell_times(what: &str, times: &[Duration]) {
    if !times.is_empty() {
        println!("{what}: {}", in_words(times));
    }
}

fn idle() -> bool {
    let broker = Broker::demo(4);
    let members = broker.session().members();
    let used = || members.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    let_pass(IDLE);
    let used = used().saturating_sub(before);
    let percent = 100.0 * used.as_secs_f64() / IDLE.as_secs_f64();
    println!("{} processes, {used:?} in {IDLE:?}: {percent:.2} % of one core", members.len());
    percent < IDLE_LIMIT
}

fn fair(time: Duration) -> bool {
    let broker = Serve::demo(6).options(["--attempts", "5"]).start();
    let chaos = Chaos { clients: 2, time, requests: 0, kill_every: Duration::from_secs(1) };
    let (figures, fairness) = std::thread::scope(|scope| {
        let load = scope.spawn(|| chaos.run(&broker));
        let fairness = Fairness::watch(&broker, || load.is_finished());
        (load.join().ok(), fairness)
    });
    let Some(figures) = figures else { return false };
    let Fairness { looks, waiting, idle, both, longest } = fairness;
    println!("{looks} looks in {time:?}: a request waited in {waiting}, a worker was idle in {idle},");
    println!("both in {both}, for {longest:?} at most");
    tell(&figures);
    longest <= BOTH_LIMIT && is_flawless(&figures)
}

fn stopped_workers(rounds: u64) -> bool {
    let timeout = format!("{}ms", HALT_TIMEOUT.as_millis());
    let broker = Serve::demo(2).options(["--timeout", &timeout]).start();
    let halts = Halts::play(&broker, rounds);
    println!("{} requests, {} of their workers stopped in time", halts.rounds, halts.stopped);
    println!("{} stale replies delivered", halts.stale);
    tell_times("later than the time-out", &halts.late);
    broker.check_counters();
    halts.stale == 0 && rank(&halts.late, 99).is_some_and(|late| late <= LATE_LIMIT)
}

fn stopped_brokers(rounds: u64) -> bool {
    let broker = Broker::demo(4);
    let workers = broker.workers();
    let halts = [("router", broker.router_pid()), ("parent", broker.pid())];
    let time = (HALT + Duration::from_secs(1)) * u32::try_from(2 * rounds).unwrap_or(u32::MAX);
    let chaos = Chaos { clients: 4, time, requests: 0, kill_every: Duration::from_hours(24) };
    let figures = std::thread::scope(|scope| {
        let load = scope.spawn(|| chaos.run(&broker));
        for _round in 0..rounds {
            for (_name, pid) in halts {
                let_pass(Duration::from_millis(500));
                send(pid, SIGSTOP);
                let_pass(HALT);
                send(pid, SIGCONT);
            }
        }
        load.join().ok()
    });
    let Some(figures) = figures else { return false };
    println!("router and parent were stopped for {HALT:?}, {rounds} times each, in turns");
    tell(&figures);
    let report = broker.wait_for_idle(workers.len());
    println!("workers that ended: {}", report.pool.exited);
    is_flawless(&figures) && report.pool.exited == 0 && broker.workers() == workers
}

fn killed_brokers(rounds: u64) -> bool {
    let mut times = Vec::new();
    for _round in 0..rounds {
        // Deaf to every signal that can be ignored, and never out of the processor.
        let command = "trap '' TERM HUP INT QUIT; while read line; do while :; do :; done; done";
        let mut broker = Serve::bare(4).options(["--lines"]).program(["sh", "-c", command]).start();
        let client = Client::dealer(broker.frontend());
        for number in 0..4_u8 {
            client.send(&[&[number], b"", b"x"]);
        }
        broker.wait_for_in_flight(4);
        broker.let_it_fail();
        let since = Deadline::after(GONE_LIMIT);
        send(broker.pid(), SIGKILL);
        broker.wait();
        broker.wait_until_nothing_is_left();
        times.push(since.elapsed());
    }
    tell_times("from the kill of a parent until nothing of its broker is left", &times);
    times.iter().all(|time| *time <= GONE_LIMIT)
}

/// Requests that end every worker that has them.
const POISON: u64 = 20;

/// How many workers the broker gives each of them to, unless told otherwise.
const ATTEMPTS: u64 = 2;

fn poison(requests: u64) -> bool {
    let broker = Serve::demo(4).start();
    let clients: Vec<Client> = (0..32).map(|_| broker.client()).collect();
    let every = (requests / POISON).max(1);
    let is_poison = |number: u64| number.is_multiple_of(every) && number / every < POISON;
    let (mut right, mut poisoned, mut other) = (0_u64, 0_u64, None);
    let mut numbers = 0..requests;
    loop {
        let round: Vec<(&Client, u64)> = clients.iter().zip(numbers.by_ref()).collect();
        if round.is_empty() {
            break;
        }
        for (client, number) in &round {
            let body = if is_poison(*number) { "exit 3".into() } else { format!("echo {number}") };
            client.send(&[body.as_bytes()]);
        }
        for (client, number) in round {
            let answer = client.receive().remove(0);
            if is_poison(number) && answer.starts_with(b"ERR poison ") {
                poisoned += 1;
            } else if !is_poison(number) && answer == number.to_string().as_bytes() {
                right += 1;
            } else {
                other = Some((number, String::from_utf8_lossy(&answer).into_owned()));
            }
        }
    }
    let report = broker.wait_for_idle(4);
    println!("{right} of {} right, {poisoned} of {POISON} poison", requests - POISON);
    println!("{} workers ended, {} requests were retried", report.pool.exited, report.requests.retried);
    if let Some((number, answer)) = other {
        println!("one of the others: request {number} has {answer}");
    }
    broker.check_counters();
    let deaths = report.pool.exited == POISON * ATTEMPTS && report.requests.retried == POISON;
    deaths && poisoned == POISON && right == requests - POISON
}

/// Memory that router and parent may take in the course of it, each.
const GROWTH_LIMIT: u64 = 16 << 20;

/// Descriptors, more than at the beginning: of connections that are just ending.
const DESCRIPTORS_LIMIT: usize = 8;

fn recycle(requests: u64) -> bool {
    let broker = Serve::demo(4).options(["--max-requests", "100"]).start();
    let load = |requests| {
        let time = Duration::ZERO;
        let load = Chaos { clients: 8, time, requests, kill_every: Duration::from_hours(10_000) };
        let figures = load.run(&broker);
        broker.wait_for_idle(4);
        figures
    };
    let processes = [("parent", broker.pid()), ("router", broker.router_pid())];
    let measure = || processes.map(|(name, pid)| (name, descriptors(pid), resident(pid)));
    // Tables and pools reach their sizes first.
    load(requests / 10).check();
    let before = measure();
    let figures = load(requests);
    let mut sound = figures.right == figures.sent && figures.doubled == 0;
    println!("{} of {} right, {} workers", figures.right, figures.sent, broker.status().pool.spawned);
    for ((name, descriptors, resident), (_, descriptors_after, resident_after)) in
        before.into_iter().zip(measure())
    {
        println!(
            "{name}: {descriptors} descriptors, then {descriptors_after}; {} KiB, then {} KiB",
            resident / 1024,
            resident_after / 1024
        );
        sound &= descriptors_after <= descriptors + DESCRIPTORS_LIMIT;
        sound &= resident_after <= resident + GROWTH_LIMIT;
    }
    broker.check_counters();
    sound
}

/// What a request of 200 ms may take longer because workers are reloaded: the start of one.
const START_LIMIT: Duration = Duration::from_millis(100);

fn reloads(rounds: u32) -> bool {
    let broker = Broker::demo(4);
    let calm = slowest(&broker, || let_pass(Duration::from_secs(5)));
    let began = Deadline::after(Duration::ZERO);
    let reloaded = slowest(&broker, || {
        for _round in 0..rounds {
            broker.order(&ControlRequest::Reload { surge: None, wait: true });
        }
    });
    println!(
        "{rounds} reloads of 4 workers in {:?}, under requests of 200 ms from 3 clients",
        began.elapsed()
    );
    println!("the slowest answer: {:?} in calm, {:?} while reloading", calm.longest, reloaded.longest);
    println!("{} of {} right", calm.right + reloaded.right, calm.sent + reloaded.sent);
    let generation = broker.status().pool.generation;
    generation == rounds
        && calm.right + reloaded.right == calm.sent + reloaded.sent
        && reloaded.longest <= calm.longest + START_LIMIT
}

/// Requests of 200 ms, and the slowest answer to one.
#[derive(Default)]
struct Slowest {
    sent: u64,
    right: u64,
    longest: Duration,
}

/// Three clients ask for as long as `meanwhile` takes.
fn slowest(broker: &Broker, meanwhile: impl FnOnce()) -> Slowest {
    let over = AtomicBool::new(false);
    let ask = || {
        let client = broker.client();
        let mut slowest = Slowest::default();
        while !over.load(Ordering::Relaxed) {
            let since = Deadline::after(Duration::ZERO);
            client.send(&[b"sleep 200"]);
            slowest.right += u64::from(client.receive() == [b"slept 200"]);
            slowest.sent += 1;
            slowest.longest = slowest.longest.max(since.elapsed());
        }
        slowest
    };
    std::thread::scope(|scope| {
        let clients = [(); 3].map(|()| scope.spawn(ask));
        meanwhile();
        over.store(true, Ordering::Relaxed);
        clients.into_iter().filter_map(|client| client.join().ok()).fold(Slowest::default(), |all, one| {
            Slowest {
                sent: all.sent + one.sent,
                right: all.right + one.right,
                longest: all.longest.max(one.longest),
            }
        })
    })
}

fn broken(time: Duration) -> bool {
    let program = Breakable::new();
    let broker = Serve::bare(1).program(program.program()).start();
    let serving: Vec<u32> = broker.workers().into_keys().collect();
    program.break_it();
    let members = broker.session().members();
    let used = || members.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    broker.order(&ControlRequest::Scale(Scale::To(1 + BROKEN)));
    let_pass(time);
    let (report, used) = (broker.status(), used().saturating_sub(before));
    let forks = report.workers.iter().filter(|worker| !serving.contains(&worker.slot));
    let forks: Vec<u32> = forks.map(|worker| worker.incarnation).collect();
    let told = broker.log().lines().filter(|line| line.contains("worker died")).count();
    println!("forks in {time:?}, by slot: {forks:?}, {told} of the deaths told in a line of their own");
    println!("{used:?} of processor time in the router, the parent and the worker that serves");
    let served = (0..100).all(|number| broker.ask(&format!("echo {number}")) == number.to_string());
    let minutes = u32::try_from(time.as_secs().div_ceil(60)).unwrap_or(u32::MAX);
    let seconds = usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
    program.mend();
    broker.wait_until("all are there", |report| report.pool.ready == 1 + BROKEN);
    served
        && forks.len() == BROKEN as usize
        && forks.iter().all(|forks| *forks <= FORKS_LIMIT * minutes)
        && told <= BROKEN as usize + seconds + 1
}
