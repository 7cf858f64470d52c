//! What a rate does not show: one client beside many, what clients and waiting requests cost in
//! memory, how soon a pool is large or whole again, and the processor time behind it all.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hornpipe_proto::control::{ControlRequest, Scale};
use hornpipe_tests::harness::{Broker, Client, DEADLINE, Serve, let_pass, send};
use nix::sys::signal::Signal::SIGKILL;

use crate::{Result, median};

/// Idle clients, and waiting requests.
const CLIENTS: u32 = 1000;
const WAITING: u32 = 20_000;

/// A worker that has lived for so long is replaced at once when it dies.
const GROWN_UP: Duration = Duration::from_millis(1200);

/// Of an operator who waits for the pool to be whole.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Requests that the flood keeps out.
const OUT: usize = 400;

/// The processor time that a process has had.
pub(super) fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: user and system time are the 14th and 15th field.
    let (_name, fields) = stat.rsplit_once(") ").ok_or("no such process")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs(ticks) / u32::try_from(per_second)?)
}

/// The router among the children of a parent.
pub(super) fn router_of(parent: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let is_router = |pid: &u32| {
        let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        title.starts_with("hornpipe: router")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_router)
}

/// Resident bytes of a process.
fn rss_of(pid: i32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no memory")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// One REQ client beside one that keeps many jobs of 1 ms waiting, with prefetch and without.
pub(super) fn flood(rounds: usize) -> Result<ExitCode> {
    let brokers = ["1ms", "0"].map(|budget| (budget, Serve::demo(4).options(["--prefetch", budget]).start()));
    let mut out = std::io::stdout().lock();
    let mut medians = Vec::new();
    for (budget, broker) in &brokers {
        let mut times = Vec::new();
        let flood = Client::dealer(broker.frontend());
        (0..OUT).for_each(|_| flood.send(&[b"", b"sleep 1"]));
        let single = broker.client();
        for _ask in 0..rounds * 100 {
            let begin = Instant::now();
            single.send(&[b"echo x"]);
            while single.socket().poll(zmq::POLLIN, 0)? == 0 {
                if flood.socket().poll(zmq::POLLIN, 1)? != 0 {
                    flood.receive();
                    flood.send(&[b"", b"sleep 1"]);
                }
            }
            single.receive();
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        (0..OUT).for_each(|_| drop(flood.receive()));
        let p50 = median(times.into_iter());
        writeln!(out, "a REQ client beside a flood of 1 ms jobs, --prefetch {budget:<4} p50 {p50:>6.0} us")?;
        medians.push(p50);
    }
    if let [with, without] = medians.as_slice() {
        writeln!(out, "ratio {:.2}", with / without)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the router's memory grows by.
pub(super) fn memory() -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let broker = Broker::demo(1);
    let router = broker.router_pid();
    let before = rss_of(router)?;
    let clients: Vec<Client> = (0..CLIENTS).map(|_| broker.client()).collect();
    for client in &clients {
        client.ask("echo x");
    }
    let each = (rss_of(router)? - before) / f64::from(CLIENTS);
    writeln!(
        out,
        "an idle REQ client: {:.1} KiB ({CLIENTS} of them, after one request each)",
        each / 1024.0
    )?;
    drop(clients);

    let broker = Serve::demo(1).options(["--queue", "100000"]).start();
    let router = broker.router_pid();
    let client = Client::dealer(broker.frontend());
    client.send(&[b"", b"sleep 60000"]);
    broker.wait_for_in_flight(1);
    let before = rss_of(router)?;
    for number in 0..WAITING {
        client.send(&[b"", format!("echo {number:011}").as_bytes()]);
    }
    broker.wait_until("all wait", |report| report.requests.waiting == u64::from(WAITING));
    let each = (rss_of(router)? - before) / f64::from(WAITING);
    writeln!(
        out,
        "a waiting request of 16 bytes: {:.0} bytes above its body ({WAITING} of them)",
        each - 16.0
    )?;
    Ok(ExitCode::SUCCESS)
}

/// From 1 worker to 64, and from a `kill -9` until the pool is whole, as an operator sees it who
/// looks again and again.
pub(super) fn pool(rounds: usize) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let mut times = Vec::new();
    for _round in 0..rounds.div_ceil(5) {
        let broker = Broker::demo(1);
        let begin = Instant::now();
        broker.order(&ControlRequest::Scale(Scale::To(64)));
        broker.wait_for_idle(64);
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    writeln!(out, "from 1 worker to 64 ready: p50 {:.0} ms", median(times.into_iter()))?;
    let broker = Broker::demo(4);
    let mut times = Vec::new();
    // One that dies young is not made good for at once.
    let mut born = [Instant::now(); 4];
    for round in 0..rounds {
        let slot = round % born.len();
        let Some(born) = born.get_mut(slot) else { continue };
        let_pass(GROWN_UP.saturating_sub(born.elapsed()));
        let victim = *broker.workers().get(&u32::try_from(slot)?).ok_or("no worker")?;
        let begin = Instant::now();
        send(victim, SIGKILL);
        loop {
            let report = broker.status();
            let whole = report.workers.iter().filter(|worker| worker.state == "waiting").count() == 4;
            if whole && report.workers.iter().all(|worker| worker.pid != Some(victim)) {
                break;
            }
            if begin.elapsed() > DEADLINE {
                return Err("the pool is not whole again".into());
            }
            let_pass(BETWEEN_LOOKS);
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        *born = Instant::now();
    }
    writeln!(out, "from a kill -9 to a whole pool: p50 {:.1} ms", median(times.into_iter()))?;
    Ok(ExitCode::SUCCESS)
}
