//! How the router is, for a service manager that listens to the parent: one sentence, and
//! that the loop comes round. Nobody is told anything who has not asked once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Router;
use super::frame::Body;
use super::notes::what_is_missing;
use crate::core::{Note, Phase, PoolSnapshot, ServiceId, Services, Timestamp};
use crate::link::ToParent;

/// Between two looks at the pool.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is asked and told.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The last question: `None` until there is one.
    number: Option<u64>,
    /// It is not answered yet.
    is_asked: bool,
    /// Something has happened since the last look.
    is_stirred: bool,
    next_look: Timestamp,
    sentence: String,
    told: Option<(bool, String)>,
    /// The generations of the reloads that are under way, by service.
    reloads: BTreeMap<ServiceId, u32>,
    /// The generation whose reload failed last, and why.
    failed: Option<(u32, String)>,
}

impl Pulse {
    /// The parent wants to know.
    pub(super) fn ask(&mut self, number: u64) {
        self.number = Some(number);
        self.is_asked = true;
        self.is_stirred = true;
    }

    /// Something has happened.
    pub(super) fn stir(&mut self) {
        self.is_stirred = true;
    }

    /// A reload has begun or ended. It has ended when that is told to everybody, so that
    /// whoever waits for it finds out how.
    pub(super) fn note(&mut self, service: ServiceId, note: &Note) {
        match note {
            Note::ReloadStarted { generation } => {
                self.reloads.insert(service, generation.0);
                self.failed = None;
            }
            Note::ReloadFailed { generation, reason, .. } => {
                if self.reloads.get(&service) == Some(&generation.0) {
                    self.failed = Some((generation.0, reason.clone()));
                }
                self.end_reload(service, generation.0);
            }
            Note::ReloadFinished { generation }
            | Note::ReloadSuperseded { generation, .. }
            | Note::ReloadAbandoned { generation } => self.end_reload(service, generation.0),
            // Who has just been told that it is ready should not read that it is not.
            Note::Ready => self.look_at_once(),
            _of_something_else => (),
        }
    }

    fn end_reload(&mut self, service: ServiceId, generation: u32) {
        if self.reloads.get(&service) == Some(&generation) {
            self.reloads.remove(&service);
        }
        // Also what there is to say about it.
        self.look_at_once();
    }

    fn look_at_once(&mut self) {
        self.next_look = Timestamp::default();
    }

    /// When to look, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        (self.number.is_some() && self.is_stirred).then_some(self.next_look)
    }

    /// What is to be told at this moment, if anything is.
    fn tell(&mut self, core: &Services<Body>, now: Timestamp) -> Option<ToParent> {
        let number = self.number?;
        if self.is_stirred && self.next_look <= now {
            self.is_stirred = false;
            self.next_look = now.after(INTERVAL);
            self.sentence = self.describe(core, now);
        }
        let state = (!self.reloads.is_empty(), self.sentence.clone());
        if !std::mem::take(&mut self.is_asked) && self.told.as_ref() == Some(&state) {
            return None;
        }
        self.told = Some(state.clone());
        let (is_reloading, sentence) = state;
        Some(ToParent::Pulse { number, is_reloading, sentence })
    }

    fn describe(&self, core: &Services<Body>, now: Timestamp) -> String {
        let snapshot = core.snapshot(now);
        let waiting = snapshot.queue.backlog_len;
        let mut parts = vec![in_words(snapshot.phase, &snapshot.pool, waiting)];
        parts.extend(snapshot.pool.reload.map(|reload| {
            let (to, renewed, target) = (reload.to.0, reload.renewed, snapshot.pool.target);
            format!("reload to generation {to}: {renewed} of {target} renewed")
        }));
        parts.extend(
            self.failed
                .as_ref()
                .map(|(generation, reason)| format!("reload to generation {generation} failed: {reason}")),
        );
        let degraded = snapshot.pool.degraded.as_ref();
        parts.extend(degraded.map(|degraded| format!("degraded: {}", what_is_missing(degraded))));
        parts.join("; ")
    }
}

fn in_words(phase: Phase, pool: &PoolSnapshot, waiting: u64) -> String {
    let workers = if pool.ready == 1 { "worker" } else { "workers" };
    let load = format!("{} {workers}, {} busy, {waiting} waiting", pool.ready, pool.processing);
    match phase {
        Phase::Serving => load,
        Phase::Starting => format!("starting: no worker is ready, {waiting} waiting"),
        Phase::Failing => "failing: workers cannot start, requests are refused".to_owned(),
        Phase::HandingOver | Phase::HandedOver | Phase::Draining { .. } | Phase::Ending | Phase::Over => {
            format!("{}: {load}", phase.as_str())
        }
    }
}

