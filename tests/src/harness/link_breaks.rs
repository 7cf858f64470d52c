//! The link to a worker on another machine breaks while it has a request, and is mended while
//! it still has it.

use std::time::Duration;

use hornpipe_proto::worker::{Announcement, BrokerMessage, ReplyMeta};

use super::broker::{Broker, Serve};
use super::client::Client;
use super::elsewhere::Elsewhere;
use super::process::Process;
use super::programs::hornpipe;
use super::wait::{DEADLINE, Deadline, until};
use super::worker::NativeWorker;

/// Longer than it takes to notice a break, so that the reply is a late one.
const JOB: &[u8] = b"sleep 4500";

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct LinkBreaks {
    /// From each break until another worker had the request.
    pub elsewhere: Vec<Duration>,
    /// From each mending until the worker behind it served again.
    pub back: Vec<Duration>,
    /// Replies under a token that was not its worker's any more.
    pub late: u64,
    /// Answers to a request that had been answered.
    pub doubled: u64,
}

impl LinkBreaks {
    /// Breaks a link so many times; `None` where there is none to be had.
    ///
    /// # Panics
    /// If a request has no answer, or another one than the second worker's, or the worker behind the link
    /// does not come back.
    pub fn play(rounds: u32) -> Option<Self> {
        let elsewhere = Elsewhere::new()?;
        let backend = format!("{}:0", elsewhere.here());
        let broker = Serve::bare(0).ports("0", &backend).options(["--insecure"]).start();
        let _remote = start_worker(&elsewhere, &broker, 1);
        let mut breaks = Self::default();
        for round in 1..=rounds {
            breaks.break_once(&elsewhere, &broker, round);
        }
        breaks.late = broker.status().noise.stale_replies;
        broker.check_counters();
        Some(breaks)
    }

    fn break_once(&mut self, elsewhere: &Elsewhere, broker: &Broker, round: u32) {
        let client = Client::dealer(broker.frontend());
        client.send(&[b"", JOB]);
        broker.wait_until("the worker over there has it", |report| report.requests.in_flight == 1);
        let since = Deadline::after(DEADLINE);
        elsewhere.cut();
        let here = NativeWorker::connect(broker.backend(), &Announcement::default());
        let (BrokerMessage::Job { token, meta: Some(meta) }, body) = here.receive() else {
            panic!("a job was expected");
        };
        self.elsewhere.push(since.elapsed());
        assert_eq!((meta.attempt, &*body), (2, &[JOB.to_vec()][..]));
        here.reply(&token, &ReplyMeta::default(), b"from here");
        assert_eq!(client.receive(), [b"".to_vec(), b"from here".to_vec()]);
        drop(here);
        let since = Deadline::after(DEADLINE);
        elsewhere.mend();
        // It still sleeps over the first request, and serves when it is done with that.
        let next = Client::dealer(broker.frontend());
        next.send(&[b"", format!("echo {round}").as_bytes()]);
        assert_eq!(next.receive()[1], round.to_string().as_bytes());
        self.back.push(since.elapsed());
        self.doubled += u64::from(client.receive_within(Duration::ZERO).is_some());
    }
}

/// One more over there, which makes so many.
pub(super) fn start_worker(elsewhere: &Elsewhere, broker: &Broker, count: usize) -> Process {
    let worker = elsewhere.start(hornpipe(), &["worker", "demo", "--backend", broker.backend()]);
    until("the worker over there is known", DEADLINE, || {
        let report = broker.status();
        let idle = report.external.iter().filter(|worker| worker.state == "waiting");
        (idle.count() == count).then_some(())
    });
    worker
}
