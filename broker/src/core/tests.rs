//! Short stories about single decisions. The laws are played by the simulation.

mod crews;
mod liveness;
mod losses;
mod pauses;

use std::time::Duration;

use hornpipe_proto::worker::ReplyStatus;
use hornpipe_proto::{Status, Token};

use super::{
    Action, ClientId, Core, Details, Ending, Event, Finish, Generator, Home, Incarnation, Note, Phase, Place,
    Request, RequestId, Settings, Slot, Speech, Stop, Timestamp, Wants, WorkerId,
};

type Body = &'static str;

/// A broker, its clock, and what it has ordered since it was last asked.
struct Story {
    core: Core<Body>,
    now: Timestamp,
    actions: Vec<Action<Body>>,
}

const FIRST: WorkerId = WorkerId(1);
const SECOND: WorkerId = WorkerId(2);

fn place(slot: u32, incarnation: u32) -> Place {
    Place { slot: Slot(slot), incarnation: Incarnation(incarnation) }
}

fn native(seen: u64) -> Speech {
    Speech::Native(Details { name: None, service: None, credits: 1, seen, claims: false, instance: None })
}

impl Story {
    fn with(settings: Settings) -> Self {
        let core = Core::new(settings, Generator::new(1, [7; 32]), None);
        let mut story = Self { core, now: Timestamp::new(Duration::from_secs(50)), actions: Vec::new() };
        story.hear(Event::Tick);
        story
    }

    /// No process of its own: workers are external ones.
    fn without_pool() -> Self {
        Self::with(Settings { workers: 0, min: 0, ..Settings::default() })
    }

    fn hear(&mut self, event: Event<Body>) {
        self.core.handle(event, self.now, &mut self.actions);
    }

    fn later(&mut self, delay: Duration) {
        self.now = self.now.after(delay);
        self.hear(Event::Tick);
    }

    fn ask(&mut self, number: u64) {
        self.ask_with(number, |_request| ());
    }

    fn ask_with(&mut self, number: u64, adjust: impl FnOnce(&mut Request<Body>)) {
        let mut request = Request {
            request: RequestId(number),
            client: ClientId(number),
            name: None,
            service: None,
            timeout: None,
            attempts: None,
            wants: Wants::default(),
            size: 5,
            body: "hello",
        };
        adjust(&mut request);
        self.hear(Event::Request(request));
    }

    fn external(&mut self, worker: WorkerId, speech: Speech) {
        self.hear(Event::Joined { worker, home: Home::External });
        self.hear(Event::Waiting { worker, speech });
    }

    fn local(&mut self, worker: WorkerId, place: Place) {
        self.hear(Event::Started { place, pid: 100 });
        self.hear(Event::Joined { worker, home: Home::Local(place) });
        self.hear(Event::Waiting { worker, speech: native(0) });
    }

    fn reply(&mut self, worker: WorkerId, token: Token) {
        self.hear(Event::Reply {
            worker,
            token,
            status: ReplyStatus::Ok,
            message: None,
            size: 4,
            body: "done",
        });
    }

