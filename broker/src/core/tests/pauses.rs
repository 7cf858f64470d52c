//! Stories of a pool that its operator has paused.

use super::*;
use crate::core::{PauseMode, Unready};

const HOLD: Event<Body> = Event::Pause { mode: PauseMode::Hold };
const REFUSE: Event<Body> = Event::Pause { mode: PauseMode::Refuse };

/// One idle worker, paused.
fn paused(pause: Event<Body>) -> Story {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    story.hear(pause);
    story
}

#[test]
fn what_arrives_waits_until_the_pool_is_resumed() {
    let mut story = paused(HOLD);
    story.ask(1);
    story.ask(2);
    assert_eq!(story.assigned(), [], "handed out while paused");
    assert_eq!((story.core.phase_word(), story.core.unready()), ("paused", Some(Unready::Paused)));
    story.hear(Event::Resume);
    let [(FIRST, 1, token)] = story.assigned()[..] else { panic!("the first was to go out") };
    story.reply(FIRST, token);
    assert!(matches!(story.assigned()[..], [(FIRST, 2, _)]));
    assert_eq!(story.core.phase_word(), "serving");
}

#[test]
fn what_arrives_can_be_refused_while_what_waits_stays() {
    let mut story = paused(HOLD);
    story.ask(1);
    story.hear(REFUSE);
    story.ask(2);
    assert_eq!(story.refused(), [(2, Status::Unavailable)]);
    story.hear(HOLD);
    story.ask(3);
    assert_eq!((story.refused(), story.core.backlog_len()), (Vec::new(), 2));
}

#[test]
fn what_runs_goes_on_and_what_it_loses_waits() {
    let mut story = Story::with(Settings { workers: 2, ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.local(SECOND, place(1, 1));
    story.ask(1);
    story.ask(2);
    let [(worker, 1, token), (_, 2, _)] = story.assigned()[..] else { panic!("both were to go out") };
    story.hear(HOLD);
    story.reply(worker, token);
    assert_eq!(story.answered(), [1]);
    let other = if worker == FIRST { (SECOND, place(1, 1)) } else { (FIRST, place(0, 1)) };
    story.hear(Event::WorkerLeft { worker: other.0 });
    story.hear(Event::Exited { place: other.1, ending: Ending::Signal(9) });
    assert_eq!((story.assigned(), story.core.backlog_len()), (Vec::new(), 1));
    story.hear(Event::Resume);
    assert!(matches!(story.assigned()[..], [(_, 2, _)]));
}

#[test]
fn a_request_that_waits_for_the_operator_runs_out_of_time_as_any_other() {
    let mut story = paused(HOLD);
    story.ask_with(1, |request| request.timeout = Some(Duration::from_secs(2)));
    story.later(Duration::from_secs(2));
    assert_eq!(story.refused(), [(1, Status::Expired)]);
}

#[test]
fn a_drain_refuses_what_waits_and_quit_serves_it() {
    let mut drained = paused(HOLD);
    drained.ask(1);
    drained.hear(Event::Stop(Stop::Drain));
    assert_eq!(drained.refused(), [(1, Status::Draining)]);
    let mut finished = paused(HOLD);
    finished.ask(1);
    finished.hear(Event::Stop(Stop::Finish));
    let [(FIRST, 1, token)] = finished.assigned()[..] else { panic!("QUIT ends the pause") };
    finished.reply(FIRST, token);
    assert!(matches!(finished.actions.last(), Some(Action::Finished(Finish::Stopped))));
}

#[test]
fn another_router_finds_the_pool_paused_and_the_queue_empty() {
    let mut story = paused(HOLD);
    story.ask(1);
    story.hear(Event::HandOver);
    assert_eq!(story.refused(), [(1, Status::Unavailable)]);
    story.later(Duration::from_secs(1));
    let memories = std::mem::take(&mut story.actions).into_iter().filter_map(|action| match action {
        Action::Remember(memory) => Some(memory),
        _ => None,
    });
    let memory = memories.last().unwrap();
    assert_eq!(
        memory.pause.map(|pause| (pause.mode, pause.since.since_start().as_secs())),
        Some((PauseMode::Hold, 50))
    );
    let next: Core<Body> = Core::new(Settings::default(), Generator::new(2, [7; 32]), Some(&memory));
    assert_eq!(next.pause(), memory.pause);
}

#[test]
fn no_queue_is_no_queue_while_paused_too() {
    let mut story = Story::with(Settings { workers: 0, min: 0, backlog_limit: 0, ..Settings::default() });
    story.external(FIRST, native(0));
    story.hear(HOLD);
    story.ask(1);
    assert_eq!(story.refused(), [(1, Status::Busy)]);
}
