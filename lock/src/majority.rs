//! Locks on several Redis servers: all are asked at once, and a majority decides.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::backend::{Backend, Claim, Inspected, Lease};
use crate::clock::{BootClock, Clock};
use crate::doctor::Examined;
use crate::error::{LockError, ServerError};
use crate::held::Extend;
use crate::quorum::{self, Tally, Verdict};
use crate::server::{Answer, Ask, Manner, Reply, Seen, Server};
use crate::token;
use crate::validity::{DriftFactor, validity};

#[derive(Debug)]
pub(crate) struct Majority {
    addresses: Vec<Address>,
    manner: Manner,
    drift: DriftFactor,
    clock: Arc<dyn Clock>,
    crew: Mutex<Option<Crew>>,
}

/// The threads. They begin with the first question, so that a program may fork before it.
#[derive(Debug)]
struct Crew {
    servers: Vec<Result<Server, String>>,
    /// Tells that every thread has ended, by being closed.
    over: Receiver<()>,
    /// A fork has no threads, and starts its own.
    process: u32,
}

/// What came of asking all.
#[derive(Debug)]
struct Round {
    tally: Tally,
    replies: Vec<(usize, Reply)>,
    errors: Vec<ServerError>,
}

/// When a round is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As soon as the rest cannot change it.
    Verdict,
    /// When each has answered, or had the time to.
    Everybody,
}

impl Majority {
    pub(crate) fn new(
        addresses: Vec<Address>,
        manner: Manner,
        drift: DriftFactor,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { addresses, manner, drift, clock, crew: Mutex::new(None) }
    }

    fn ask(&self, ask: Ask, patience: Patience) -> Round {
        let asked = self.send(ask);
        self.collect(&asked, patience)
    }

    /// Asks all, and waits for none.
    fn send(&self, ask: Ask) -> Asked {
        let (sender, answers) = channel();
        let ask = Arc::new(ask);
        let mut crew = self.crew.lock().unwrap_or_else(PoisonError::into_inner);
        if crew.as_ref().is_none_or(|crew| crew.process != std::process::id()) {
            // Of what was inherited by a fork nothing must be waited for.
            std::mem::forget(crew.take());
            *crew = Some(Crew::start(&self.addresses, self.manner));
        }
        let servers = crew.as_ref().map_or(&[][..], |crew| &crew.servers);
        let is_new =
            |server: &Result<Server, String>| server.as_ref().is_ok_and(|server| !server.is_connected());
        let mut patience = self.manner.server_timeout;
        if servers.iter().any(is_new) {
            patience += self.manner.connect_timeout;
        }
        let by = BootClock.now() + patience;
        for (number, server) in servers.iter().enumerate() {
            match server {
                Ok(server) => server.ask(&ask, by, number, &sender),
                Err(why) => {
                    sender.send((number, Err(why.clone()))).ok();
                }
            }
        }
        Asked { answers, by }
    }

    fn collect(&self, asked: &Asked, patience: Patience) -> Round {
        let mut round =
            Round { tally: Tally::of(self.addresses.len()), replies: Vec::new(), errors: Vec::new() };
        let mut silent: Vec<bool> = vec![true; self.addresses.len()];
        loop {
            // Of failures all are waited for, because each is told; and so is who has a majority.
            let is_decided = match round.tally.verdict() {
                Verdict::Reached => true,
                Verdict::Refused => {
                    quorum::may_be_held(self.addresses.len(), round.most_frequent_holder(), 0)
                }
                Verdict::Open | Verdict::Failed | Verdict::Split => false,
            };
            if round.tally.is_complete() || (is_decided && patience == Patience::Verdict) {
                break;
            }
            let left = asked.by.since(BootClock.now());
            let Ok((number, answer)) = asked.answers.recv_timeout(left) else { break };
            if let Some(silent) = silent.get_mut(number) {
                *silent = false;
            }
            round.note(number, self.name(number), answer);
        }
        if round.tally.verdict() == Verdict::Open || patience == Patience::Everybody {
            let why = format!("no answer within {} ms", self.manner.server_timeout.as_millis());
            for (number, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
                round.note(number, self.name(number), Err(why.clone()));
            }
        }
        round
    }

    fn name(&self, number: usize) -> String {
        self.addresses.get(number).map(|address| address.name.clone()).unwrap_or_default()
    }

