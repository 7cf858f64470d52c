//! Jobs of brokers: each becomes a request that names its worker, and what becomes of that
//! goes back under the broker's token.

use hornpipe_proto::worker::{BrokerMessage, Control, HEAD_LEN, JobMeta, ReplyMeta, ReplyStatus};
use hornpipe_proto::{Ended, Status, Token};
use tracing::warn;

use super::super::frame::{Body, Frame, Passing, total_size};
use super::{Agent, Berth, Standing};
use crate::core::{Event, Request, RequestId, ServiceId, Services, Timestamp, WINDOW, Wants, WorkerId};

/// A job in our hands.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) link: usize,
    member: u32,
    worker: WorkerId,
    /// The broker's name for it.
    token: Box<[u8]>,
    meta: JobMeta,
    /// When nobody waits for it any more.
    deadline: Option<Timestamp>,
    /// Our own name for it in the worker's hands, once a worker has had it.
    held: Option<Token>,
    /// How its worker's process has ended, if it has with the job in hand.
    ended: Option<Ended>,
}

/// A job that is over for its broker.
#[derive(Debug)]
pub(super) struct Remnant {
    pub(super) worker: WorkerId,
    held: Token,
    /// Its broker waits for word that the worker is free.
    owed: Option<Job>,
}

/// A job without a reply.
#[derive(Debug)]
pub(super) struct Bereft {
    job: Job,
    why: String,
}

/// What the core made of a job.
#[derive(Debug)]
pub(in crate::router) struct Failure {
    pub(in crate::router) status: Status,
    pub(in crate::router) message: String,
}

impl Agent {
    /// The event that a broker's message stands for, if it is one.
    pub(super) fn read(
        &mut self,
        number: usize,
        (request, now): (RequestId, Timestamp),
        frames: &mut Vec<Frame>,
        core: &Services<Body>,
    ) -> Option<Event<Body>> {
        let link = self.links.get_mut(number)?;
        match BrokerMessage::decode(frames) {
            Ok(BrokerMessage::Job { token, meta }) => {
                let job = (token.into_boxed_slice(), meta.unwrap_or_default());
                self.take_job((number, job), (request, now), frames, core)
            }
            Ok(BrokerMessage::Control(Control::Cancel { token })) => {
                Some(Event::Cancel { client: link.client, name: token.into() })
            }
            Ok(BrokerMessage::Control(Control::More { token, parts })) => {
                let request = *link.tokens.get(token.as_bytes())?;
                Some(Event::Delivered { request, parts })
            }
            // No broker says it to workers from elsewhere.
            Ok(BrokerMessage::Control(Control::Stop)) => None,
            Err(error) => {
                warn!(broker = link.uplink.endpoint(), %error, "a message of the broker cannot be read");
                None
            }
        }
    }

    fn take_job(
        &mut self,
        (number, (token, meta)): (usize, (Box<[u8]>, JobMeta)),
        (request, now): (RequestId, Timestamp),
        frames: &mut Vec<Frame>,
        core: &Services<Body>,
    ) -> Option<Event<Body>> {
        let link = self.links.get_mut(number)?;
        let Some(member) = meta.member else {
            let message = Some("the broker knows nothing of crews: it is older than its crew".to_owned());
            let meta = ReplyMeta { status: ReplyStatus::Retry, message, more: false };
            link.uplink.send(&[b"", &token, &meta.encode(), b""], [].iter());
            return None;
        };
        // It has crossed word of that worker's leave: the broker knows that it was not seen.
        let worker = *link.members.get(&member)?;
        let hand = self.hands.get_mut(&worker)?;
        let berth = hand.berth.as_mut().filter(|berth| berth.member == member)?;
        berth.received += 1;
        berth.in_hand += 1;
        link.tokens.insert(token.clone(), request);
        let body: Vec<Frame> = frames.drain(HEAD_LEN.min(frames.len())..).collect();
        let name = std::str::from_utf8(&token).ok().map(Into::into);
        let asked = Request {
            request,
            client: link.client,
            name,
            service: (hand.service != ServiceId::DEFAULT).then(|| core.name(hand.service).to_owned()),
            // The broker keeps the time, and says `cancel`.
            timeout: None,
            // And it is the broker that tries again.
            attempts: Some(1),
            size: total_size(&body),
            wants: Wants {
                parts: meta.window.is_some_and(|window| window >= WINDOW),
                worker: Some(worker),
                ..Wants::default()
            },
            body: Body::to_keep(body.into_iter()).with(Passing {
                key: meta.key.clone(),
                trace: meta.trace.clone(),
                headers: meta.headers.clone(),
            }),
        };
        let deadline = meta.timeout_ms.map(|left| now.after(std::time::Duration::from_millis(left)));
        let job = Job { link: number, member, worker, token, meta, deadline, held: None, ended: None };
        self.jobs.insert(request, job);
        Some(Event::Request(asked))
    }

    /// A worker is about to get the request. Gives what it is to know of it, if it is a job.
    pub(in crate::router) fn assigned(
        &mut self,
        request: RequestId,
        held: Token,
        now: Timestamp,
    ) -> Option<JobMeta> {
        let job = self.jobs.get_mut(&request)?;
        job.held = Some(held);
        let left = job.deadline.map(|deadline| now.until(deadline));
        let timeout_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        Some(JobMeta { timeout_ms, member: None, ..job.meta.clone() })
    }

