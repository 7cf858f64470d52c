//! One DEALER socket to the broker, and what became of its connection.
//!
//! Who retries, and for how long, is the client's business.

use std::time::Instant;

use crate::clock;
use crate::endpoint::{Address, Family};

/// What a wait for the broker ended with.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message, all its frames.
    Message(Vec<Vec<u8>>),
    /// The connection that the last message went over is gone, and everything that came
    /// over it was read.
    Lost,
    /// Nothing, and the time is over.
    Nothing,
}

pub(crate) struct Connection {
    dealer: zmq::Socket,
    monitor: zmq::Socket,
    state: State,
    losses: u64,
    /// `losses` when a message was last sent: one more, and its answer is lost.
    losses_before: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No ZMTP handshake yet, or the last one's connection is gone.
    Down,
    /// The broker is at the other end.
    Up,
}

impl Connection {
    /// Begins to connect. `number` is unique within the context.
    pub(crate) fn open(
        context: &zmq::Context,
        address: &Address,
        identity: Option<&[u8]>,
        number: u64,
    ) -> zmq::Result<Self> {
        let dealer = context.socket(zmq::DEALER)?;
        dealer.set_linger(0)?;
        dealer.set_ipv6(address.family == Family::Ipv6)?;
        if let Some(identity) = identity {
            dealer.set_identity(identity)?;
        }
        let monitor = context.socket(zmq::PAIR)?;
        monitor.set_linger(0)?;
        // libzmq's own thread waits for room in this queue, with everything
        // else it does: a limit would let a flapping broker stop the client.
        monitor.set_rcvhwm(0)?;
        let place = format!("inproc://hornpipe-monitor-{number}");
        let events = zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | zmq::SocketEvent::DISCONNECTED.to_raw();
        dealer.monitor(&place, i32::from(events))?;
        monitor.connect(&place)?;
        dealer.connect(&address.text)?;
        Ok(Self { dealer, monitor, state: State::Down, losses: 0, losses_before: 0 })
    }

    /// Waits until the broker is at the other end; false if `deadline` came first.
    pub(crate) fn wait_until_up(&mut self, deadline: Instant) -> zmq::Result<bool> {
        loop {
            self.read_monitor()?;
            let left = clock::left(deadline);
            if self.state == State::Up || left.is_zero() {
                return Ok(self.state == State::Up);
            }
            let mut items = [self.monitor.as_poll_item(zmq::POLLIN)];
            poll(&mut items, clock::poll_timeout(left))?;
        }
    }

    /// Sends a message; false if there is no room for it, so that nothing was sent.
    pub(crate) fn send<'a>(&mut self, frames: impl IntoIterator<Item = &'a [u8]>) -> zmq::Result<bool> {
        self.losses_before = self.losses;
        let mut frames = frames.into_iter().peekable();
        // Only the first frame of a message can be refused for want of room.
        while let Some(frame) = frames.next() {
            let more = if frames.peek().is_some() { zmq::SNDMORE } else { 0 };
            match retry_interrupted(|| self.dealer.send(frame, zmq::DONTWAIT | more)) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Waits for what the broker says next.
    pub(crate) fn receive(&mut self, deadline: Instant) -> zmq::Result<Heard> {
        loop {
            // The monitor first: what was sent before the connection went is
            // in the DEALER by the time the monitor tells of the loss.
            self.read_monitor()?;
            if let Some(frames) = receive_message(&self.dealer)? {
                return Ok(Heard::Message(frames));
            }
            if self.losses != self.losses_before {
                return Ok(Heard::Lost);
            }
            let left = clock::left(deadline);
            if left.is_zero() {
                return Ok(Heard::Nothing);
            }
            let mut items = [self.dealer.as_poll_item(zmq::POLLIN), self.monitor.as_poll_item(zmq::POLLIN)];
            poll(&mut items, clock::poll_timeout(left))?;
        }
    }

    fn read_monitor(&mut self) -> zmq::Result<()> {
        while let Some(frames) = receive_message(&self.monitor)? {
            let event =
                frames.first().and_then(|frame| frame.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes));
            if event == Some(zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw()) {
                self.state = State::Up;
            } else if event == Some(zmq::SocketEvent::DISCONNECTED.to_raw()) {
                self.state = State::Down;
                self.losses += 1;
            }
        }
        Ok(())
    }
}

/// Polls; a signal ends the wait early and is no error, the caller looks again.
pub(crate) fn poll(items: &mut [zmq::PollItem<'_>], timeout_ms: i64) -> zmq::Result<()> {
    match zmq::poll(items, timeout_ms) {
        Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The next message, if one is there.
fn receive_message(socket: &zmq::Socket) -> zmq::Result<Option<Vec<Vec<u8>>>> {
    let mut frames = Vec::new();
    loop {
        // A message arrives whole: once its first frame is there, all are.
        match retry_interrupted(|| socket.recv_msg(zmq::DONTWAIT)) {
            Ok(frame) => {
                frames.push(frame.to_vec());
                if !frame.get_more() {
                    return Ok(Some(frames));
                }
            }
            Err(zmq::Error::EAGAIN) if frames.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Calls again what a signal interrupted. Nothing that is called here waits.
pub(crate) fn retry_interrupted<T>(mut call: impl FnMut() -> zmq::Result<T>) -> zmq::Result<T> {
    loop {
        match call() {
            Err(zmq::Error::EINTR) => {}
            other => return other,
        }
    }
}
