//! Many threads, one engine: whoever waits steers.
//!
//! Sockets of libzmq belong to one thread at a time, and a client needs no thread of its
//! own: the first who waits for something takes the engine and moves everybody's requests
//! until its own has come; then it hands the engine to another who waits. Who comes while
//! somebody steers leaves a command and rings the bell. So one request at a time costs
//! nothing beside its own wait, and nothing happens behind anybody's back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bell::Bell;
use crate::clock;
use crate::engine::{Command, Deliveries, Engine, Mail, Patience};
use crate::errand::{Order, Ticket};
use crate::error::AskError;

/// Parts of one reply that wait to be taken: so many, ...
const PARTS_LIMIT: usize = 10_000;

/// ... or so many bytes of them.
const PARTS_BYTES_LIMIT: usize = 64 << 20;

/// A new connection is waited for so long by who sends the first request over it.
pub(crate) const CONNECTING: Duration = Duration::from_secs(1);

pub(crate) struct Helm {
    pid: u32,
    bell: Bell,
    board: Mutex<Board>,
    limit: usize,
}

struct Board {
    /// Absent while somebody steers.
    engine: Option<Box<Engine>>,
    commands: Vec<Command>,
    desks: HashMap<Ticket, Desk>,
    last_ticket: Ticket,
    /// Messages that answered nothing.
    dropped: u64,
    /// Requests that have not ended.
    open: usize,
    /// Who sleeps, in the order of their coming.
    sleepers: BTreeMap<u64, Arc<Condvar>>,
    last_sleeper: u64,
    /// Whether somebody among them waits for room.
    is_crowded: bool,
    /// Nobody will ask any more: who steers for others may go.
    #[cfg(feature = "tokio")]
    is_closed: bool,
}

/// What came for one request and was not taken.
struct Desk {
    mail: VecDeque<Mail>,
    bytes: usize,
    has_ended: bool,
    caller: Caller,
}

/// How a caller is told that something came.
pub(crate) enum Caller {
    /// It sleeps, or steers.
    Thread(Arc<Condvar>),
    #[cfg(feature = "tokio")]
    Task(Arc<tokio::sync::Notify>),
}

impl Caller {
    fn wake(&self) {
        match self {
            Self::Thread(thread) => thread.notify_all(),
            #[cfg(feature = "tokio")]
            Self::Task(task) => task.notify_one(),
        }
    }
}

/// What of a wait's end is looked for, and until when.
enum Found<T> {
    Yes(T),
    TooLate,
}

impl Helm {
    pub(crate) fn new(engine: Engine, limit: usize) -> Result<Self, AskError> {
        let board = Board {
            engine: Some(Box::new(engine)),
            commands: Vec::new(),
            desks: HashMap::new(),
            last_ticket: 0,
            dropped: 0,
            open: 0,
            sleepers: BTreeMap::new(),
            last_sleeper: 0,
            is_crowded: false,
            #[cfg(feature = "tokio")]
            is_closed: false,
        };
        let bell = Bell::new().map_err(|error| AskError::System(error.kind()))?;
        Ok(Self { pid: std::process::id(), bell, board: Mutex::new(board), limit })
    }

    /// A forked child has libzmq's memory but none of its threads, and locks that nobody
    /// will ever open: whoever comes asks this first.
    pub(crate) fn is_forked(&self) -> bool {
        self.pid != std::process::id()
    }

