//! What a worker has said to us, held against what it was given: whose turn it was, and what
//! it may not say. A function of messages: no socket, no clock.

use std::collections::BTreeMap;

use hornpipe_proto::Token;
use hornpipe_proto::dialect::Dialect;
use hornpipe_proto::worker::{Announcement, HEAD_LEN, ReplyMeta, State, WorkerMessage};

/// Everything since the worker was started, or since its router was.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "things that a worker says, each independent of the others"
)]
pub(super) struct Record {
    /// The last details that it gave of itself.
    pub(super) announcement: Option<Announcement>,
    /// It has said a state.
    pub(super) is_known: bool,
    /// It has said `waiting` since its last reply.
    pub(super) is_waiting: bool,
    pub(super) is_exiting: bool,
    /// It has said `processing` since its last job.
    pub(super) has_begun: bool,
    /// Its ZeroMQ identity is one that it chose.
    pub(super) has_chosen_identity: bool,
    jobs: BTreeMap<Token, Job>,
    sent: u64,
    replied: u64,
    offences: Vec<Offence>,
}

#[derive(Debug, Default)]
struct Job {
    reply: Option<Reply>,
    parts: u32,
    allowed: Option<u32>,
    taken_back: bool,
}

/// The end of a reply, however it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) meta: ReplyMeta,
    pub(super) body: Vec<Vec<u8>>,
    /// Parts that came before it.
    pub(super) parts: u32,
    /// How many replies to other jobs came before it.
    pub(super) before: u64,
}

/// Something that no worker may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Offence {
    /// The token is none that this worker was given.
    WrongToken { said: String },
    /// It has replied to that job before.
    SecondReply,
    /// It has run a job that was taken back before it began it.
    TakenBack,
    /// It would take a request while it has as many as it runs at once.
    OverCredits { credits: u32 },
    /// It announces that it runs none at once, or more than anybody may.
    Credits { credits: u32 },
    /// A part more than it may send ahead, or one for a job that must be answered whole.
    PartTooMany { allowed: u32 },
    /// No message of this protocol.
    Unreadable { why: String },
}

/// The most that a worker may run at once: PROTOCOL.md, "Limits".
const MOST_CREDITS: u32 = 256;

impl Record {
    /// A job goes out, of which so many parts may be sent ahead.
    pub(super) fn give(&mut self, token: Token, window: Option<u32>) {
        self.jobs.insert(token, Job { allowed: window, ..Job::default() });
        self.sent += 1;
        self.is_waiting = false;
        self.has_begun = false;
    }

    /// The job was taken back before the worker could begin it, and it is to drop it.
    pub(super) fn take_back(&mut self, token: Token) {
        if let Some(job) = self.jobs.get_mut(&token) {
            job.taken_back = true;
        }
    }

    /// So many parts more may be sent.
    pub(super) fn allow(&mut self, token: Token, parts: u32) {
        if let Some(allowed) = self.jobs.get_mut(&token).and_then(|job| job.allowed.as_mut()) {
            *allowed = allowed.saturating_add(parts);
        }
    }

    /// The worker has another router, which knows nothing of what was before.
    pub(super) fn begin_anew(&mut self) {
        let offences = std::mem::take(&mut self.offences);
        *self = Self { offences, ..Self::default() };
    }

    /// One message, without the identity of the connection.
    pub(super) fn hear(&mut self, frames: &[Vec<u8>]) {
        match WorkerMessage::decode(frames) {
            Ok(WorkerMessage::Hello(announcement)) => self.learn(announcement),
            Ok(WorkerMessage::State { dialect, .. }) if dialect != Dialect::Hornpipe => {
                self.offend(Offence::Unreadable { why: "it speaks the Simple Pirate's protocol".into() });
            }
            Ok(WorkerMessage::State { state, announcement, .. }) => {
                let seen = announcement.as_ref().map(|announcement| announcement.seen);
                if let Some(announcement) = announcement {
                    self.learn(announcement);
                }
                self.is_known = true;
                self.enter(state, seen);
            }
            Ok(WorkerMessage::Reply { token, meta }) => {
                self.finish(token, meta, frames.get(HEAD_LEN..).unwrap_or_default());
            }
            Ok(WorkerMessage::StrayReply) => {
                let said = frames.get(1).map(|token| String::from_utf8_lossy(token).into_owned());
                self.offend(Offence::WrongToken { said: said.unwrap_or_default() });
            }
            Err(error) => self.offend(Offence::Unreadable { why: error.to_string() }),
        }
    }

