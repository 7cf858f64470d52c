//! Where a broker has one voice: that it is ready, that it stops or is handed over, how it
//! ends. What the services say of it is gathered here, and told once.

use std::time::Duration;

use super::{Service, Services, Standing, Turn};
use crate::core::Phase;
use crate::core::action::{Action, Finish, Note};
use crate::core::event::{Event, Stop};
use crate::core::ids::ServiceId;

#[derive(Debug, Default)]
pub(super) struct Whole {
    /// It was told that everything is ready.
    is_ready: bool,
    /// How everything has ended, once it has.
    finish: Option<Finish>,
    /// What the services have said in this turn.
    said: Said,
}

#[derive(Debug, Default)]
struct Said {
    /// The one that will never have a worker.
    hopeless: Option<(ServiceId, Finish)>,
    /// The longest time that anybody may need to stop.
    stopping: Option<Patience>,
    draining: Option<(usize, usize)>,
    handing_over: Option<(usize, usize, Duration)>,
}

/// How long something may take, the longer the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Patience {
    Within(Duration),
    ForEver,
}

impl Whole {
    /// Keeps what is said for all of them, and lets everything else pass.
    pub(super) fn hear<B>(&mut self, service: ServiceId, action: Action<B>) -> Option<Action<B>> {
        let said = &mut self.said;
        match action {
            Action::Stopping { within } => {
                said.stopping = said.stopping.max(Some(within.map_or(Patience::ForEver, Patience::Within)));
            }
            Action::Note(Note::DrainStarted { waiting_refused, in_flight }) => {
                let (waiting, running) = said.draining.unwrap_or_default();
                said.draining = Some((waiting + waiting_refused, running + in_flight));
            }
            Action::Note(Note::HandOverStarted { waiting, in_flight, within }) => {
                let (others, running, longest) = said.handing_over.unwrap_or_default();
                said.handing_over = Some((others + waiting, running + in_flight, longest.max(within)));
            }
            Action::Finished(finish @ (Finish::CannotExecute | Finish::CannotStart { .. })) => {
                said.hopeless.get_or_insert((service, finish));
            }
            // Seen in their phases, when the last one has come so far.
            Action::Finished(Finish::Stopped | Finish::HandedOver) | Action::Note(Note::Ready) => (),
            other => return Some(other),
        }
        None
    }
}

impl<B: Clone> Services<B> {
    /// A stop is for all, also for those who wait for the others to hand over.
    pub(super) fn stop(&mut self, event: &Event<B>, turn: &mut Turn<'_, B>) {
        if self.whole.finish.is_some() {
            return;
        }
        for service in self.table.values_mut() {
            service.core.call_back();
        }
        self.run_all(self.everyone(), event, turn);
    }

    /// Tells what is true of all of them.
    pub(super) fn conclude(&mut self, turn: &mut Turn<'_, B>) {
        let Said { hopeless, stopping, draining, handing_over } = std::mem::take(&mut self.whole.said);
        if let Some((service, finish)) = hopeless {
            return self.give_up(service, finish, turn);
        }
        if let Some((waiting_refused, in_flight)) = draining {
            turn.tell(Action::Note(Note::DrainStarted { waiting_refused, in_flight }));
        }
        if let Some((waiting, in_flight, within)) = handing_over {
            turn.tell(Action::Note(Note::HandOverStarted { waiting, in_flight, within }));
        }
        if let Some(patience) = stopping {
            let within = match patience {
                Patience::Within(time) => Some(time),
                Patience::ForEver => None,
            };
            turn.tell(Action::Stopping { within });
        }
        if !self.whole.is_ready && self.is_everyone(Phase::Serving) {
            self.whole.is_ready = true;
            turn.tell(Action::Note(Note::Ready));
        }
        if self.whole.finish.is_none() {
            let finish = match self.phase() {
                Phase::Over => Finish::Stopped,
                Phase::HandedOver => Finish::HandedOver,
                Phase::Starting
                | Phase::Serving
                | Phase::Failing
                | Phase::Draining { .. }
                | Phase::HandingOver
                | Phase::Ending => return,
            };
            self.whole.finish = Some(finish.clone());
            turn.tell(Action::Finished(finish));
        }
    }

    /// One of the configured services will never have a worker: nothing was started.
    fn give_up(&mut self, service: ServiceId, finish: Finish, turn: &mut Turn<'_, B>) {
        self.run_all(self.everyone(), &Event::Stop(Stop::Now), turn);
        self.whole.said = Said::default();
        self.whole.finish = Some(finish.clone());
        turn.decide(service, Action::Finished(finish));
    }

    fn is_everyone(&self, phase: Phase) -> bool {
        let stays = |service: &&Service<B>| service.standing == Standing::Configured;
        self.table.values().filter(stays).all(|service| service.core.phase() == phase)
    }

    /// How it is with the one that fares worst.
    pub fn phase(&self) -> Phase {
        let phases = self.table.values().map(|service| service.core.phase());
        phases.max_by_key(|phase| severity(*phase)).unwrap_or(Phase::Over)
    }
}

impl<B> Turn<'_, B> {
    fn tell(&mut self, action: Action<B>) {
        self.decide(ServiceId::DEFAULT, action);
    }
}

/// Of two phases, whose is that of a broker that has both.
const fn severity(phase: Phase) -> u8 {
    match phase {
        Phase::Serving => 0,
        Phase::Starting => 1,
        Phase::Failing => 2,
        Phase::HandedOver => 3,
        Phase::HandingOver => 4,
        Phase::Over => 5,
        Phase::Ending => 6,
        Phase::Draining { .. } => 7,
    }
}