    /// Why a round of takes has failed.
    fn refusal(&self, resource: &str, round: Round) -> LockError {
        let servers = self.addresses.len();
        if round.tally.verdict() == Verdict::Failed {
            return self.no_quorum(round.errors);
        }
        let unknown = servers - round.replies.len();
        if !quorum::may_be_held(servers, round.most_frequent_holder(), unknown) {
            return LockError::Contended { resource: resource.to_owned() };
        }
        let life = |reply: &Reply| match reply {
            Reply::Refused { free_in, .. } => *free_in,
            _ => None,
        };
        let lives = round.replies.iter().filter_map(|(_, reply)| life(reply)).collect();
        let free_in = quorum::free_in(servers, round.tally.granted(), lives);
        LockError::Busy { resource: resource.to_owned(), free_in }
    }

    fn no_quorum(&self, errors: Vec<ServerError>) -> LockError {
        let servers = self.addresses.len();
        LockError::NoQuorum { quorum: quorum::quorum(servers), servers, errors }
    }

    /// Not waited for: the threads do it in order, and it is what ends a failed try.
    fn give_back(&self, claim: Claim<'_>) {
        self.send(Ask::Release { resource: claim.resource.to_owned(), value: claim.value.to_owned() });
    }

    fn take_in_two_steps(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError> {
        let began = self.clock.now();
        let (resource, value) = (claim.resource.to_owned(), claim.value.to_owned());
        let first = self
            .ask(Ask::Take { resource, value, ttl: claim.ttl, extend: Extend::OrTake }, Patience::Verdict);
        if first.tally.verdict() != Verdict::Reached {
            return Err(self.refusal(claim.resource, first));
        }
        let fences = first.replies.iter().filter_map(|(_, reply)| match reply {
            Reply::Granted { fence } => Some(*fence),
            _ => None,
        });
        let token = token::next(fences, self.clock.unix_ms()).ok_or(LockError::TokensExhausted)?;
        let (resource, value) = (claim.resource.to_owned(), claim.value.to_owned());
        let second = self.ask(Ask::Confirm { resource, value, token }, Patience::Verdict);
        match second.tally.verdict() {
            Verdict::Reached => Ok((self.lease(claim, began)?, token)),
            Verdict::Failed => Err(self.no_quorum(second.errors)),
            // It was granted and is gone again.
            Verdict::Open | Verdict::Refused | Verdict::Split => {
                Err(LockError::Expired { resource: claim.resource.to_owned() })
            }
        }
    }

    fn lease(&self, claim: Claim<'_>, began: crate::Timestamp) -> Result<Lease, LockError> {
        let now = self.clock.now();
        validity(claim.ttl, now.since(began), self.drift)
            .map(|validity| Lease { validity, until: now + validity })
            .ok_or_else(|| LockError::Expired { resource: claim.resource.to_owned() })
    }

    fn seen(&self, resource: &str) -> (Vec<Seen>, Vec<ServerError>) {
        let round = self.ask(Ask::Look { resource: resource.to_owned() }, Patience::Everybody);
        let seen = round.replies.into_iter().filter_map(|(_, reply)| match reply {
            Reply::Seen(seen) => Some(seen),
            _ => None,
        });
        (seen.collect(), round.errors)
    }

    /// Each server's answer of this kind, in the order of the list.
    fn each<T>(
        &self,
        ask: Ask,
        mut wanted: impl FnMut(Reply) -> Option<T>,
    ) -> Vec<(String, Result<T, String>)> {
        let round = self.ask(ask, Patience::Everybody);
        let mut replies: BTreeMap<usize, T> =
            round.replies.into_iter().filter_map(|(number, reply)| Some((number, wanted(reply)?))).collect();
        let mut errors = round.errors.into_iter();
        let mut errors: BTreeMap<String, String> =
            errors.by_ref().map(|error| (error.server, error.why)).collect();
        let names = self.addresses.iter().map(|address| address.name.clone()).enumerate();
        names
            .map(|(number, name)| {
                let why = errors.remove(&name);
                let answer = replies.remove(&number).ok_or_else(|| why.unwrap_or_default());
                (name, answer)
            })
            .collect()
    }
}

impl Backend for Majority {
    fn take(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError> {
        self.take_in_two_steps(claim).inspect_err(|_failed| self.give_back(claim))
    }

    fn extend(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        let began = self.clock.now();
        let (resource, value) = (claim.resource.to_owned(), claim.value.to_owned());
        let ask = Ask::Take { resource, value, ttl: claim.ttl, extend: Extend::Held };
        let round = self.ask(ask, Patience::Verdict);
        // What is held on some of them stays so: it may be extended yet.
        match round.tally.verdict() {
            Verdict::Reached => self.lease(claim, began),
            Verdict::Refused => Err(LockError::Expired { resource: claim.resource.to_owned() }),
            Verdict::Open | Verdict::Failed | Verdict::Split => Err(self.no_quorum(round.errors)),
        }
    }

    fn release(&self, resource: &str, value: &str) -> Result<(), LockError> {
        let ask = Ask::Release { resource: resource.to_owned(), value: value.to_owned() };
        let round = self.ask(ask, Patience::Verdict);
        if round.tally.verdict() == Verdict::Reached { Ok(()) } else { Err(self.no_quorum(round.errors)) }
    }

    fn free(&self, resource: &str) -> Result<(), LockError> {
        let round = self.ask(Ask::Free { resource: resource.to_owned() }, Patience::Everybody);
        if round.tally.verdict() == Verdict::Reached { Ok(()) } else { Err(self.no_quorum(round.errors)) }
    }

    fn look(&self, resource: &str) -> Vec<Inspected> {
        self.each(Ask::Look { resource: resource.to_owned() }, |reply| match reply {
            Reply::Seen(seen) => Some(seen),
            _ => None,
        })
    }

    fn life(&self, resource: &str, value: Option<&str>) -> Result<Option<Duration>, LockError> {
        let servers = self.addresses.len();
        let (seen, errors) = self.seen(resource);
        if seen.len() < quorum::quorum(servers) {
            return Err(self.no_quorum(errors));
        }
        let mut lives: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for seen in seen {
            if let Some(holder) = seen.value {
                // A key without an end is none of ours, and is there for good.
                lives.entry(holder).or_default().push(seen.life.unwrap_or(Duration::MAX));
            }
        }
        let held = lives.into_iter().filter(|(holder, _)| value.is_none_or(|value| value == holder));
        Ok(held.filter_map(|(_, lives)| quorum::life_by_majority(servers, lives)).max())
    }

    fn examine(&self) -> Vec<Examined> {
        self.each(Ask::Examine, |reply| match reply {
            Reply::Report(report) => Some(*report),
            _ => None,
        })
    }

    fn describe(&self) -> String {
        self.addresses.iter().map(|address| address.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Drop for Majority {
    /// Gives the threads the time to send what they were told, such as releases.
    fn drop(&mut self) {
        let crew = self.crew.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Crew { servers, over, process }) = crew else { return };
        if process != std::process::id() {
            return;
        }
        drop(servers);
        // Nothing is ever sent: this ends when the last thread has, or the time is over.
        over.recv_timeout(self.manner.connect_timeout + self.manner.server_timeout).ok();
    }
}

impl Crew {
    fn start(addresses: &[Address], manner: Manner) -> Self {
        let (sender, over): (Sender<()>, _) = channel();
        let servers =
            addresses.iter().map(|address| Server::start(address, manner, sender.clone())).collect();
        Self { servers, over, process: std::process::id() }
    }
}

/// Answers that are under way.
#[derive(Debug)]
struct Asked {
    answers: Receiver<(usize, Answer)>,
    by: crate::Timestamp,
}

impl Round {
    /// How many servers have named the same holder.
    fn most_frequent_holder(&self) -> usize {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, reply) in &self.replies {
            if let Reply::Refused { holder, .. } = reply {
                *counts.entry(holder).or_default() += 1;
            }
        }
        counts.into_values().max().unwrap_or(0)
    }

    fn note(&mut self, number: usize, server: String, answer: Answer) {
        match answer {
            Ok(reply) => {
                match reply {
                    Reply::Refused { .. } => self.tally.refuse(),
                    _ => self.tally.grant(),
                }
                self.replies.push((number, reply));
            }
            Err(why) => {
                self.tally.fail();
                self.errors.push(ServerError { server, why });
            }
        }
    }
}
