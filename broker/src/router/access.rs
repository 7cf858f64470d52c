//! The access log: one line for each request that has ended, if somebody asked for it.

use std::time::Duration;

use tracing::info;

use super::report::name_of;
use crate::core::{Ended, Outcome};
use crate::logging::EACH;

/// `service` is whose it was; one that is not there is named as it was asked for.
pub(super) fn log(ended: &Ended, service: &str, life: u32) {
    let request = name_of(life, ended.request, ended.name.as_deref());
    let service = ended.service.as_deref().unwrap_or(service);
    let (client, slot) = (ended.client.map(|client| client.0), ended.place.map(|place| place.slot.0));
    let (attempt, size, reply_size) = (ended.attempt, ended.size, ended.reply_size);
    let (wait_us, run_us) = (microseconds(ended.wait), microseconds(ended.run));
    let status = status(&ended.outcome);
    info!(
        target: EACH,
        request, service, client, slot, attempt, size, reply_size, wait_us, run_us, status, "request"
    );
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the client has heard, or that it is gone.
fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "ok",
        Outcome::Refused(status) => status.as_str(),
        // The first two go on, so this is the client's doing.
        Outcome::Retry | Outcome::Lost(_) | Outcome::Dropped => "dropped",
    }
}
