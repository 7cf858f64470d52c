//! Kills routers, and measures how soon the next request is answered.

use std::time::Duration;

use nix::sys::signal::Signal::SIGKILL;

use super::broker::Broker;
use super::client::Client;
use super::processes::send;
use super::wait::{DEADLINE, Deadline, let_pass, until};

/// Five deaths within 10 s end the broker.
const APART: Duration = Duration::from_millis(2600);

/// How long a REQ client waits before it asks again over another connection.
const IMPATIENCE_MS: i32 = 20;

/// From each kill until a request was answered that was sent after it.
#[derive(Debug, Clone, Default)]
pub struct RouterKills {
    /// To a REQ socket that asks again after 20 ms.
    pub plain: Vec<Duration>,
    /// To our own client, which notices by itself.
    pub own: Vec<Duration>,
}

impl RouterKills {
    /// Kills so many routers of a broker with demo workers, whose workers must all survive.
    ///
    /// # Panics
    /// If a request has no answer within the harness's deadline, or a worker ends.
    pub fn play(broker: &Broker, rounds: usize) -> Self {
        let mut kills = Self::default();
        let workers = broker.workers();
        let own = hornpipe_client::Client::builder().endpoint(broker.frontend()).tries(100).build().unwrap();
        for _round in 0..rounds {
            let apart = Deadline::after(APART);
            own.ask("echo before").unwrap();
            let router = broker.router_pid();
            let since = Deadline::after(DEADLINE);
            send(router, SIGKILL);
            std::thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    assert_eq!(own.ask("echo again").unwrap().bytes(), b"again");
                    since.elapsed()
                });
                until("a plain client is answered", DEADLINE, || ask_once(broker));
                kills.plain.push(since.elapsed());
                kills.own.push(asking.join().unwrap());
            });
            broker.wait_until("all are adopted", |report| report.pool.ready as usize == workers.len());
            assert_eq!(broker.workers(), workers);
            let_pass(apart.left());
        }
        kills
    }
}

fn ask_once(broker: &Broker) -> Option<()> {
    let client =
        Client::connect(zmq::REQ, broker.frontend(), |socket| socket.set_rcvtimeo(IMPATIENCE_MS).unwrap());
    client.send(&[b"echo again"]);
    let reply = client.socket().recv_bytes(0).ok()?;
    (reply == b"again").then_some(())
}