impl Router {
    /// At the end of each turn: an answer is proof that the loop came so far.
    pub(super) fn tell_pulse(&mut self, now: Timestamp) {
        if let Some(pulse) = self.pulse.tell(&self.core, now) {
            self.parent.send(pulse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Generation, Generator, Incarnation, Place, Settings, Slot};

    fn core() -> Services<Body> {
        let settings = Settings { workers: 2, ..Settings::default() };
        Services::new((settings, Vec::new()), Generator::new(1, [0; 32]), &BTreeMap::new())
    }

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::new(Duration::from_millis(milliseconds))
    }

    fn told(message: Option<ToParent>) -> Option<(u64, bool)> {
        message.map(|message| match message {
            ToParent::Pulse { number, is_reloading, .. } => (number, is_reloading),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn nobody_is_told_before_somebody_has_asked_and_nobody_is_woken_for_it() {
        let (mut pulse, core) = (Pulse::default(), core());
        pulse.stir();
        pulse.note(ServiceId::DEFAULT, &Note::ReloadStarted { generation: Generation(1) });
        assert_eq!(told(pulse.tell(&core, at(5000))), None);
        assert_eq!(pulse.next_deadline(), None);
    }

    #[test]
    fn a_question_is_answered_at_once_and_once() {
        let (mut pulse, core) = (Pulse::default(), core());
        for number in [1, 2, 3] {
            pulse.ask(number);
            assert_eq!(told(pulse.tell(&core, at(1000 + number))), Some((number, false)));
            assert_eq!(told(pulse.tell(&core, at(1000 + number))), None);
        }
    }

    #[test]
    fn what_does_not_change_is_looked_at_once_and_not_told_again() {
        let (mut pulse, core) = (Pulse::default(), core());
        pulse.ask(1);
        assert!(pulse.tell(&core, at(1000)).is_some());
        assert_eq!(pulse.next_deadline(), None, "nothing has happened");
        pulse.stir();
        assert_eq!(pulse.next_deadline(), Some(at(2000)), "no more often than once a second");
        assert_eq!(told(pulse.tell(&core, at(1999))), None);
        assert_eq!(told(pulse.tell(&core, at(2000))), None);
        assert_eq!(pulse.next_deadline(), None);
    }

    #[test]
    fn readiness_is_looked_at_at_once() {
        let (mut pulse, core) = (Pulse::default(), core());
        pulse.ask(1);
        assert!(pulse.tell(&core, at(1000)).is_some());
        pulse.stir();
        pulse.note(ServiceId::DEFAULT, &Note::Ready);
        assert_eq!(pulse.next_deadline(), Some(Timestamp::default()));
        // The core of this test is as before, so there is nothing to tell.
        assert_eq!(told(pulse.tell(&core, at(1001))), None);
        assert_eq!(pulse.next_deadline(), None);
    }

    #[test]
    fn the_beginning_and_the_end_of_a_reload_are_told_at_once() {
        let (mut pulse, core) = (Pulse::default(), core());
        pulse.ask(1);
        pulse.tell(&core, at(1000));
        let (first, second) = (Generation(1), Generation(2));
        pulse.note(ServiceId::DEFAULT, &Note::ReloadStarted { generation: first });
        assert_eq!(told(pulse.tell(&core, at(1001))), Some((1, true)));
        pulse.note(ServiceId::DEFAULT, &Note::ReloadSuperseded { generation: first, by: second });
        pulse.note(ServiceId::DEFAULT, &Note::ReloadStarted { generation: second });
        assert_eq!(told(pulse.tell(&core, at(1002))), None, "there is one all the time");
        // The first one's failure is told late.
        let place = Place { slot: Slot(0), incarnation: Incarnation(1) };
        pulse.note(
            ServiceId::DEFAULT,
            &Note::ReloadFailed { generation: first, place, reason: "exit code 1".into() },
        );
        assert_eq!(told(pulse.tell(&core, at(1003))), None);
        pulse.note(
            ServiceId::DEFAULT,
            &Note::ReloadFailed { generation: second, place, reason: "exit code 1".into() },
        );
        pulse.stir();
        let Some(ToParent::Pulse { is_reloading, sentence, .. }) = pulse.tell(&core, at(1004)) else {
            panic!("not told");
        };
        assert!(!is_reloading);
        assert!(sentence.ends_with("; reload to generation 2 failed: exit code 1"), "{sentence}");
    }
}
