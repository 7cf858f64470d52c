//! Short stories about who belongs where. The laws are played by the simulation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Decision, MAX_SERVICES, SLOTS_APART, Services};
use crate::core::{
    Action, ClientId, Details, Event, Finish, Generation, Generator, Home, Incarnation, Memory, Note, Phase,
    Place, Request, RequestId, ServiceId, Settings, Slot, Speech, Stop, Timestamp, Wants, WorkerId,
};

type Body = &'static str;

struct Story {
    services: Services<Body>,
    now: Timestamp,
    decisions: Vec<Decision<Body>>,
}

fn settings(name: &str, workers: u32) -> Settings {
    Settings { service: name.into(), workers, min: 0, ..Settings::default() }
}

fn memory(slot: u32) -> Memory {
    let incarnations = vec![(Slot(slot), Incarnation(3))];
    Memory { target: 1, incarnations, ..Memory::default() }
}

fn native(service: &str) -> Speech {
    Speech::Native(Details {
        name: None,
        service: Some(service.into()),
        credits: 1,
        seen: 0,
        claims: false,
        instance: None,
    })
}

impl Story {
    fn of(further: &[(&str, u32)], memories: &[(&str, u32)]) -> Self {
        let further = further.iter().map(|(name, workers)| settings(name, *workers)).collect();
        let memories: BTreeMap<Arc<str>, Memory> =
            memories.iter().map(|(name, slot)| ((*name).into(), memory(*slot))).collect();
        let generator = Generator::new(1, [7; 32]);
        let services = Services::new((settings("default", 0), further), generator, &memories);
        let now = Timestamp::new(Duration::from_secs(50));
        let mut story = Self { services, now, decisions: Vec::new() };
        story.hear(Event::Tick);
        story
    }

    fn hear(&mut self, event: Event<Body>) {
        self.services.handle(event, self.now, &mut self.decisions);
    }

    fn decided(&mut self) -> Vec<Decision<Body>> {
        std::mem::take(&mut self.decisions)
    }

    fn ask(&mut self, request: u64, service: &str) {
        self.hear(Event::Request(Request {
            request: RequestId(request),
            client: ClientId(1),
            name: None,
            service: Some(service.into()),
            timeout: None,
            attempts: None,
            wants: Wants::default(),
            size: 1,
            body: "body",
        }));
    }

    fn bring(&mut self, worker: u64, service: &str) {
        let worker = WorkerId(worker);
        self.hear(Event::Joined { worker, home: Home::External });
        self.hear(Event::Waiting { worker, speech: native(service) });
    }

    fn spawned(&mut self) -> Vec<(ServiceId, Slot)> {
        let spawn = |decision: Decision<Body>| match decision.action {
            Action::Spawn { place, .. } => Some((decision.service, place.slot)),
            _ => None,
        };
        self.decided().into_iter().filter_map(spawn).collect()
    }
}

#[test]
fn slots_are_apart_and_stay_with_their_name() {
    let mut story = Story::of(&[("audio", 1), ("images", 2)], &[]);
    let own = |id, slots: &[u32]| slots.iter().map(|slot| (ServiceId(id), Slot(*slot))).collect::<Vec<_>>();
    assert_eq!(story.spawned(), [own(1, &[10_000]), own(2, &[20_000, 20_001])].concat());
    // An earlier router had one of them in the first place.
    let mut story = Story::of(&[("audio", 1), ("images", 1)], &[("images", SLOTS_APART)]);
    assert_eq!(story.spawned(), [own(1, &[20_000]), own(2, &[10_000])].concat());
}

#[test]
fn a_process_of_a_service_that_is_gone_is_let_go() {
    let mut story = Story::of(&[("audio", 0)], &[("images", SLOTS_APART)]);
    let place = Place { slot: Slot(SLOTS_APART), incarnation: Incarnation(3) };
    story.hear(Event::Adopted { place, generation: Generation(0), pid: 1, started: story.now });
    story.hear(Event::Tick);
    let ends = |decision: &Decision<Body>| matches!(decision.action, Action::Terminate { place: one } if one == place);
    assert!(story.decided().iter().any(ends));
    assert!(story.services.find("images").is_some_and(|id| story.services.is_passing(id)));
    // One in a range of which nothing is known belongs to nobody.
    let place = Place { slot: Slot(70_000), incarnation: Incarnation(1) };
    story.hear(Event::Adopted { place, generation: Generation(0), pid: 2, started: story.now });
    let kills =
        |decision: &Decision<Body>| matches!(decision.action, Action::Kill { place: one } if one == place);
    assert!(story.decided().iter().any(kills));
}

#[test]
fn there_are_never_more_services_than_may_be() {
    let mut story = Story::of(&[("images", 0)], &[]);
    for number in 0..300 {
        story.bring(number, &format!("brought-{number}"));
    }
    assert_eq!(story.services.names().count(), MAX_SERVICES);
    assert_eq!(story.services.services_refused(), 300 + 2 - MAX_SERVICES as u64);
    let told =
        |decision: &Decision<Body>| matches!(decision.action, Action::Note(Note::ServiceRefused { .. }));
    assert_eq!(story.decided().iter().filter(|decision| told(decision)).count(), 1);
    // One that is refused may still find a place.
    story.hear(Event::Waiting { worker: WorkerId(299), speech: native("images") });
    story.ask(1000, "images");
    assert!(story.decided().iter().any(|decision| matches!(
        &decision.action,
        Action::Assign(job) if job.worker == WorkerId(299)
    )));
}

#[test]
fn those_that_workers_bring_share_the_room_of_the_default_service() {
    let mut story = Story::of(&[], &[]);
    let limits = Settings { backlog_limit: 3, ..settings("default", 0) };
    story.hear(Event::Configure { settings: Box::new(limits) });
    for (worker, name) in [(1, "a"), (2, "b")] {
        story.bring(worker, name);
        story.ask(worker, name);
    }
    story.decided();
    story.ask(11, "a");
    story.ask(12, "a");
    story.ask(13, "b");
    story.ask(14, "b");
    // It is full by what waits for both of them, and the default service is not.
    let busy = |decision: &Decision<Body>| match &decision.action {
        Action::Refuse { request, status, .. } => Some((*request, *status)),
        _ => None,
    };
    let refused: Vec<_> = story.decided().iter().filter_map(busy).collect();
    assert_eq!(refused, [(RequestId(14), hornpipe_proto::Status::Busy)]);
    story.ask(15, "default");
    assert_eq!(story.services.backlog_len(), 4);
}

#[test]
fn a_stop_comes_before_the_end_of_a_handover_and_is_told_once() {
    let mut story = Story::of(&[("images", 0)], &[]);
    story.bring(1, "images");
    story.ask(1, "images");
    story.hear(Event::HandOver);
    story.now = story.now.after(Duration::from_secs(1));
    story.hear(Event::Tick);
    // The default service has nothing to do and has parted, the other has a request out.
    assert_eq!(story.services.phase(), Phase::HandingOver);
    story.decided();
    story.hear(Event::Stop(Stop::Drain));
    let stopping = |decision: &&Decision<Body>| matches!(decision.action, Action::Stopping { .. });
    assert_eq!(story.decided().iter().filter(stopping).count(), 1);
    story.hear(Event::WorkerLeft { worker: WorkerId(1) });
    story.hear(Event::Stop(Stop::Now));
    let finished: Vec<_> = story
        .decided()
        .into_iter()
        .filter_map(|decision| match decision.action {
            Action::Finished(finish) => Some(finish),
            _ => None,
        })
        .collect();
    assert_eq!(finished, [Finish::Stopped]);
}
