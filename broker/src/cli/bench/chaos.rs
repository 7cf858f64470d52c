//! A run under which workers die: every so often one of them, whichever, by SIGKILL.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use hornpipe_client::Endpoint;
use hornpipe_proto::control::{ControlRequest, ControlResponse, StatusReport};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::exit_code::BenchExit;
use super::super::operator::{OperatorError, Target};
use super::ledger::{Ledger, LedgerError, Runs};
use crate::config::Address;

/// A broker that does not say what workers it has within this time is left alone this once.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct Chaos {
    brokers: Vec<Target>,
    every: Duration,
    ledger: Option<Ledger>,
}

/// What it came to.
#[derive(Debug)]
pub(super) struct Toll {
    pub(super) every: Duration,
    pub(super) killed: u64,
    /// None if the workers are not the demo worker, which counts its runs.
    pub(super) ledger: Option<Runs>,
}

#[derive(Debug)]
pub(super) enum ChaosError {
    /// Workers of another machine cannot be killed from here.
    Elsewhere(String),
    /// One control socket, and several brokers.
    OneControl,
    Interval,
    Broker(OperatorError),
    NoWorkers(String),
    Ledger(LedgerError),
}

impl ChaosError {
    pub(super) fn exit_code(&self) -> BenchExit {
        match self {
            Self::Elsewhere(_) | Self::OneControl | Self::Interval => BenchExit::Usage,
            Self::Broker(_) => BenchExit::Unreachable,
            Self::NoWorkers(_) | Self::Ledger(_) => BenchExit::Wrong,
        }
    }
}

impl fmt::Display for ChaosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere(endpoint) => {
                write!(f, "--chaos kills processes of this machine: {endpoint} is not known to be here")
            }
            Self::OneControl => f.write_str("--control names one broker's socket, and several are asked"),
            Self::Interval => f.write_str("--chaos needs at least a millisecond between two deaths"),
            Self::Broker(error) => error.fmt(f),
            Self::NoWorkers(endpoint) => {
                write!(f, "{endpoint} has no workers of its own, so there is none to kill")
            }
            Self::Ledger(error) => error.fmt(f),
        }
    }
}

impl Chaos {
    /// Finds the brokers' control sockets, and what their workers can do.
    ///
    /// # Errors
    /// If a broker is not here, or has no workers.
    pub(super) fn prepare(
        endpoints: &[Endpoint],
        control: Option<&Path>,
        every: Duration,
        timeout: Duration,
    ) -> Result<Self, ChaosError> {
        if every < Duration::from_millis(1) {
            return Err(ChaosError::Interval);
        }
        if control.is_some() && endpoints.len() > 1 {
            return Err(ChaosError::OneControl);
        }
        let mut brokers = Vec::new();
        for endpoint in endpoints {
            let address = address(endpoint).ok_or_else(|| ChaosError::Elsewhere(endpoint.to_string()))?;
            let broker = Target::new(address, control.map(Path::to_owned), PATIENCE);
            let report = status(&broker).map_err(ChaosError::Broker)?;
            if report.workers.is_empty() {
                return Err(ChaosError::NoWorkers(endpoint.to_string()));
            }
            brokers.push(broker);
        }
        let ledger = Ledger::open(endpoints, timeout).map_err(ChaosError::Ledger)?;
        Ok(Self { brokers, every, ledger })
    }

    pub(super) fn has_demo_workers(&self) -> bool {
        self.ledger.is_some()
    }

    /// Kills while `work` lasts. It is given what tells how many have been killed.
    pub(super) fn during<T>(self, work: impl FnOnce(&dyn Fn() -> u64) -> T) -> (T, Toll) {
        let Self { brokers, every, ledger } = self;
        let killed = AtomicU64::new(0);
        let (done, runs) = std::thread::scope(|scope| {
            // Dropped when the work has ended, in whatever way.
            let (end, ended) = mpsc::channel::<()>();
            let (end_ledger, ledger_ended) = mpsc::channel::<()>();
            let (brokers, killed) = (&brokers, &killed);
            scope.spawn(move || {
                while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                    if kill_one(brokers) {
                        killed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let counting = ledger.map(|ledger| scope.spawn(move || ledger.keep(&ledger_ended)));
            let done = work(&|| killed.load(Ordering::Relaxed));
            drop((end, end_ledger));
            (done, counting.and_then(|counting| counting.join().ok()))
        });
        (done, Toll { every, killed: killed.into_inner(), ledger: runs })
    }
}

/// The broker's frontend as its verbs are told it: the port, if it is here.
fn address(endpoint: &Endpoint) -> Option<Address> {
    match endpoint {
        Endpoint::Tcp { host, port } if is_here(host) => port.to_string().parse().ok(),
        Endpoint::Tcp { .. } | Endpoint::Ipc { .. } => None,
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn status(broker: &Target) -> Result<StatusReport, OperatorError> {
    match broker.ask_quietly(&ControlRequest::Status)? {
        ControlResponse::Status(report) => Ok(*report),
        _ => Err(OperatorError::Unreadable),
    }
}

/// Kills one worker of one broker, both whichever. False if there was none just then.
fn kill_one(brokers: &[Target]) -> bool {
    let Some(broker) = pick(brokers) else { return false };
    let pids = |report: &StatusReport| -> Vec<i32> {
        let is_up = |state: &str| state == "waiting" || state == "processing";
        report.workers.iter().filter(|worker| is_up(&worker.state)).filter_map(|worker| worker.pid).collect()
    };
    let Some(pid) = status(broker).ok().and_then(|report| pick(&pids(&report)).copied()) else {
        return false;
    };
    let Some(process) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    // The number may have been another's by the time it was opened. If it is a worker's
    // still, what was opened is that worker.
    status(broker).is_ok_and(|report| pids(&report).contains(&pid))
        && pidfd_send_signal(&process, Signal::KILL).is_ok()
}

fn pick<T>(some: &[T]) -> Option<&T> {
    let lot = getrandom::u64().ok()?;
    let place = lot.checked_rem(u64::try_from(some.len()).ok()?)?;
    some.get(usize::try_from(place).ok()?)
}