    fn learn(&mut self, announcement: Announcement) {
        if !(1..=MOST_CREDITS).contains(&announcement.credits) {
            self.offend(Offence::Credits { credits: announcement.credits });
        }
        self.announcement = Some(announcement);
    }

    fn enter(&mut self, state: State, seen: Option<u64>) {
        match state {
            State::Waiting => {
                let credits = self.credits();
                let full = usize::try_from(credits).unwrap_or(usize::MAX) <= self.in_hand();
                // One that was said before the job came is no claim: details tell, and without
                // them that it has begun.
                let knows = seen.map_or(self.has_begun, |seen| 0 < seen && self.sent <= seen);
                if full && knows {
                    self.offend(Offence::OverCredits { credits });
                }
                self.is_waiting = true;
            }
            State::Processing => self.has_begun = true,
            State::Exiting => self.is_exiting = true,
        }
    }

    fn finish(&mut self, token: Token, meta: ReplyMeta, body: &[Vec<u8>]) {
        let Some(job) = self.jobs.get_mut(&token) else {
            return self.offend(Offence::WrongToken { said: token.as_str().to_owned() });
        };
        if job.reply.is_some() {
            return self.offend(Offence::SecondReply);
        }
        if job.taken_back {
            return self.offend(Offence::TakenBack);
        }
        if meta.more {
            job.parts += 1;
            let allowed = job.allowed.unwrap_or(0);
            if allowed < job.parts {
                self.offend(Offence::PartTooMany { allowed });
            }
        } else {
            job.reply = Some(Reply { meta, body: body.to_vec(), parts: job.parts, before: self.replied });
            self.replied += 1;
        }
    }

    fn offend(&mut self, offence: Offence) {
        // A worker that does nothing else is told of no less for that.
        if self.offences.len() < 1000 {
            self.offences.push(offence);
        }
    }

    /// What it may not have said, so far.
    pub(super) fn offences(&self) -> &[Offence] {
        &self.offences
    }

    /// How often it has replied under a token that it was not given.
    pub(super) fn strays(&self) -> usize {
        self.offences.iter().filter(|offence| matches!(offence, Offence::WrongToken { .. })).count()
    }

    /// Jobs that it has been given and not replied to.
    pub(super) fn in_hand(&self) -> usize {
        self.jobs.values().filter(|job| job.reply.is_none() && !job.taken_back).count()
    }

    /// How many it says it runs at once.
    pub(super) fn credits(&self) -> u32 {
        self.announcement.as_ref().map_or(1, |announcement| announcement.credits)
    }

    /// It gives details, so it is told details too.
    pub(super) fn has_details(&self) -> bool {
        self.announcement.is_some()
    }

    pub(super) fn reply_to(&self, token: Token) -> Option<&Reply> {
        self.jobs.get(&token).and_then(|job| job.reply.as_ref())
    }

