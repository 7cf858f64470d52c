//! Poison: requests that ended each worker that tried them. Each is kept, with its body,
//! for an operator to look at, to try once more, or to drop.

use std::collections::BTreeMap;
use std::sync::Arc;

use hornpipe_proto::Status;

use super::action::Note;
use super::backlog::End;
use super::event::{Request, Wants};
use super::ids::{ClientId, RequestId, Timestamp};
use super::loss::{Attempt, last_end};
use super::settings::Settings;
use super::{Core, Turn};

/// One request in quarantine.
#[derive(Debug, Clone)]
pub struct Poisoned<B> {
    pub request: RequestId,
    /// The client's own name for it, if it gave one.
    pub name: Option<Arc<str>>,
    pub client: ClientId,
    /// Bytes of its body.
    pub size: u64,
    pub at: Timestamp,
    pub attempts: Vec<Attempt>,
    /// `None` if it alone is larger than what is kept of all.
    pub body: Option<B>,
    /// As which request it is being tried once more.
    pub retry: Option<RequestId>,
}

/// Every request in quarantine, by its number.
#[derive(Debug)]
pub struct Quarantine<B> {
    entries: BTreeMap<u64, Poisoned<B>>,
    /// Bytes of the bodies that are kept.
    bytes: u64,
    last_number: u64,
    evicted: u64,
}

impl<B> Default for Quarantine<B> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, last_number: 0, evicted: 0 }
    }
}

impl<B> Quarantine<B> {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Poisoned<B>)> {
        self.entries.iter().map(|(number, entry)| (*number, entry))
    }

    pub fn get(&self, number: u64) -> Option<&Poisoned<B>> {
        self.entries.get(&number)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many have gone to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keeps one more, at the cost of the oldest. Returns its number.
    fn keep(&mut self, mut entry: Poisoned<B>, settings: &Settings) -> u64 {
        self.last_number += 1;
        if entry.size > settings.quarantine_bytes_limit {
            entry.body = None;
        }
        self.bytes += kept_bytes(&entry);
        self.entries.insert(self.last_number, entry);
        while self.entries.len() > settings.quarantine_limit || self.bytes > settings.quarantine_bytes_limit {
            let Some(oldest) = self.entries.first_key_value().map(|(number, _)| *number) else { break };
            self.remove(oldest);
            self.evicted += 1;
        }
        self.last_number
    }

    /// The number of the last one that was ever kept.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// The next number comes after this one too.
    pub(super) fn number_after(&mut self, number: u64) {
        self.last_number = self.last_number.max(number);
    }

    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.bytes -= kept_bytes(&entry);
        }
    }

    /// The retry of this number has ended, and it stays.
    pub(super) fn retry_failed(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.retry = None;
        }
    }

    pub(super) fn retry_succeeded(&mut self, number: u64) {
        self.remove(number);
    }
}

fn kept_bytes<B>(entry: &Poisoned<B>) -> u64 {
    if entry.body.is_some() { entry.size } else { 0 }
}

impl<B: Clone> Core<B> {
    pub fn quarantine(&self) -> &Quarantine<B> {
        &self.quarantine
    }

    /// The request has ended each worker that had it.
    pub(super) fn quarantine_request(&mut self, request: RequestId, turn: &mut Turn<'_, B>) {
        let Some(record) = self.requests.record_mut(request) else { return };
        let (attempt, attempts) = (record.attempt, record.take_losses());
        let end = last_end(attempt, &attempts);
        let number = if let Some(number) = record.quarantined_as() {
            // Should an operator have dropped it meanwhile, it stays dropped.
            if let Some(entry) = self.quarantine.entries.get_mut(&number) {
                (entry.attempts, entry.at) = (attempts, turn.now);
            }
            number
        } else {
            let entry = Poisoned {
                request,
                name: record.name.clone(),
                client: record.client,
                size: record.size,
                at: turn.now,
                attempts,
                body: Some(record.body.clone()),
                retry: None,
            };
            self.quarantine.keep(entry, &self.settings)
        };
        turn.note(Note::RequestPoisoned { request, attempt, number });
        let message = format!("{attempt} workers ended while they had it{end}");
        self.refuse(request, Status::Poison, message, turn);
    }

    /// An operator has it tried once more: as a new request, and the next to be served.
    pub(super) fn retry_poison(&mut self, number: u64, request: RequestId, turn: &mut Turn<'_, B>) {
        let found = self.quarantine.entries.get_mut(&number);
        let Some(entry) = found.filter(|entry| entry.retry.is_none()) else {
            self.refuse_retry(request, Status::Malformed, "no such request is in quarantine", turn);
            return;
        };
        let Some(body) = entry.body.clone() else {
            self.refuse_retry(request, Status::TooLarge, "its body was too large to be kept", turn);
            return;
        };
        let again = Request {
            request,
            client: ClientId::OPERATOR,
            name: None,
            service: None,
            timeout: None,
            attempts: None,
            size: entry.size,
            wants: Wants::default(),
            body,
        };
        self.counters.received += 1;
        if let Some(objection) = self.objection(&again) {
            return self.turn_away(&again, objection, turn);
        }
        if let Some(entry) = self.quarantine.entries.get_mut(&number) {
            entry.retry = Some(request);
        }
        self.enqueue(again, End::Head, Some(number), turn);
    }

    fn refuse_retry(&mut self, request: RequestId, status: Status, why: &str, turn: &mut Turn<'_, B>) {
        self.counters.received += 1;
        self.refuse_unknown(request, status, why.into(), turn);
    }

    pub(super) fn drop_poison(&mut self, number: u64) {
        self.quarantine.remove(number);
    }

    pub(super) fn drop_all_poison(&mut self) {
        self.quarantine.entries.clear();
        self.quarantine.bytes = 0;
    }
}