    /// A part of a reply. The broker says when there is room for another.
    pub(in crate::router) fn pass_part(&mut self, request: RequestId, body: &Body) {
        let Some(job) = self.jobs.get(&request) else { return };
        let Some(link) = self.links.get_mut(job.link) else { return };
        let meta = ReplyMeta { more: true, ..ReplyMeta::default() }.encode();
        link.uplink.send(&[b"", &job.token, &meta], body.frames().iter());
    }

    /// The worker's reply.
    pub(in crate::router) fn answer(&mut self, request: RequestId, body: &Body) {
        let Some(job) = self.take(request) else { return };
        if let Some(link) = self.links.get_mut(job.link) {
            link.uplink.send(&[b"", &job.token, b""], body.frames().iter());
        }
        self.let_go(&job);
    }

    /// There is none.
    pub(in crate::router) fn fail(&mut self, request: RequestId, failure: Failure, core: &Services<Body>) {
        let Some(job) = self.take(request) else { return };
        let Failure { status, message } = failure;
        let still_held = job.held.filter(|held| core.holds(*held));
        match status {
            Status::Cancelled => {
                if let Some(held) = still_held {
                    // The broker would give a worker the next that has not let go of this one.
                    self.remnants.push(Remnant { worker: job.worker, held, owed: Some(job) });
                    return;
                }
                self.reply(&job, ReplyStatus::Error, message);
            }
            Status::Lost | Status::Draining | Status::Unavailable => {
                self.losses.push(Bereft { job, why: message });
                return;
            }
            Status::Busy => self.reply(&job, ReplyStatus::Retry, message),
            _ => self.reply(&job, ReplyStatus::Error, message),
        }
        self.remnants.extend(still_held.map(|held| Remnant { worker: job.worker, held, owed: None }));
        self.let_go(&job);
    }

    /// The job is lost with its worker, whose process has ended so.
    pub(super) fn learn_end(&mut self, request: RequestId, ended: Option<Ended>) {
        if let Some(job) = self.jobs.get_mut(&request) {
            job.ended = ended;
        }
    }

    /// Nobody waits for it any more.
    pub(in crate::router) fn forget(&mut self, request: RequestId) {
        if let Some(job) = self.take(request) {
            self.let_go(&job);
        }
    }

    /// The broker of these jobs is gone.
    pub(super) fn give_up_jobs(&mut self, link: usize) {
        let given_up = self.jobs.extract_if(|_request, job| job.link == link);
        let held = given_up.filter_map(|(_request, job)| Some((job.worker, job.held?)));
        self.remnants.extend(held.map(|(worker, held)| Remnant { worker, held, owed: None }));
        for remnant in &mut self.remnants {
            remnant.owed.take_if(|job| job.link == link);
        }
        self.losses.retain(|loss| loss.job.link != link);
    }

    /// Tells brokers of workers that have let go of what was over already.
    pub(super) fn settle_remnants(&mut self, core: &Services<Body>) {
        let over: Vec<Remnant> = self.remnants.extract_if(.., |remnant| !core.holds(remnant.held)).collect();
        for remnant in over {
            self.stirred = true;
            if let Some(job) = remnant.owed {
                self.reply(&job, ReplyStatus::Error, "taken back by its client".to_owned());
                self.let_go(&job);
            }
        }
    }

    /// A worker that goes takes what it held along, and its broker draws its conclusions from
    /// that. One that stays has let go of a job, and says so.
    pub(super) fn settle_losses(&mut self) {
        for Bereft { job, why } in std::mem::take(&mut self.losses) {
            let stays = self.hands.get(&job.worker).is_some_and(|hand| hand.capacity > 0);
            if stays && self.standing != Standing::Closed {
                self.reply(&job, ReplyStatus::Retry, why);
            } else if let Some(berth) = self.berth_of(&job) {
                berth.untouched += u64::from(job.held.is_none());
                berth.ended = berth.ended.or(job.ended);
            }
            self.let_go(&job);
        }
    }

    fn take(&mut self, request: RequestId) -> Option<Job> {
        let job = self.jobs.remove(&request)?;
        if let Some(link) = self.links.get_mut(job.link) {
            link.tokens.remove(&job.token);
        }
        Some(job)
    }

    fn reply(&mut self, job: &Job, status: ReplyStatus, message: String) {
        let Some(link) = self.links.get_mut(job.link) else { return };
        let meta = ReplyMeta { status, message: Some(message), more: false };
        link.uplink.send(&[b"", &job.token, &meta.encode(), b""], [].iter());
    }

    fn let_go(&mut self, job: &Job) {
        if let Some(berth) = self.berth_of(job) {
            berth.in_hand = berth.in_hand.saturating_sub(1);
            self.stirred |= self.berth_of(job).is_some_and(|berth| berth.closing);
        }
    }

    /// The berth that it came to, if that is still there.
    fn berth_of(&mut self, job: &Job) -> Option<&mut Berth> {
        let berth = self.hands.get_mut(&job.worker)?.berth.as_mut()?;
        (berth.link == job.link && berth.member == job.member).then_some(berth)
    }
}
