//! A mold: a program that has loaded itself once and forks workers on the parent's order.
//! They are the parent's children, like all workers; what is said is in `proto/src/mold.rs`.
//! Which molds there should be is decided in `turn/molds.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use hornpipe_proto::MAP_LIMIT;
use hornpipe_proto::mold::{MoldOrder, MoldWord};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal as Number;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::{Pid, pipe2};
use tracing::info;

use super::child::MoldChild;
use super::children::signal_group;
use super::gate::{self, Gate};
use super::output::Output;
use super::process::{self, Remains};
use super::{Conditions, Identity};
use crate::link::{ExitStatus, Place};

/// The log's name for lines of which none is left out. The parent does not know the log.
const EACH: &str = "each";

/// Forks under way in one mold: it does them one after the other, and a line that holds a
/// few orders is never full.
const ORDERED_LIMIT: usize = 8;
/// A mold that has said nothing for so long, while it was to fork, hangs.
const SILENCE: Duration = Duration::from_secs(1);
/// What a mold has to end by itself when it is not needed any more.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Ended children that nobody knows are kept only while a mold owes a word, and so many.
const UNKNOWN_LIMIT: usize = 1024;

/// All molds.
#[derive(Debug, Default)]
pub(super) struct Molds {
    all: Vec<Mold>,
    /// The generation that serves, by recipe.
    serving: BTreeMap<usize, u32>,
    last_number: u64,
    /// Children that have ended before the mold said that it had forked them.
    unknown: BTreeMap<i32, Remains>,
}

/// One process that forks.
#[derive(Debug)]
pub(super) struct Mold {
    pub(super) recipe: usize,
    pub(super) generation: u32,
    pub(super) pid: Pid,
    /// Gone when it was closed, by either side.
    line: Option<OwnedFd>,
    gate: Gate,
    output: Output,
    pub(super) stage: Stage,
    /// It has no line any more: when it is killed if it is still there.
    kill_at: Option<Duration>,
    /// Places that want a worker.
    pub(super) waiting: VecDeque<Place>,
    /// Workers that it was told to fork. `None` is one that nobody wants any more: it will
    /// find its gate gone.
    pub(super) ordered: BTreeMap<u64, Option<Ordered>>,
    /// When it said something last, or had nothing to say.
    heard_at: Duration,
    pub(super) measuring: Measuring,
}

/// How far a mold has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not said yet that it is ready.
    Loading,
    Ready {
        since: Duration,
    },
    /// It is not needed any more.
    Closing,
}

/// Whether it was asked what is saved by it: once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measuring {
    NotYet,
    Due { at: Duration },
    Done,
}

/// A worker that is being forked.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) place: Place,
    pub(super) gate: Gate,
    /// The read end.
    pub(super) output: OwnedFd,
}

/// What a mold is made of.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) recipe: usize,
    pub(super) generation: u32,
    pub(super) service: &'a str,
    pub(super) argv: &'a [OsString],
    pub(super) identity: &'a Identity,
    pub(super) conditions: &'a Conditions,
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) parent: Pid,
}

/// What `Mold::receive` found.
#[derive(Debug)]
pub(super) enum Heard {
    Word(MoldWord),
    /// Nothing at present.
    Empty,
    /// It has closed the line.
    Closed,
    /// What is no word of a mold, and why.
    Unreadable(String),
}

impl Molds {
    /// The one that makes workers of this recipe and generation.
    pub(super) fn find(&mut self, recipe: usize, generation: u32) -> Option<&mut Mold> {
        self.all
            .iter_mut()
            .find(|mold| mold.recipe == recipe && mold.generation == generation && !mold.is_closing())
    }

    pub(super) fn of(&mut self, pid: Pid) -> Option<&mut Mold> {
        self.all.iter_mut().find(|mold| mold.pid == pid)
    }

    pub(super) fn pids(&self) -> Vec<Pid> {
        self.all.iter().map(|mold| mold.pid).collect()
    }

