//! A link that loses packets in both directions, breaks and is mended, and who asks or works
//! behind it.

use std::time::Duration;

use serde_json::Value;

use super::broker::Serve;
use super::elsewhere::Elsewhere;
use super::link_breaks::start_worker;
use super::process::{Ended, Process};
use super::programs::hornpipe;
use super::wait::{DEADLINE, Deadline, let_pass, until};

/// Of a hundred packets, and of as many the other way.
const LOST_PERCENT: u32 = 30;

/// So many are answered before it breaks.
const SOME: u64 = 10;

/// A request is over within this time, four at once and lost packets and all.
const EACH: Duration = Duration::from_millis(500);

/// Longer than it takes both sides to give a silent connection up.
const BREAK: Duration = Duration::from_secs(4);

/// What came of the requests over such a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossyLink {
    pub asked: u64,
    pub right: u64,
    /// Wrong, lost, answered twice, or never sent.
    pub bad: u64,
    pub took: Duration,
}

impl LossyLink {
    /// Our client asks over there, and the link breaks once in between; `None` where there is none.
    pub fn with_clients_behind(requests: u64) -> Option<Self> {
        let elsewhere = Elsewhere::new()?;
        let frontend = format!("{}:0", elsewhere.here());
        let broker = Serve::demo(2).ports(&frontend, "0").options(["--insecure"]).start();
        elsewhere.lose(LOST_PERCENT);
        let since = Deadline::after(DEADLINE);
        let words = load(broker.frontend(), requests);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut bench = elsewhere.start(hornpipe(), &words);
        until("some are answered", DEADLINE, || (SOME <= broker.status().requests.answered).then_some(()));
        elsewhere.cut();
        let_pass(BREAK);
        elsewhere.mend();
        let figures = Self::read(&over(&mut bench, requests), since.elapsed());
        broker.check_counters();
        Some(figures)
    }

    /// Two workers serve over there; `None` where there is none.
    pub fn with_workers_behind(requests: u64) -> Option<Self> {
        let elsewhere = Elsewhere::new()?;
        let backend = format!("{}:0", elsewhere.here());
        // Each silence of three seconds that the loss makes is the end of an attempt.
        let options = ["--insecure", "--attempts", "10"];
        let broker = Serve::bare(0).ports("0", &backend).options(options).start();
        elsewhere.lose(LOST_PERCENT);
        let _workers = [1, 2].map(|count| start_worker(&elsewhere, &broker, count));
        let since = Deadline::after(DEADLINE);
        let words = load(broker.frontend(), requests);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut bench = Process::start(hornpipe(), &words);
        let figures = Self::read(&over(&mut bench, requests), since.elapsed());
        broker.check_counters();
        Some(figures)
    }

    fn read(ended: &Ended, took: Duration) -> Self {
        let report: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", ended.stdout, ended.stderr));
        let count =
            |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}", ended.stdout));
        let bad = ["wrong", "lost", "doubled", "unsent"].map(count).iter().sum();
        Self { asked: count("sent"), right: count("ok"), bad, took }
    }
}

fn load(frontend: &str, requests: u64) -> Vec<String> {
    let words = ["bench", frontend, "--json", "--prefix", "echo ", "-c", "4", "-n"];
    words.into_iter().map(ToOwned::to_owned).chain([requests.to_string()]).collect()
}

/// So many requests take their time.
fn over(bench: &mut Process, requests: u64) -> Ended {
    let within = DEADLINE + EACH * u32::try_from(requests).unwrap();
    bench.wait_for(within).expect("all requests are over")
}
