//! One DEALER socket to a broker, and what became of its connection. Nothing here waits.
//!
//! Who retries, and for how long, is the engine's business.

use crate::endpoint::{Address, Family};

/// After a connection that did not come about, libzmq tries again after this many
/// milliseconds, then after twice as long, ...
const RECONNECT_MS: i32 = 50;

/// ... but no longer than this.
const RECONNECT_MAX_MS: i32 = 1000;

/// A connection over which nothing came for so many seconds is asked whether it lives, ...
const KEEPALIVE_IDLE_S: i32 = 10;

/// ... again after so many, ...
const KEEPALIVE_INTERVAL_S: i32 = 3;

/// ... and so often.
const KEEPALIVE_COUNT: i32 = 3;

pub(crate) struct Connection {
    pub(crate) dealer: zmq::Socket,
    pub(crate) monitor: zmq::Socket,
    number: u64,
}

impl Drop for Connection {
    /// libzmq's own thread tells the monitor what happens until the socket is closed, which
    /// it is some time after `zmq_close`, and waits for ever for a monitor that is gone: with
    /// it all connections of this client wait. So nothing is to be told from here on: asking
    /// for no events, at another place, ends the first monitor (libzmq 4.3.5,
    /// `socket_base_t::monitor`).
    fn drop(&mut self) {
        let place = format!("inproc://hornpipe-unheard-{}", self.number);
        // Also where that fails for want of descriptors, the first one has ended.
        self.dealer.monitor(&place, 0).ok();
    }
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The broker is at the other end.
    Up,
    /// It was, and is gone.
    Lost,
    /// Nobody was there; libzmq tries again by itself.
    Failed,
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
        // A machine that is gone says nothing; the kernel finds out, if somebody asks it to.
        dealer.set_tcp_keepalive(1)?;
        dealer.set_tcp_keepalive_idle(KEEPALIVE_IDLE_S)?;
        dealer.set_tcp_keepalive_intvl(KEEPALIVE_INTERVAL_S)?;
        dealer.set_tcp_keepalive_cnt(KEEPALIVE_COUNT)?;
        dealer.set_reconnect_ivl(RECONNECT_MS)?;
        dealer.set_reconnect_ivl_max(RECONNECT_MAX_MS)?;
        // How many requests are out is limited, so the socket needs no limit of its own.
        dealer.set_sndhwm(0)?;
        if let Some(identity) = identity {
            dealer.set_identity(identity)?;
        }
        let monitor = context.socket(zmq::PAIR)?;
        monitor.set_linger(0)?;
        // libzmq's own thread waits for room in this queue, with everything
        // else it does: a limit would let a flapping broker stop the client.
        monitor.set_rcvhwm(0)?;
        let place = format!("inproc://hornpipe-monitor-{number}");
        let events = [
            zmq::SocketEvent::HANDSHAKE_SUCCEEDED,
            zmq::SocketEvent::DISCONNECTED,
            zmq::SocketEvent::CONNECT_RETRIED,
        ];
        let events = events.into_iter().fold(0, |all, event| all | i32::from(event.to_raw()));
        dealer.monitor(&place, events)?;
        monitor.connect(&place)?;
        dealer.connect(&address.text)?;
        Ok(Self { dealer, monitor, number })
    }

    /// Sends a message; false if there is no room for it, so that nothing was sent.
    pub(crate) fn send<'a>(&self, frames: impl IntoIterator<Item = &'a [u8]>) -> zmq::Result<bool> {
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

    /// The next message of the broker, if one is there.
    pub(crate) fn receive(&self) -> zmq::Result<Option<Vec<Vec<u8>>>> {
        receive_message(&self.dealer)
    }

    /// What became of the connection since this was last asked; the last news is the state.
    pub(crate) fn news(&self) -> zmq::Result<Option<News>> {
        while let Some(frames) = receive_message(&self.monitor)? {
            let event = frames.first().and_then(|frame| frame.first_chunk());
            let event = event.map(|bytes| u16::from_ne_bytes(*bytes));
            let known = [
                (zmq::SocketEvent::HANDSHAKE_SUCCEEDED, News::Up),
                (zmq::SocketEvent::DISCONNECTED, News::Lost),
                (zmq::SocketEvent::CONNECT_RETRIED, News::Failed),
            ];
            if let Some((_, news)) = known.into_iter().find(|(known, _)| event == Some(known.to_raw())) {
                return Ok(Some(news));
            }
        }
        Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    #[test]
    fn connections_that_are_closed_as_they_come_about_stop_no_other() {
        let server = zmq::Context::new();
        let router = server.socket(zmq::ROUTER).unwrap();
        router.bind("tcp://127.0.0.1:*").unwrap();
        let address: Endpoint = router.get_last_endpoint().unwrap().unwrap().parse().unwrap();
        let address = address.resolve().unwrap();
        let context = zmq::Context::new();
        for number in 1..500 {
            let early = Connection::open(&context, &address, None, number).unwrap();
            // Some are closed before their handshake, some in it, some after it.
            poll(&mut [early.monitor.as_poll_item(zmq::POLLIN)], i64::try_from(number % 3).unwrap()).unwrap();
        }
        let last = Connection::open(&context, &address, None, 500).unwrap();
        poll(&mut [last.monitor.as_poll_item(zmq::POLLIN)], 20_000).unwrap();
        assert_eq!(last.news().unwrap(), Some(News::Up));
    }
}