    pub(super) fn is_running(&self, pid: Pid) -> bool {
        self.all.iter().any(|mold| mold.pid == pid)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds one. The first of a recipe makes the generation that serves.
    pub(super) fn insert(&mut self, mold: Mold) {
        self.serving.entry(mold.recipe).or_insert(mold.generation);
        self.all.push(mold);
    }

    /// Takes out the one that has ended.
    pub(super) fn remove(&mut self, pid: Pid) -> Option<Mold> {
        let index = self.all.iter().position(|mold| mold.pid == pid)?;
        Some(self.all.swap_remove(index))
    }

    /// This generation serves alone from here on.
    pub(super) fn settle(&mut self, recipe: usize, generation: u32) {
        if let Some(serving) = self.serving.get_mut(&recipe) {
            *serving = generation;
        }
    }

    pub(super) fn serves(&self, recipe: usize, generation: u32) -> bool {
        self.serving.get(&recipe) == Some(&generation)
    }

    /// A number that no order has had.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number = self.last_number.saturating_add(1);
        self.last_number
    }

    /// Whether a mold has yet to say whom it has forked.
    pub(super) fn is_expecting(&self) -> bool {
        self.all.iter().any(|mold| !mold.ordered.is_empty())
    }

    /// Keeps what is left of a child that nobody knows yet.
    pub(super) fn keep_unknown(&mut self, pid: Pid, remains: Remains) {
        if self.is_expecting() && self.unknown.len() < UNKNOWN_LIMIT {
            self.unknown.insert(pid.as_raw(), remains);
        }
    }

    /// What is left of that one, if it has ended already.
    pub(super) fn take_unknown(&mut self, pid: i32) -> Option<Remains> {
        let remains = self.unknown.remove(&pid);
        if !self.is_expecting() {
            self.unknown.clear();
        }
        remains
    }

    /// What a dead router has asked for, its successor asks anew. A worker that is just
    /// being forked finds its gate gone.
    pub(super) fn forget_orders(&mut self) {
        for mold in &mut self.all {
            mold.waiting.clear();
            mold.ordered.values_mut().for_each(|ordered| *ordered = None);
        }
    }

    /// Takes a place off the lists of what is to be made.
    pub(super) fn withdraw(&mut self, place: Place, now: Duration) -> Option<Withdrawn> {
        for mold in &mut self.all {
            let before = mold.waiting.len();
            mold.waiting.retain(|waiting| *waiting != place);
            if mold.waiting.len() < before {
                return Some(Withdrawn { last_lines: mold.output.last_lines(), hangs: None });
            }
            let is_it = |ordered: &&mut Option<Ordered>| {
                ordered.as_ref().is_some_and(|ordered| ordered.place == place)
            };
            if let Some(ordered) = mold.ordered.values_mut().find(is_it) {
                *ordered = None;
                let hangs = mold.hangs(now).then_some(mold.pid);
                return Some(Withdrawn { last_lines: mold.output.last_lines(), hangs });
            }
        }
        None
    }

    /// What to poll, by pid: what they write, and what they say.
    pub(super) fn pipes(&self) -> impl Iterator<Item = (i32, BorrowedFd<'_>)> {
        self.all.iter().flat_map(|mold| {
            let line = mold.line.as_ref().map(AsFd::as_fd);
            mold.output.pipe().into_iter().chain(line).map(|descriptor| (mold.pid.as_raw(), descriptor))
        })
    }

    /// Reads one turn's worth of what one writes.
    pub(super) fn read_output(&mut self, pid: i32) {
        if let Some(mold) = self.of(Pid::from_raw(pid)) {
            let generation = mold.generation;
            mold.output.read_turn(&mut |line| log_line(generation, pid, line));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.all.iter().filter_map(Mold::deadline).min()
    }

    pub(super) fn kill_all(&mut self) {
        for mold in &mut self.all {
            mold.waiting.clear();
            mold.ordered.clear();
            mold.kill();
        }
    }
}

/// A place that gets no worker after all.
#[derive(Debug)]
pub(super) struct Withdrawn {
    /// What its mold wrote last.
    pub(super) last_lines: Vec<String>,
    /// The mold that was to fork it, if it hangs.
    pub(super) hangs: Option<Pid>,
}

impl Mold {
    /// Executes the program.
    pub(super) fn start(plan: &Plan<'_>) -> Result<Self, String> {
        let refused = |errno: Errno| errno.desc().to_lowercase();
        let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(refused)?;
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(refused)?;
        let (gate, threshold) = gate::pair().map_err(refused)?;
        let (line, their_line) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(refused)?;
        // Ours alone: the mold waits for orders.
        fcntl(&line, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(refused)?;
        let child = MoldChild {
            service: plan.service,
            generation: plan.generation,
            identity: plan.identity,
            conditions: plan.conditions,
            environment: plan.environment,
            output: theirs,
            threshold,
            line: their_line,
            parent: plan.parent,
        };
        let pid = process::fork(move || child.run(plan.argv)).map_err(refused)?;
        Ok(Self {
            recipe: plan.recipe,
            generation: plan.generation,
            pid,
            line: Some(line),
            gate,
            output: Output::new(ours),
            stage: Stage::Loading,
            kill_at: None,
            waiting: VecDeque::new(),
            ordered: BTreeMap::new(),
            heard_at: Duration::ZERO,
            measuring: Measuring::NotYet,
        })
    }

    pub(super) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    /// The places of all that it is to make.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let ordered = self.ordered.values().flatten().map(|ordered| ordered.place);
        self.waiting.iter().copied().chain(ordered)
    }

