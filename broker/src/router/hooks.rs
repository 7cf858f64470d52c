//! Which notes of the core are occasions for the operator's hooks, and what is told of each.

use super::frame::Body;
use super::notes::{in_words, what_is_missing};
use super::parent::to_link;
use crate::core::{Generation, Note, Place, Services};
use crate::link::{HookEvent, ToParent};

/// What a worker says of its end is not longer in a variable.
const REASON_LIMIT: usize = 1024;

/// The order to run hooks, if the note is an occasion. An event gets its arm here.
pub(super) fn order(note: &Note, service: &str, core: &Services<Body>) -> Option<ToParent> {
    let (event, mut variables) = match note {
        Note::WorkerReady { place, .. } => {
            let (generation, pid) = core.process(*place)?;
            (HookEvent::WorkerStart, about(*place, generation, pid))
        }
        Note::WorkerLeft { place, generation, pid, reason, .. } => {
            let mut variables = about(*place, *generation, *pid);
            variables.push(because(&in_words(reason)));
            (HookEvent::WorkerExit, variables)
        }
        Note::ReloadFailed { generation, place, reason } => {
            let mut variables = about(*place, *generation, core.pid_of(*place));
            variables.push(because(reason));
            (HookEvent::ReloadFailed, variables)
        }
        Note::Degraded(degraded) => (HookEvent::Degraded, vec![because(&what_is_missing(degraded))]),
        _no_occasion => return None,
    };
    variables.push(("HORNPIPE_SERVICE".to_owned(), service.to_owned()));
    Some(ToParent::RunHook { event, variables })
}

fn about(place: Place, generation: Generation, pid: Option<i32>) -> Vec<(String, String)> {
    let place = to_link(place);
    let mut variables = vec![
        ("HORNPIPE_SLOT".to_owned(), place.slot.to_string()),
        ("HORNPIPE_INCARNATION".to_owned(), place.incarnation.to_string()),
        ("HORNPIPE_GENERATION".to_owned(), generation.0.to_string()),
    ];
    variables.extend(pid.map(|pid| ("HORNPIPE_PID".to_owned(), pid.to_string())));
    variables
}

/// A worker may have said it itself: no variable can hold a NUL, and no log wants the rest.
fn because(reason: &str) -> (String, String) {
    let reason = reason.chars().take(REASON_LIMIT);
    let reason = reason.map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    ("HORNPIPE_REASON".to_owned(), reason)
}
