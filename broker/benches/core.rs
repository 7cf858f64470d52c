//! What one request costs the core: taken in, handed out, answered.
//!
//! `cargo bench -p hornpipe --bench core`

use std::collections::VecDeque;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hornpipe::core::{
    Action, ClientId, Core, Details, Event, Generator, Home, Place, Request, RequestId, Settings, Speech,
    Timestamp, Wants, WorkerId,
};
use hornpipe_proto::worker::ReplyStatus;
use hornpipe_proto::{Priority, Token};

const CLIENTS: u64 = 32;

/// A core with its workers, and the jobs that they have in hand.
struct Broker {
    core: Core<u64>,
    now: Timestamp,
    asked: u64,
    answered: u64,
    jobs: VecDeque<(WorkerId, Token)>,
    actions: Vec<Action<u64>>,
    wants: fn(u64) -> Wants,
}

impl Broker {
    fn new(workers: u32, prefetch: Option<Duration>, wants: fn(u64) -> Wants) -> Self {
        let settings = Settings { workers, prefetch, ..Settings::default() };
        let mut broker = Self {
            core: Core::new(settings, Generator::new(1, [0; 32]), None),
            now: Timestamp::new(Duration::from_secs(1)),
            asked: 0,
            answered: 0,
            jobs: VecDeque::new(),
            actions: Vec::new(),
            wants,
        };
        let spawned = broker.tell(Event::Tick);
        assert_eq!(spawned.len(), workers as usize, "every worker is started");
        for (place, number) in spawned.into_iter().zip(1..) {
            let worker = WorkerId(number);
            let details =
                Details { name: None, service: None, credits: 1, seen: 0, claims: true, instance: None };
            broker.tell(Event::Started { place, pid: 1 });
            broker.tell(Event::Joined { worker, home: Home::Local(place) });
            broker.tell(Event::Waiting { worker, speech: Speech::Native(details) });
        }
        broker
    }

    fn tell(&mut self, event: Event<u64>) -> Vec<Place> {
        self.now = self.now.after(Duration::from_micros(1));
        self.core.handle(event, self.now, &mut self.actions);
        let mut spawned = Vec::new();
        for action in self.actions.drain(..) {
            match action {
                Action::Assign(job) => self.jobs.push_back((job.worker, job.token)),
                Action::Answer { .. } => self.answered += 1,
                Action::Spawn { place, .. } => spawned.push(place),
                _other => (),
            }
        }
        spawned
    }

    fn ask(&mut self) {
        self.asked += 1;
        self.tell(Event::Request(Request {
            request: RequestId(self.asked),
            client: ClientId(1 + self.asked % CLIENTS),
            name: None,
            service: None,
            timeout: None,
            attempts: None,
            size: 16,
            wants: (self.wants)(self.asked),
            body: self.asked,
        }));
    }

    fn reply(&mut self) {
        if let Some((worker, token)) = self.jobs.pop_front() {
            let (status, message, size, body) = (ReplyStatus::Ok, None, 16, 0);
            self.tell(Event::Reply { worker, token, status, message, size, body });
        }
    }

    /// One more request, and the reply to the one that was handed out first.
    fn serve(&mut self) {
        self.ask();
        self.reply();
    }
}

fn anything(_number: u64) -> Wants {
    Wants::default()
}

fn classes(number: u64) -> Wants {
    let priority = match number % 3 {
        0 => Priority::High,
        1 => Priority::Normal,
        _ => Priority::Low,
    };
    Wants { priority, ..Wants::default() }
}

fn affinity(number: u64) -> Wants {
    Wants { affinity: Some(format!("user {}", number % 100).into()), ..Wants::default() }
}

fn exclusive(number: u64) -> Wants {
    Wants { exclusive: Some(format!("account {}", number % 100).into()), ..Wants::default() }
}

fn core(criterion: &mut Criterion) {
    let budget = Settings::default().prefetch;
    let mut case = |name: &str, workers: u32, prefetch, waiting: u64, wants| {
        let mut broker = Broker::new(workers, prefetch, wants);
        (0..waiting).for_each(|_| broker.ask());
        criterion.bench_function(name, |bencher| bencher.iter(|| broker.serve()));
        let open = broker.asked - broker.answered;
        assert_eq!(open, waiting, "{name}: every request but the waiting ones is answered");
    };
    case("a request, 4 workers, nobody waits", 4, budget, 0, anything);
    case("a request, 4 workers, nobody waits, without prefetch", 4, None, 0, anything);
    case("a request, 1,000 workers, nobody waits", 1000, budget, 0, anything);
    case("a request, 4 workers, 300 wait", 4, budget, 300, anything);
    case("a request, 4 workers, 300 wait, without prefetch", 4, None, 300, anything);
    case("a request, 4 workers, 9,000 wait", 4, budget, 9000, anything);
    case("a request, 4 workers, 9,000 wait, without prefetch", 4, None, 9000, anything);
    case("a request of three classes, 4 workers, 300 wait", 4, None, 300, classes);
    case("a request with an affinity key of 100, 4 workers, 300 wait", 4, None, 300, affinity);
    case("a request with an exclusive key of 100, 4 workers, 300 wait", 4, None, 300, exclusive);
}

criterion_group!(benches, core);
criterion_main!(benches);
