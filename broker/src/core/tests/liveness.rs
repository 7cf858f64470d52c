//! Workers that beat, and those whose hearts have stopped.

use std::time::Duration;

use super::{Action, Event, FIRST, SECOND, Settings, Speech, Story, place};
use crate::core::{ExitReason, Home, Note, WorkerId};

const INTERVAL: Duration = Duration::from_secs(1);

fn beating() -> Speech {
    Speech::Beating { service: None, interval: INTERVAL }
}

fn disowned(story: &mut Story) -> Vec<WorkerId> {
    let one = |action| if let Action::Disown { worker } = action { Some(worker) } else { None };
    std::mem::take(&mut story.actions).into_iter().filter_map(one).collect()
}

#[test]
fn one_that_beats_is_kept_and_one_that_stops_is_given_up_after_three() {
    let mut story = Story::without_pool();
    story.external(FIRST, beating());
    story.external(SECOND, beating());
    for _ in 0..2 {
        story.later(INTERVAL);
        story.hear(Event::Heartbeat { worker: FIRST });
        assert_eq!(disowned(&mut story), []);
    }
    story.later(INTERVAL);
    assert_eq!(disowned(&mut story), [SECOND]);
    story.ask(1);
    assert_eq!(story.assigned()[0].0, FIRST);
}

#[test]
fn one_at_work_is_never_given_up_and_its_reply_is_a_sign_of_life() {
    let mut story = Story::without_pool();
    story.external(FIRST, beating());
    story.ask(1);
    let (_, _, token) = story.assigned()[0];
    story.later(100 * INTERVAL);
    assert_eq!(disowned(&mut story), []);
    story.reply(FIRST, token);
    story.later(2 * INTERVAL);
    assert_eq!(disowned(&mut story), []);
    story.later(3 * INTERVAL);
    assert_eq!(disowned(&mut story), [FIRST]);
}

#[test]
fn a_sign_of_life_of_one_at_work_brings_it_no_second_request() {
    let mut story = Story::without_pool();
    story.external(FIRST, beating());
    story.ask(1);
    story.ask(2);
    let first = story.assigned();
    assert_eq!(first.len(), 1);
    for _ in 0..3 {
        story.hear(Event::Heartbeat { worker: FIRST });
        story.hear(Event::Waiting { worker: FIRST, speech: beating() });
    }
    assert_eq!(story.assigned(), []);
    story.reply(FIRST, first[0].2);
    assert_eq!(story.assigned()[0].1, 2);
}

#[test]
fn a_silent_process_of_ours_is_replaced_unless_somebody_has_stopped_it() {
    let mut story = Story::with(Settings::default());
    let first = place(0, 1);
    story.hear(Event::Started { place: first, pid: 100 });
    story.hear(Event::Joined { worker: FIRST, home: Home::Local(first) });
    story.hear(Event::Waiting { worker: FIRST, speech: beating() });
    story.hear(Event::Halted { place: first });
    story.actions.clear();
    story.later(4 * INTERVAL);
    story.later(Duration::from_millis(900));
    story.hear(Event::Continued { place: first });
    story.later(2 * INTERVAL);
    assert!(!story.actions.iter().any(|action| matches!(action, Action::Terminate { .. })));
    story.later(4 * INTERVAL);
    assert!(
        story.actions.iter().any(|action| matches!(action, Action::Terminate { place } if *place == first))
    );
    story.hear(Event::Exited { place: first, ending: crate::core::Ending::Signal(15) });
    let silent = |action: &Action<_>| {
        matches!(action, Action::Note(Note::WorkerLeft { reason: ExitReason::Silent, .. }))
    };
    assert!(story.actions.iter().any(silent), "{:?}", story.actions);
}

#[test]
fn what_one_has_that_speaks_out_of_turn_goes_to_another() {
    let mut story = Story::without_pool();
    story.external(FIRST, beating());
    story.ask(1);
    story.assigned();
    story.external(SECOND, beating());
    story.hear(Event::OutOfTurn { worker: FIRST });
    assert_eq!(story.assigned()[0].0, SECOND);
    assert_eq!(story.core.counters().malformed_workers, 1);
}
