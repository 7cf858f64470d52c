//! The DEALER of a crew's agent to one broker, and whether anybody is at its other end.

use std::os::fd::BorrowedFd;

use zmq::SocketEvent;

use super::ffi::{self, SharedFrame};
use super::frame::Frame;
use super::setup::RouterError;
use super::sockets::{FRAME_LIMIT, KEEPALIVE_QUESTIONS, LINGER, WORKER_KEEPALIVE, WORKER_SILENCE_MS};
use nix::errno::Errno;

/// After a connection that did not come about, libzmq tries again after this many
/// milliseconds, then after twice as long, but no longer than the second.
const RECONNECT_MS: (i32, i32) = (50, 1000);

/// A machine that does not answer at all is tried anew after so many milliseconds.
const CONNECT_MS: i32 = 2000;

pub(super) struct Uplink {
    endpoint: String,
    context: zmq::Context,
    frame_limit: i64,
    dealer: zmq::Socket,
    monitor: zmq::Socket,
    /// Unique among those of this process.
    number: u64,
    is_stirred: bool,
}

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink")
            .field("endpoint", &self.endpoint)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// What became of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The broker is at the other end.
    Up,
    /// It was, and is gone.
    Lost,
    /// Nobody was there; libzmq tries again by itself.
    Failed,
}

impl Uplink {
    /// Begins to connect. `numbers` gives each socket of this process one of its own.
    pub(super) fn open(
        context: &zmq::Context,
        endpoint: &str,
        frame_limit: i64,
        numbers: &mut u64,
    ) -> Result<Self, RouterError> {
        *numbers += 1;
        let number = *numbers;
        let (dealer, monitor) = connect(context, endpoint, frame_limit, number)?;
        let (endpoint, context) = (endpoint.to_owned(), context.clone());
        Ok(Self { endpoint, context, frame_limit, dealer, monitor, number, is_stirred: true })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Forgets what was to be sent, and begins to connect anew: what was said over the
    /// connection that is gone means nothing to the next.
    pub(super) fn reopen(&mut self, numbers: &mut u64) -> Result<(), RouterError> {
        *numbers += 1;
        let (dealer, monitor) = connect(&self.context, &self.endpoint, self.frame_limit, *numbers)?;
        self.hush();
        self.dealer.set_linger(0).map_err(|error| failed(&self.endpoint, error))?;
        self.number = *numbers;
        self.dealer = dealer;
        self.monitor = monitor;
        self.is_stirred = true;
        Ok(())
    }

    /// libzmq's own thread tells the monitor what happens until the socket is closed, which is
    /// some time after `zmq_close`, and waits for ever for a monitor that is gone. Asking for
    /// no events, at another place, ends the first monitor (libzmq 4.3.5, `socket_base_t::monitor`).
    fn hush(&self) {
        let place = format!("inproc://hornpipe-unheard-{}", self.number);
        // Also where that fails for want of descriptors, the first one has ended.
        self.dealer.monitor(&place, 0).ok();
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.dealer, &self.monitor].into_iter().map(ffi::descriptor)
    }

    /// Whether there may be something to read that no descriptor tells of: see `Router::wait`.
    pub(super) fn is_stirred(&self) -> bool {
        self.is_stirred
    }

    /// What became of the connection since this was last asked, the oldest first.
    pub(super) fn news(&mut self) -> Option<News> {
        loop {
            let event = SharedFrame::receive(&mut self.monitor).ok()?;
            let number = event.as_ref().first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
            let mut more = event.has_more();
            while more {
                more = SharedFrame::receive(&mut self.monitor).ok()?.has_more();
            }
            let known = [
                (SocketEvent::HANDSHAKE_SUCCEEDED, News::Up),
                (SocketEvent::DISCONNECTED, News::Lost),
                (SocketEvent::CONNECT_RETRIED, News::Failed),
            ];
            if let Some((_, news)) = known.into_iter().find(|(known, _)| number == Some(known.to_raw())) {
                return Some(news);
            }
        }
    }