    /// Parts of this reply that have come.
    pub(super) fn parts_of(&self, token: Token) -> u32 {
        self.jobs.get(&token).map_or(0, |job| job.parts)
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WrongToken { said } => {
                write!(
                    f,
                    "it replied under the token {said:?}, which it was not given: echo the second frame of the job"
                )
            }
            Self::SecondReply => f.write_str("it replied to a job a second time: one reply for each job"),
            Self::TakenBack => f.write_str(
                "it ran a job that was taken back: begin one only if its `claim` comes after the lower half of the word",
            ),
            Self::OverCredits { credits } => {
                write!(f, "it said `waiting` with {credits} of {credits} jobs in hand: only after the reply")
            }
            Self::Credits { credits } => {
                write!(f, "it announced {credits} credits: at least 1, at most {MOST_CREDITS}")
            }
            Self::PartTooMany { allowed: 0 } => f.write_str(
                "it sent a part of a reply that must come whole: only if the job's meta has `window`",
            ),
            Self::PartTooMany { allowed } => {
                write!(f, "it sent more than the {allowed} parts it was allowed: wait for the order `more`")
            }
            Self::Unreadable { why } => write!(f, "it said what is no message: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u128) -> Token {
        Token::new(1, number)
    }

    fn say(record: &mut Record, frames: &[&[u8]]) {
        record.hear(&frames.iter().map(|frame| frame.to_vec()).collect::<Vec<_>>());
    }

    fn reply(record: &mut Record, token: Token, meta: &ReplyMeta) {
        say(record, &[b"", token.as_bytes(), &meta.encode(), b"body"]);
    }

    #[test]
    fn a_good_worker_offends_in_nothing() {
        let mut record = Record::default();
        for number in 0..3 {
            say(&mut record, &[b"", b"waiting"]);
            assert!(record.is_waiting && record.is_known && !record.has_details());
            record.give(token(number), None);
            assert_eq!((record.is_waiting, record.in_hand()), (false, 1));
            say(&mut record, &[b"", b"processing"]);
            reply(&mut record, token(number), &ReplyMeta::default());
            assert_eq!(record.reply_to(token(number)).unwrap().body, [b"body"]);
        }
        assert_eq!(record.offences(), []);
    }

    #[test]
    fn tokens_count_once_and_only_if_they_were_given() {
        let mut record = Record::default();
        record.give(token(1), None);
        reply(&mut record, token(2), &ReplyMeta::default());
        say(&mut record, &[b"", b"token", b"", b"body"]);
        assert_eq!((record.offences().len(), record.in_hand()), (2, 1));
        assert!(record.offences().iter().all(|one| matches!(one, Offence::WrongToken { .. })));
        reply(&mut record, token(1), &ReplyMeta::default());
        reply(&mut record, token(1), &ReplyMeta::default());
        assert_eq!(record.offences().last(), Some(&Offence::SecondReply));
    }

    #[test]
    fn waiting_in_the_middle_of_a_job_is_a_claim_unless_the_two_have_crossed() {
        let mut plain = Record::default();
        plain.give(token(1), None);
        say(&mut plain, &[b"", b"waiting"]);
        assert_eq!(plain.offences(), [], "it has not begun, and may not have read it");
        say(&mut plain, &[b"", b"processing"]);
        say(&mut plain, &[b"", b"waiting"]);
        assert_eq!(plain.offences(), [Offence::OverCredits { credits: 1 }]);

        let mut detailed = Record::default();
        let waiting = |record: &mut Record, credits, seen| {
            let announcement = Announcement { credits, seen, ..Announcement::default() };
            say(record, &[b"", b"waiting", &announcement.encode()]);
        };
        waiting(&mut detailed, 2, 0);
        detailed.give(token(1), None);
        detailed.give(token(2), None);
        waiting(&mut detailed, 2, 1);
        assert_eq!(detailed.offences(), []);
        waiting(&mut detailed, 2, 2);
        assert_eq!(detailed.offences(), [Offence::OverCredits { credits: 2 }]);
        waiting(&mut detailed, 0, 2);
        assert_eq!(detailed.offences().get(1), Some(&Offence::Credits { credits: 0 }));
    }

    #[test]
    fn parts_are_counted_against_what_is_allowed() {
        let mut record = Record::default();
        let part = ReplyMeta { more: true, ..ReplyMeta::default() };
        record.give(token(1), Some(1));
        reply(&mut record, token(1), &part);
        record.allow(token(1), 1);
        reply(&mut record, token(1), &part);
        assert_eq!((record.offences().len(), record.parts_of(token(1))), (0, 2));
        reply(&mut record, token(1), &part);
        assert_eq!(record.offences(), [Offence::PartTooMany { allowed: 2 }]);
        reply(&mut record, token(1), &ReplyMeta::default());
        assert_eq!(record.reply_to(token(1)).unwrap().parts, 3);
    }

    #[test]
    fn what_was_taken_back_is_not_in_hand_and_is_not_answered() {
        let mut record = Record::default();
        record.give(token(1), None);
        record.take_back(token(1));
        record.give(token(2), None);
        assert_eq!(record.in_hand(), 1);
        reply(&mut record, token(2), &ReplyMeta::default());
        assert_eq!(record.offences(), []);
        reply(&mut record, token(1), &ReplyMeta::default());
        assert_eq!((record.offences(), record.in_hand()), (&[Offence::TakenBack][..], 0));
    }

    #[test]
    fn another_router_forgets_the_jobs_and_not_the_offences() {
        let mut record = Record::default();
        record.give(token(1), None);
        say(&mut record, &[b"", b"nonsense"]);
        record.begin_anew();
        assert_eq!((record.in_hand(), record.is_known, record.offences().len()), (0, false, 1));
    }
}