    /// Waits for room, and sends.
    pub(crate) fn ask(&self, order: Order, caller: &Arc<Condvar>) -> Result<Ticket, AskError> {
        if self.is_forked() {
            return Err(AskError::Forked);
        }
        let deadline = order.deadline;
        let room = |board: &mut Board| {
            board.is_crowded = board.open >= self.limit;
            (!board.is_crowded).then_some(())
        };
        if let Found::TooLate = self.steer_until(caller, Some(deadline), room) {
            return Err(AskError::NoRoom { limit: self.limit });
        }
        let ticket = self.enter(order, Caller::Thread(Arc::clone(caller)));
        // Not before its connection is there can it be sent, and nobody may come to wait for it
        // soon. If somebody steers, that one sees to it.
        let sent = |board: &mut Board| match &board.engine {
            Some(engine) if engine.is_connecting(ticket) => None,
            Some(_) | None => Some(()),
        };
        let until = deadline.min(clock::deadline(CONNECTING));
        self.steer_until(caller, Some(until), sent);
        Ok(ticket)
    }

    /// Sends. That there is room is the caller's business.
    pub(crate) fn enter(&self, order: Order, caller: Caller) -> Ticket {
        let mut board = self.board();
        board.last_ticket += 1;
        board.open += 1;
        let ticket = board.last_ticket;
        board.desks.insert(ticket, Desk { mail: VecDeque::new(), bytes: 0, has_ended: false, caller });
        board.commands.push(Command::Ask(ticket, Box::new(order)));
        self.see_to_commands(board);
        ticket
    }

    /// Waits for the next that comes for this request; nothing if it does not come in time.
    pub(crate) fn next(&self, ticket: Ticket, until: Option<Instant>, caller: &Arc<Condvar>) -> Option<Mail> {
        match self.steer_until(caller, until, |board| board.take(ticket)) {
            Found::Yes(mail) => Some(mail),
            Found::TooLate => None,
        }
    }

    /// What came for this request, if something did.
    #[cfg(feature = "tokio")]
    pub(crate) fn take(&self, ticket: Ticket) -> Option<Mail> {
        self.board().take(ticket)
    }

    /// Takes a request back; its end is told.
    pub(crate) fn cancel(&self, ticket: Ticket) {
        if self.is_forked() {
            return;
        }
        let mut board = self.board();
        board.commands.push(Command::Cancel(ticket));
        self.see_to_commands(board);
    }

    /// Nobody waits for this request any more.
    pub(crate) fn leave(&self, ticket: Ticket) {
        if self.is_forked() {
            return;
        }
        let mut board = self.board();
        let Some(desk) = board.desks.remove(&ticket) else { return };
        if !desk.has_ended {
            board.open = board.open.saturating_sub(1);
            board.commands.push(Command::Abandon(ticket));
            board.wake_the_crowd();
            self.see_to_commands(board);
        }
    }

    /// How many messages answered nothing.
    pub(crate) fn dropped(&self) -> u64 {
        if self.is_forked() { 0 } else { self.board().dropped }
    }

    /// Steers for others until the client is closed.
    #[cfg(feature = "tokio")]
    pub(crate) fn steer(&self) {
        let caller = Arc::new(Condvar::new());
        self.steer_until(&caller, None, |board| board.is_closed.then_some(()));
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn close(&self) {
        if self.is_forked() {
            return;
        }
        self.board().is_closed = true;
        self.bell.ring();
    }

    /// Steers, or sleeps while another steers, until it is found.
    fn steer_until<T>(
        &self,
        caller: &Arc<Condvar>,
        until: Option<Instant>,
        mut look: impl FnMut(&mut Board) -> Option<T>,
    ) -> Found<T> {
        let mut board = self.board();
        loop {
            if let Some(found) = look(&mut board) {
                board.call_another();
                return Found::Yes(found);
            }
            let left = until.map(clock::left);
            if left.is_some_and(|left| left.is_zero()) {
                board.call_another();
                return Found::TooLate;
            }
            board = if let Some(engine) = board.engine.take() {
                let patience = until.map_or(Patience::Endless, Patience::Until);
                self.turn(engine, board, patience)
            } else {
                let place = board.lie_down(caller);
                board = match left {
                    None => caller.wait(board).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => caller.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0,
                };
                board.sleepers.remove(&place);
                board
            };
        }
    }

    /// Carries out what is left to be done, unless somebody steers, who then will.
    fn see_to_commands(&self, mut board: MutexGuard<'_, Board>) {
        if let Some(engine) = board.engine.take() {
            self.turn(engine, board, Patience::None).call_another();
        } else {
            drop(board);
            self.bell.ring();
        }
    }

    /// One step of the engine, with the board open for the others.
    fn turn<'a>(
        &'a self,
        engine: Box<Engine>,
        mut board: MutexGuard<'a, Board>,
        patience: Patience,
    ) -> MutexGuard<'a, Board> {
        let commands = std::mem::take(&mut board.commands);
        drop(board);
        let mut mail = Deliveries::new();
        // It comes back also from a step that panics, so that the others do not wait for ever.
        let mut wheel = Wheel { helm: self, engine: Some(engine) };
        if let Some(engine) = &mut wheel.engine {
            for command in commands {
                engine.accept(command, &mut mail);
            }
            engine.step(&self.bell, patience, &mut mail);
        }
        let engine = wheel.engine.take();
        let mut board = self.board();
        board.dropped = engine.as_ref().map_or(board.dropped, |engine| engine.dropped());
        board.engine = engine;
        board.deliver(mail);
        board
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Wheel<'a> {
    helm: &'a Helm,
    engine: Option<Box<Engine>>,
}