    /// Whether it takes another order to fork.
    pub(super) fn has_room(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. }) && self.ordered.len() < ORDERED_LIMIT
    }

    /// The next thing that it has said, without waiting.
    pub(super) fn receive(&mut self, now: Duration) -> Heard {
        let Some(line) = &self.line else { return Heard::Empty };
        // One byte more than any word has, or a longer one would be read as if it were whole.
        let mut packet = [0; MAP_LIMIT + 1];
        let received = recv(line.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT);
        if received.is_ok() {
            self.heard_at = now;
        }
        match received {
            Ok(0) | Err(Errno::ECONNRESET) => Heard::Closed,
            Ok(size) => match MoldWord::decode(packet.get(..size).unwrap_or_default()) {
                Ok(word) => Heard::Word(word),
                Err(error) => Heard::Unreadable(error.to_string()),
            },
            Err(Errno::EAGAIN | Errno::EINTR) => Heard::Empty,
            Err(errno) => Heard::Unreadable(errno.desc().to_lowercase()),
        }
    }

    /// Gives an order, with descriptors for the worker.
    ///
    /// # Errors
    /// It does not listen, or is gone.
    pub(super) fn order(&self, order: &MoldOrder, descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
        let Some(line) = &self.line else { return Err(Errno::EPIPE) };
        let packet = order.encode();
        let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(line.as_raw_fd(), &[IoSlice::new(&packet)], rights, flags, None).map(|_sent| ())
    }

    /// Notes a worker that it was told to fork.
    pub(super) fn note_ordered(&mut self, number: u64, ordered: Ordered, now: Duration) {
        if self.ordered.is_empty() {
            self.heard_at = now;
        }
        self.ordered.insert(number, Some(ordered));
    }

    /// Whether it owes a word for longer than any fork takes.
    fn hangs(&self, now: Duration) -> bool {
        !self.ordered.is_empty() && SILENCE <= now.saturating_sub(self.heard_at)
    }

    /// Is not needed any more: it ends when it sees the end of its line.
    pub(super) fn close(&mut self, now: Duration) {
        self.stage = Stage::Closing;
        self.hang_up(now);
    }

    /// Nothing more is said, by either side: it has a moment to end.
    pub(super) fn hang_up(&mut self, now: Duration) {
        self.line = None;
        self.kill_at = Some(now.saturating_add(CLOSE_GRACE));
    }

    pub(super) fn kill(&self) {
        signal_group(self.pid.as_raw(), Number::SIGKILL);
    }

    /// What is due for it.
    fn deadline(&self) -> Option<Duration> {
        let measure_at = match self.measuring {
            Measuring::Due { at } if !self.is_closing() => Some(at),
            Measuring::Due { .. } | Measuring::NotYet | Measuring::Done => None,
        };
        [self.kill_at, measure_at].into_iter().flatten().min()
    }

    /// Kills it if it has not ended by itself. Once more if it is still there then.
    pub(super) fn see_to_end(&mut self, now: Duration) {
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = Some(now.saturating_add(CLOSE_GRACE));
            self.kill();
        }
    }

    /// Reads what the ended process left: why it never ran, if it did not, and its last lines.
    pub(super) fn finish(self) -> (Option<ExitStatus>, Vec<String>) {
        let (generation, pid) = (self.generation, self.pid.as_raw());
        (self.gate.report(), self.output.finish(&mut |line| log_line(generation, pid, line)))
    }
}

fn log_line(generation: u32, pid: i32, line: &str) {
    info!(target: EACH, generation, pid, line, "mold output");
}
