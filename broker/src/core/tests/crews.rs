//! Requests that name their worker, and workers that are lent to other brokers.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::worker::ReplyStatus;

use super::{Action, Event, FIRST, RequestId, SECOND, Settings, Story, native, place};
use crate::core::{Ending, Stop, WorkerId};

fn story() -> Story {
    let settings = Settings { workers: 2, lends_workers: true, ..Settings::default() };
    let mut story = Story::with(settings);
    story.local(FIRST, place(0, 1));
    story.local(SECOND, place(1, 1));
    story
}

fn capacities(story: &mut Story) -> Vec<(WorkerId, u32)> {
    let one = |action| match action {
        Action::Capacity { worker, requests } => Some((worker, requests)),
        _ => None,
    };
    std::mem::take(&mut story.actions).into_iter().filter_map(one).collect()
}

fn refused(story: &mut Story) -> Vec<(RequestId, Status, u32)> {
    let one = |action| match action {
        Action::Refuse { request, status, attempt, .. } => Some((request, status, attempt)),
        _ => None,
    };
    std::mem::take(&mut story.actions).into_iter().filter_map(one).collect()
}

fn ask_of(story: &mut Story, number: u64, worker: WorkerId) {
    story.ask_with(number, |request| request.wants.worker = Some(worker));
}

#[test]
fn what_workers_can_do_is_told_as_it_changes() {
    let mut story = story();
    assert_eq!(capacities(&mut story), [(FIRST, 1), (SECOND, 1)]);
    ask_of(&mut story, 1, FIRST);
    let (_, _, token) = story.assigned()[0];
    story.reply(FIRST, token);
    assert_eq!(capacities(&mut story), [], "work changes nothing");
    story.hear(Event::Halted { place: place(0, 1) });
    assert_eq!(capacities(&mut story), [(FIRST, 0)]);
    story.hear(Event::Continued { place: place(0, 1) });
    assert_eq!(capacities(&mut story), [(FIRST, 1)]);
    story.hear(Event::Exited { place: place(1, 1), ending: Ending::Signal(9) });
    assert_eq!(capacities(&mut story), [(SECOND, 0)]);
    story.hear(Event::Stop(Stop::Drain));
    assert_eq!(capacities(&mut story), [(FIRST, 0)]);
}

#[test]
fn a_request_that_names_its_worker_waits_for_it_while_another_is_idle() {
    let mut story = story();
    ask_of(&mut story, 1, FIRST);
    ask_of(&mut story, 2, FIRST);
    let first = story.assigned();
    assert_eq!(first.iter().map(|job| (job.0, job.1)).collect::<Vec<_>>(), [(FIRST, 1)]);
    story.later(Duration::from_mins(1));
    assert_eq!(story.assigned(), []);
    story.reply(FIRST, first[0].2);
    assert_eq!(story.assigned()[0].1, 2);
}

#[test]
fn it_ends_with_its_worker_and_goes_to_no_other() {
    let mut story = story();
    ask_of(&mut story, 1, FIRST);
    ask_of(&mut story, 2, FIRST);
    story.hear(Event::Exited { place: place(0, 1), ending: Ending::Signal(9) });
    assert_eq!(refused(&mut story), [(RequestId(2), Status::Lost, 0)], "no worker has had it");
    // What was in hand may have been replied to: that is known when the connection is over.
    story.hear(Event::WorkerLeft { worker: FIRST });
    assert_eq!(refused(&mut story), [(RequestId(1), Status::Lost, 1)]);
    ask_of(&mut story, 3, FIRST);
    assert_eq!(refused(&mut story), [(RequestId(3), Status::Lost, 0)]);
    assert_eq!(story.assigned(), []);
}

#[test]
fn a_worker_that_wants_another_to_try_is_told_on() {
    let mut story = story();
    ask_of(&mut story, 1, FIRST);
    let (_, _, token) = story.assigned()[0];
    let (status, message) = (ReplyStatus::Retry, Some("not here".to_owned()));
    story.hear(Event::Reply { worker: FIRST, token, status, message, size: 0, body: "" });
    assert_eq!(refused(&mut story), [(RequestId(1), Status::Lost, 1)]);
    assert!(!story.core.holds(token));
}

#[test]
fn what_one_of_several_held_goes_to_none_that_has_left_with_it() {
    let mut story = Story::without_pool();
    story.external(FIRST, native(0));
    story.external(SECOND, native(0));
    story.ask(1);
    assert_eq!(story.assigned()[0].0, FIRST);
    story.hear(Event::WorkersLeft { workers: vec![FIRST, SECOND] });
    assert_eq!(story.assigned(), []);
    let third = WorkerId(3);
    story.external(third, native(0));
    assert_eq!(story.assigned()[0].0, third);
}

/// Has a request tried by workers from elsewhere that each end so.
fn ended_elsewhere(endings: [Option<Ending>; 2]) -> Status {
    let mut story = Story::without_pool();
    story.ask(1);
    for (worker, ending) in [FIRST, SECOND].into_iter().zip(endings) {
        story.external(worker, native(0));
        assert_eq!(story.assigned()[0].0, worker);
        story.hear(Event::Exiting { worker, speech: native(1), reason: None, ending });
        story.hear(Event::WorkerLeft { worker });
    }
    refused(&mut story)[0].1
}

#[test]
fn a_request_that_ends_workers_elsewhere_is_poison_if_it_is_told_that_they_ended_by_themselves() {
    let code = || Some(Ending::Code(9));
    assert_eq!(ended_elsewhere([code(), Some(Ending::Signal(11))]), Status::Poison);
    assert_eq!(ended_elsewhere([Some(Ending::OutOfMemory), code()]), Status::Poison);
    // Somebody's signal, and an end of which nothing is told.
    assert_eq!(ended_elsewhere([code(), Some(Ending::Signal(9))]), Status::Lost);
    assert_eq!(ended_elsewhere([None, code()]), Status::Lost);
}

#[test]
fn one_of_ours_says_nothing_of_its_end_that_its_parent_does_not_say() {
    let mut story = Story::with(Settings { workers: 2, ..Settings::default() });
    for (worker, place) in [(FIRST, place(0, 1)), (SECOND, place(1, 1))] {
        story.local(worker, place);
    }
    story.ask(1);
    for _ in 0..2 {
        let worker = story.assigned()[0].0;
        let ending = Some(Ending::Code(9));
        story.hear(Event::Exiting { worker, speech: native(1), reason: None, ending });
    }
    assert_eq!(refused(&mut story), [(RequestId(1), Status::Lost, 2)]);
}