    /// The assignments since the last question: to whom, and which request.
    fn assigned(&mut self) -> Vec<(WorkerId, u64, Token)> {
        let one = |action| {
            if let Action::Assign(job) = action { Some((job.worker, job.request.0, job.token)) } else { None }
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(one).collect()
    }

    fn refused(&mut self) -> Vec<(u64, Status)> {
        let one = |action| {
            if let Action::Refuse { request, status, .. } = action { Some((request.0, status)) } else { None }
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(one).collect()
    }

    fn answered(&mut self) -> Vec<u64> {
        let one = |action| if let Action::Answer { request, .. } = action { Some(request.0) } else { None };
        std::mem::take(&mut self.actions).into_iter().filter_map(one).collect()
    }

    /// Orders to the parent since the last question, as words.
    fn orders(&mut self) -> Vec<String> {
        let one = |action: Action<Body>| match action {
            Action::Spawn { place, .. } => Some(format!("spawn {place}")),
            Action::Terminate { place } => Some(format!("terminate {place}")),
            Action::Kill { place } => Some(format!("kill {place}")),
            Action::Dismiss { worker } => Some(format!("dismiss {worker}")),
            Action::Part { .. }
            | Action::Answer { .. }
            | Action::Refuse { .. }
            | Action::Forget { .. }
            | Action::Assign(_)
            | Action::Probe(_)
            | Action::Withdraw { .. }
            | Action::Cancel { .. }
            | Action::Allow { .. }
            | Action::Journal { .. }
            | Action::Remember(_)
            | Action::Note(_)
            | Action::Stopping { .. }
            | Action::Measure { .. }
            | Action::Disown { .. }
            | Action::Capacity { .. }
            | Action::Finished(_) => None,
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(one).collect()
    }
}

#[test]
fn a_dead_workers_request_goes_to_the_head_of_the_line() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    for number in 1..=3 {
        story.ask(number);
    }
    story.hear(Event::WorkerLeft { worker: FIRST });
    story.external(SECOND, native(0));
    let given: Vec<u64> = story.assigned().iter().map(|(_, request, _)| *request).collect();
    assert_eq!(given, [1, 1]);
    assert_eq!(story.core.backlog_len(), 2);
}

#[test]
fn a_request_is_lost_when_its_attempts_are_used_up() {
    let mut story = Story::without_pool();
    for worker in [FIRST, SECOND] {
        story.external(worker, native(0));
    }
    story.ask(1);
    story.hear(Event::WorkerLeft { worker: FIRST });
    assert_eq!(story.refused(), []);
    story.hear(Event::WorkerLeft { worker: SECOND });
    assert_eq!(story.refused(), [(1, Status::Lost)]);
}

#[test]
fn a_reply_counts_only_from_the_worker_that_holds_the_request() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    story.ask(1);
    let (_, _, token) = story.assigned()[0];
    story.external(SECOND, native(0));
    story.reply(SECOND, token);
    assert!(story.answered().is_empty());
    story.reply(FIRST, token);
    story.reply(FIRST, token);
    assert_eq!(story.answered(), [1]);
    assert_eq!(story.core.counters().stale_replies, 2);
}

#[test]
fn waiting_that_crossed_a_job_does_not_run_it_twice() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    story.ask(1);
    story.external(SECOND, native(0));
    story.hear(Event::Waiting { worker: FIRST, speech: native(0) });
    assert_eq!(story.assigned().len(), 1);
    // It has received the job and is idle all the same: the job is lost.
    story.hear(Event::Waiting { worker: FIRST, speech: native(1) });
    assert_eq!(story.assigned().len(), 1);
}

#[test]
fn a_plain_worker_is_idle_when_it_says_so_and_not_by_its_reply() {
    let mut story = Story::without_pool();
    story.external(FIRST, Speech::Plain);
    story.ask(1);
    story.ask(2);
    let (_, _, token) = story.assigned()[0];
    story.reply(FIRST, token);
    assert_eq!(story.assigned(), []);
    story.hear(Event::Waiting { worker: FIRST, speech: Speech::Plain });
    assert_eq!(story.assigned()[0].1, 2);
}

#[test]
fn who_was_idle_longest_is_next() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    story.external(SECOND, native(0));
    for number in 1..=3 {
        story.ask(number);
        let (worker, _, token) = story.assigned()[0];
        assert_eq!(worker, if number % 2 == 1 { FIRST } else { SECOND });
        story.reply(worker, token);
        story.actions.clear();
    }
}

#[test]
fn a_full_queue_says_busy_at_once() {
    let mut story = Story::with(Settings { workers: 0, min: 0, backlog_limit: 1, ..Settings::default() });
    story.ask(1);
    story.ask(2);
    assert_eq!(story.refused(), [(2, Status::Busy)]);
}

#[test]
fn a_request_that_nobody_ran_expires_and_one_that_somebody_runs_times_out() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    for number in 1..=2 {
        story.ask_with(number, |request| request.timeout = Some(Duration::from_secs(1)));
    }
    story.later(Duration::from_secs(1));
    assert_eq!(story.refused(), [(1, Status::Timeout), (2, Status::Expired)]);
}

#[test]
fn a_stuck_worker_is_told_to_cancel_then_terminated_then_killed() {
    let mut story = Story::with(Settings { timeout: Some(Duration::from_secs(10)), ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.ask(1);
    story.actions.clear();
    story.later(Duration::from_secs(10));
    assert!(story.actions.iter().any(|action| matches!(action, Action::Cancel { worker: FIRST, .. })));
    assert_eq!(story.refused(), [(1, Status::Timeout)]);
    story.later(Duration::from_secs(1));
    assert_eq!(story.orders(), ["terminate 0.1", "spawn 0.2"]);
    story.later(Duration::from_secs(5));
    assert_eq!(story.orders(), ["kill 0.1"]);
}

#[test]
fn a_reply_that_the_exit_notice_overtook_is_delivered() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.ask(1);
    let (_, _, token) = story.assigned()[0];
    story.hear(Event::Exited { place: place(0, 1), ending: Ending::Code(0) });
    story.reply(FIRST, token);
    assert_eq!(story.answered(), [1]);
}

#[test]
fn a_worker_whose_connection_is_gone_while_its_process_lives_is_replaced() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.hear(Event::WorkerLeft { worker: FIRST });
    story.actions.clear();
    story.later(Duration::from_secs(1));
    assert_eq!(story.orders(), ["terminate 0.1", "spawn 0.2"]);
}