    /// Takes the next message. False if there is none. One of too many frames comes as none.
    pub(super) fn receive(&mut self, frames: &mut Vec<Frame>) -> bool {
        frames.clear();
        let mut overlong = false;
        self.is_stirred = true;
        loop {
            // A message arrives whole: once its first frame is there, all are.
            let frame = match SharedFrame::receive(&mut self.dealer) {
                Ok(frame) => frame,
                Err(Errno::EINTR) => continue,
                Err(_nothing_there) => {
                    self.is_stirred = false;
                    return false;
                }
            };
            let more = frame.has_more();
            if frames.len() < FRAME_LIMIT {
                frames.push(Frame::received(frame));
            } else {
                overlong = true;
            }
            if !more {
                if overlong {
                    frames.clear();
                }
                return true;
            }
        }
    }

    /// Sends a message. There is room for it: how much can be on its way is the broker's word.
    pub(super) fn send<'a>(&mut self, head: &[&[u8]], body: impl ExactSizeIterator<Item = &'a Frame>) {
        self.is_stirred = true;
        let mut left = head.len() + body.len();
        let mut flags = || {
            left = left.saturating_sub(1);
            if left == 0 { 0 } else { zmq::SNDMORE }
        };
        for frame in head {
            if self.dealer.send(*frame, flags() | zmq::DONTWAIT).is_err() {
                return;
            }
        }
        for frame in body {
            if frame.send(&mut self.dealer, flags()).is_err() {
                return;
            }
        }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.hush();
    }
}

fn failed(endpoint: &str, error: zmq::Error) -> RouterError {
    RouterError::Uplink { endpoint: endpoint.to_owned(), error: Errno::from_raw(error.to_raw()) }
}

fn connect(
    context: &zmq::Context,
    endpoint: &str,
    frame_limit: i64,
    number: u64,
) -> Result<(zmq::Socket, zmq::Socket), RouterError> {
    let failed = |error: zmq::Error| failed(endpoint, error);
    let mut dealer = context.socket(zmq::DEALER).map_err(failed)?;
    dealer.set_linger(i32::try_from(LINGER.as_millis()).unwrap_or(i32::MAX)).map_err(failed)?;
    dealer.set_ipv6(endpoint.contains('[')).map_err(failed)?;
    dealer.set_maxmsgsize(frame_limit).map_err(failed)?;
    dealer.set_tcp_keepalive(1).map_err(failed)?;
    dealer.set_tcp_keepalive_idle(WORKER_KEEPALIVE.0).map_err(failed)?;
    dealer.set_tcp_keepalive_intvl(WORKER_KEEPALIVE.1).map_err(failed)?;
    dealer.set_tcp_keepalive_cnt(KEEPALIVE_QUESTIONS).map_err(failed)?;
    ffi::set_number(&mut dealer, zmq_sys::ZMQ_TCP_MAXRT, WORKER_SILENCE_MS)
        .map_err(|error| RouterError::Uplink { endpoint: endpoint.to_owned(), error })?;
    dealer.set_connect_timeout(CONNECT_MS).map_err(failed)?;
    dealer.set_handshake_ivl(CONNECT_MS).map_err(failed)?;
    dealer.set_reconnect_ivl(RECONNECT_MS.0).map_err(failed)?;
    dealer.set_reconnect_ivl_max(RECONNECT_MS.1).map_err(failed)?;
    // A reply must never be dropped for want of room; no more of them are out than the broker
    // has given jobs, and parts of one only as many as it has allowed.
    dealer.set_sndhwm(0).map_err(failed)?;
    let monitor = context.socket(zmq::PAIR).map_err(failed)?;
    monitor.set_linger(0).map_err(failed)?;
    // libzmq's own thread waits for room in this queue, with everything else it does.
    monitor.set_rcvhwm(0).map_err(failed)?;
    let place = format!("inproc://hornpipe-uplink-{number}");
    let events = [SocketEvent::HANDSHAKE_SUCCEEDED, SocketEvent::DISCONNECTED, SocketEvent::CONNECT_RETRIED];
    let events = events.into_iter().fold(0, |all, event| all | i32::from(event.to_raw()));
    dealer.monitor(&place, events).map_err(failed)?;
    monitor.connect(&place).map_err(failed)?;
    dealer.connect(endpoint).map_err(failed)?;
    Ok((dealer, monitor))
}