impl Drop for Wheel<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            let mut board = self.helm.board();
            board.engine = Some(engine);
            board.call_another();
        }
    }
}

impl Drop for Helm {
    fn drop(&mut self) {
        // Ending an inherited context waits for threads that are not there.
        if self.is_forked() {
            let board = self.board.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(board.engine.take());
        }
    }
}

impl Board {
    fn take(&mut self, ticket: Ticket) -> Option<Mail> {
        let desk = self.desks.get_mut(&ticket)?;
        let mail = desk.mail.pop_front()?;
        match &mail {
            Mail::Part(frames) => desk.bytes = desk.bytes.saturating_sub(frames.iter().map(Vec::len).sum()),
            Mail::Done(_) => {
                self.desks.remove(&ticket);
            }
        }
        Some(mail)
    }

    fn deliver(&mut self, mail: Deliveries) {
        for (ticket, mail) in mail {
            let Some(desk) = self.desks.get_mut(&ticket).filter(|desk| !desk.has_ended) else { continue };
            let size = match &mail {
                Mail::Part(frames) => frames.iter().map(Vec::len).sum(),
                Mail::Done(_) => 0,
            };
            let is_part = matches!(mail, Mail::Part(_));
            let is_full = desk.mail.len() >= PARTS_LIMIT || desk.bytes + size > PARTS_BYTES_LIMIT;
            if is_part && is_full && !desk.mail.is_empty() {
                desk.mail.push_back(Mail::Done(Err(AskError::Behind)));
                desk.has_ended = true;
                self.commands.push(Command::Abandon(ticket));
            } else {
                desk.bytes += size;
                desk.has_ended = !is_part;
                desk.mail.push_back(mail);
            }
            desk.caller.wake();
            if desk.has_ended {
                self.open = self.open.saturating_sub(1);
                self.wake_the_crowd();
            }
        }
    }

    /// Whoever waits for room looks again.
    fn wake_the_crowd(&mut self) {
        if std::mem::take(&mut self.is_crowded) {
            for sleeper in self.sleepers.values() {
                sleeper.notify_all();
            }
        }
    }

    fn lie_down(&mut self, caller: &Arc<Condvar>) -> u64 {
        self.last_sleeper += 1;
        self.sleepers.insert(self.last_sleeper, Arc::clone(caller));
        self.last_sleeper
    }

    /// Somebody else is to steer, if anybody waits.
    fn call_another(&self) {
        if let Some((_, sleeper)) = self.sleepers.first_key_value().filter(|_| self.engine.is_some()) {
            sleeper.notify_all();
        }
    }
}