#[test]
fn the_old_worker_goes_only_when_the_new_one_is_ready() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.actions.clear();
    story.hear(Event::Reload { surge: None });
    assert_eq!(story.orders(), ["spawn 0.2"]);
    story.local(SECOND, place(0, 2));
    assert_eq!(story.orders(), <[String; 0]>::default());
    story.later(Duration::from_secs(1));
    assert_eq!(story.orders(), ["dismiss 1"]);
}

#[test]
fn a_newcomer_that_has_served_is_proven_at_once() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.hear(Event::Reload { surge: None });
    story.ask(1);
    let (_, _, token) = story.assigned()[0];
    story.local(SECOND, place(0, 2));
    story.ask(2);
    let (worker, _, second_token) = story.assigned()[0];
    assert_eq!(worker, SECOND);
    story.reply(SECOND, second_token);
    assert_eq!(story.orders(), ["dismiss 1"]);
    story.reply(FIRST, token);
}

#[test]
fn a_newcomer_that_says_ready_and_dies_leaves_the_old_worker_serving() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.hear(Event::Reload { surge: None });
    story.local(SECOND, place(0, 2));
    story.actions.clear();
    story.hear(Event::Exited { place: place(0, 2), ending: Ending::Code(1) });
    assert!(story.actions.iter().any(|action| matches!(action, Action::Note(Note::ReloadFailed { .. }))));
    assert_eq!(story.orders(), <[String; 0]>::default());
}

#[test]
fn a_newcomer_gets_its_probe_and_nothing_else_before_it_has_answered() {
    let probe_timeout = Some(Duration::from_secs(3));
    let mut story = Story::with(Settings { probe_timeout, ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.hear(Event::Reload { surge: None });
    story.ask(1);
    assert_eq!(story.assigned()[0].0, FIRST);
    story.local(SECOND, place(0, 2));
    story.ask(2);
    let probe = |action: &Action<Body>| if let Action::Probe(probe) = action { Some(*probe) } else { None };
    let probe = story.actions.iter().find_map(probe).unwrap();
    assert_eq!((probe.worker, probe.detailed, Some(probe.left)), (SECOND, true, probe_timeout));
    assert_eq!(story.assigned(), []);
    story.reply(SECOND, probe.token);
    assert_eq!(story.assigned()[0].0, SECOND);
    assert_eq!(story.core.counters().received, 2);
}

#[test]
fn up_to_surge_slots_are_renewed_at_once_after_the_first() {
    let size = Settings { workers: 4, surge: 2, ..Settings::default() };
    let mut story = Story::with(size);
    for slot in 0..4 {
        story.local(WorkerId(u64::from(slot) + 1), place(slot, 1));
    }
    story.actions.clear();
    story.hear(Event::Reload { surge: None });
    assert_eq!(story.orders(), ["spawn 0.2"]);
    story.local(WorkerId(11), place(0, 2));
    story.later(Duration::from_secs(1));
    assert_eq!(story.orders(), ["dismiss 1", "spawn 1.2", "spawn 2.2"]);
    story.local(WorkerId(12), place(1, 2));
    assert_eq!(story.orders(), ["dismiss 2", "spawn 3.2"]);
}

#[test]
fn a_reload_whose_newcomer_fails_leaves_the_old_worker_serving() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.hear(Event::Reload { surge: None });
    story.actions.clear();
    story.hear(Event::Exited { place: place(0, 2), ending: Ending::Code(1) });
    assert!(story.actions.iter().any(|action| matches!(action, Action::Note(Note::ReloadFailed { .. }))));
    assert_eq!(story.orders(), <[String; 0]>::default());
    story.ask(1);
    assert_eq!(story.assigned()[0].0, FIRST);
}

#[test]
fn a_pool_that_never_had_a_worker_gives_up_when_each_slot_has_failed_twice() {
    let mut story = Story::with(Settings::default());
    story.ask(1);
    for incarnation in 1..=2 {
        assert_eq!(story.core.phase(), Phase::Starting);
        story.hear(Event::Exited { place: place(0, incarnation), ending: Ending::Code(1) });
        story.now = story.now.after(Duration::from_secs(1));
        story.hear(Event::Tick);
    }
    let finished =
        |action: &Action<Body>| matches!(action, Action::Finished(Finish::CannotStart { spoke: false }));
    assert!(story.actions.iter().any(finished));
    assert_eq!(story.refused(), [(1, Status::Unavailable)]);
}

#[test]
fn a_death_after_long_service_does_not_make_a_pool_failing() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    for incarnation in 1..=3 {
        story.hear(Event::Exited { place: place(0, incarnation), ending: Ending::Code(1) });
        story.later(Duration::from_secs(1));
    }
    assert_eq!(story.core.phase(), Phase::Failing);
    story.local(SECOND, place(0, 4));
    story.later(Duration::from_secs(10));
    story.ask(1);
    story.hear(Event::Exited { place: place(0, 4), ending: Ending::Signal(9) });
    story.hear(Event::WorkerLeft { worker: SECOND });
    assert_eq!(story.core.phase(), Phase::Serving);
    assert_eq!(story.refused(), []);
}

