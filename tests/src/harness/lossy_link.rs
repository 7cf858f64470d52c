//! A link that loses packets in both directions, breaks and is mended, and who asks or works
//! behind it.

use std::time::Duration;

use serde_json::Value;

use super::broker::Serve;
use super::elsewhere::Elsewhere;
use super::link_breaks::start_worker;
use super::process::{Ended, Process};
use super::programs::hornpipe;
use super::wait::{DEADLINE, Deadline, let_pass};

/// Of a hundred packets, and of as many the other way.
const LOST_PERCENT: u32 = 30;

/// Clients that ask at the same time.
const AT_ONCE: u64 = 4;

/// What each of them gives its request.
const CLIENT_TIME: Duration = Duration::from_secs(90);

/// A request that workers behind the link have is over within this time, four at once.
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
    /// Our client asks over there, again and again with one key, four requests at a time; the link
    /// breaks once in between. `None` where there is none.
    pub fn with_clients_behind(requests: u64) -> Option<Self> {
        let elsewhere = Elsewhere::new()?;
        let frontend = format!("{}:0", elsewhere.here());
        let broker = Serve::demo(2).ports(&frontend, "0").options(["--insecure"]).start();
        elsewhere.lose(LOST_PERCENT);
        let since = Deadline::after(DEADLINE);
        let mut link = Self { asked: 0, right: 0, bad: 0, took: Duration::ZERO };
        while link.asked < requests {
            let ask = |number: u64| {
                let (key, body) = (number.to_string(), format!("echo {number}"));
                let words =
                    ["req", broker.frontend(), &body, "--key", &key, "--tries", "30", "--timeout", "90s"];
                (number, elsewhere.start(hornpipe(), &words))
            };
            let asking: Vec<(u64, Process)> = (link.asked..link.asked + AT_ONCE).map(ask).collect();
            if link.asked == AT_ONCE {
                elsewhere.cut();
                let_pass(BREAK);
                elsewhere.mend();
            }
            for (number, mut client) in asking {
                let ended =
                    client.wait_for(CLIENT_TIME + DEADLINE).expect("a client ends when its time is over");
                link.asked += 1;
                let is_right = ended.stdout.trim_end() == number.to_string();
                *(if is_right { &mut link.right } else { &mut link.bad }) += 1;
            }
        }
        link.took = since.elapsed();
        broker.check_counters();
        Some(link)
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
