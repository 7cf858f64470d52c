//! Stories of workers that end with a request in their hands.

use super::*;

/// Its connection ends, then its process; what follows in between is forgotten.
fn crash(story: &mut Story, worker: WorkerId, place: Place, ending: Ending) {
    story.hear(Event::WorkerLeft { worker });
    assert_eq!(story.refused(), [], "nothing is said before it is known how it ended");
    story.hear(Event::Exited { place, ending });
}

fn two_attempts(endings: [Ending; 2]) -> Vec<(u64, Status)> {
    let mut story = Story::with(Settings { workers: 2, ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.local(SECOND, place(1, 1));
    story.ask(1);
    let [first, second] = endings;
    crash(&mut story, FIRST, place(0, 1), first);
    crash(&mut story, SECOND, place(1, 1), second);
    story.refused()
}

#[test]
fn a_request_that_ends_both_its_workers_is_poison() {
    assert_eq!(two_attempts([Ending::Signal(11), Ending::Code(3)]), [(1, Status::Poison)]);
    assert_eq!(two_attempts([Ending::Signal(11), Ending::Signal(9)]), [(1, Status::Lost)]);
    assert_eq!(two_attempts([Ending::Signal(15), Ending::Code(0)]), [(1, Status::Lost)]);
}

#[test]
fn a_connection_lost_by_a_living_process_is_judged_after_a_moment() {
    let mut story = Story::with(Settings { workers: 2, ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.ask(1);
    story.local(SECOND, place(1, 1));
    story.hear(Event::WorkerLeft { worker: FIRST });
    assert_eq!(story.assigned().len(), 1);
    story.later(Duration::from_millis(200));
    assert_eq!(story.assigned()[0].0, SECOND);
}

#[test]
fn a_job_that_meets_only_the_dead_waits_for_the_living() {
    let mut story = Story::with(Settings { workers: 2, attempts: 1, ..Settings::default() });
    story.local(FIRST, place(0, 1));
    story.local(SECOND, place(1, 1));
    story.later(Duration::from_secs(2));
    story.ask(1);
    for worker in [FIRST, SECOND] {
        let (given, _, token) = story.assigned()[0];
        assert_eq!(given, worker);
        story.hear(Event::Undelivered { worker, token });
    }
    assert_eq!(story.core.backlog_len(), 1);
    story.actions.clear();
    for slot in [0, 1] {
        story.hear(Event::Exited { place: place(slot, 1), ending: Ending::Signal(9) });
    }
    assert_eq!(story.orders(), ["spawn 0.2", "spawn 1.2"], "the exit notices refill the slots");
    story.local(WorkerId(3), place(0, 2));
    assert_eq!(story.assigned()[0].1, 1);
}