#[test]
fn a_drain_refuses_what_waits_and_finishes_what_runs() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.ask(1);
    story.ask(2);
    let (_, _, token) = story.assigned()[0];
    story.hear(Event::Stop(Stop::Drain));
    assert_eq!(story.refused(), [(2, Status::Draining)]);
    story.reply(FIRST, token);
    assert_eq!(story.orders(), ["dismiss 1"]);
    story.hear(Event::Exited { place: place(0, 1), ending: Ending::Code(0) });
    assert!(matches!(story.actions.last(), Some(Action::Finished(Finish::Stopped))));
}

#[test]
fn a_new_router_waits_for_the_workers_of_the_old_one() {
    let memory = super::Memory {
        target: 3,
        incarnations: vec![(Slot(0), Incarnation(4))],
        returning: vec![place(2, 1)],
        ..super::Memory::default()
    };
    let core = Core::new(Settings::default(), Generator::new(2, [7; 32]), Some(&memory));
    let mut story = Story { core, now: Timestamp::new(Duration::from_secs(50)), actions: Vec::new() };
    for (slot, incarnation) in [(0, 4), (1, 1), (2, 1)] {
        let (place, started) = (place(slot, incarnation), Timestamp::new(Duration::from_secs(9)));
        story.hear(Event::Adopted { place, generation: super::Generation(0), pid: 7, started });
    }
    story.hear(Event::Joined { worker: FIRST, home: Home::Local(place(0, 4)) });
    let details = Details { name: None, service: None, credits: 1, seen: 0, claims: false, instance: None };
    story.hear(Event::Hello { worker: FIRST, details });
    assert_eq!(story.orders(), <[String; 0]>::default());
    story.later(Duration::from_millis(300));
    assert_eq!(story.orders(), ["terminate 1.1", "spawn 1.2"]);
    // One that has told the old one that it comes back has more time.
    story.later(Duration::from_secs(5));
    assert_eq!(story.orders(), ["terminate 2.1", "kill 1.1", "spawn 2.2"]);
}

#[test]
fn accepted_work_gets_a_worker_while_the_pool_is_handed_over() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.later(Duration::from_mins(1));
    story.ask(1);
    story.hear(Event::HandOver);
    assert_eq!(story.core.phase(), Phase::HandingOver);
    story.orders();
    story.hear(Event::Exited { place: place(0, 1), ending: Ending::Signal(9) });
    story.hear(Event::WorkerLeft { worker: FIRST });
    assert_eq!(story.orders(), ["spawn 0.2"]);
    story.local(SECOND, place(0, 2));
    let token = story.assigned()[0].2;
    story.reply(SECOND, token);
    assert_eq!(story.answered(), [1]);
    story.later(Duration::from_secs(1));
    assert_eq!(story.core.phase(), Phase::HandedOver);
    let finished = |action: &Action<Body>| matches!(action, Action::Finished(Finish::HandedOver));
    assert!(story.actions.iter().any(finished));
    story.ask(2);
    assert_eq!(story.refused(), [(2, Status::Unavailable)]);
}

#[test]
fn a_stop_without_a_deadline_outlives_the_time_of_a_handover() {
    let mut story = Story::with(Settings::default());
    story.local(FIRST, place(0, 1));
    story.ask(1);
    story.hear(Event::HandOver);
    story.hear(Event::Stop(Stop::Finish));
    let token = story.assigned()[0].2;
    story.later(Duration::from_hours(1));
    assert_eq!(story.refused(), []);
    story.reply(FIRST, token);
    assert_eq!(story.answered(), [1]);
}
