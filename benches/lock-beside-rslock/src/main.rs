//! How long a lock and its release take, beside the crate rslock, on the same servers and in
//! the same run: on 3 and 5 servers, and with one of three stopped.
//!
//! `cargo run --release` in this folder. It needs `redis-server`, and starts its own. Rounds
//! of both alternate, so that what else the machine does meets both; what counts are the
//! ratios.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hornpipe_lock::{Locker, RestartGuard};
use rslock::LockManager;

type Failure = Box<dyn Error>;

const TTL: Duration = Duration::from_secs(10);

/// How often both alternate.
const ROUNDS: u32 = 20;

/// Locks of each in a round, all servers well.
const LOCKS: u32 = 250;

/// The same with one of them stopped: rslock takes more than a second for each.
const LOCKS_BESIDE_A_STOPPED_ONE: u32 = 1;

fn main() -> Result<(), Failure> {
    println!("lock + unlock             ours p50   p99   theirs p50   p99   theirs / ours at p50");
    for count in [1, 3, 5] {
        let servers = Server::start_many(count)?;
        row(&format!("{count} servers"), &compare(&servers, LOCKS, &[])?);
    }
    let servers = Server::start_many(3)?;
    row("3 servers, one stopped", &compare(&servers, LOCKS_BESIDE_A_STOPPED_ONE, &servers[1..2])?);
    Ok(())
}

/// How long each lock and its release took, of ours and theirs.
struct Figures {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

fn compare(servers: &[Server], locks: u32, stopped: &[Server]) -> Result<Figures, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let ours = Locker::builder().redis(urls.clone()).restart_guard(RestartGuard::Off).build()?;
    let theirs = LockManager::new(urls);
    let mut figures = Figures { ours: Vec::new(), theirs: Vec::new() };
    // Connections and scripts are there before anything is measured.
    for _ in 0..3 {
        lock_ours(&ours)?;
        runtime.block_on(lock_theirs(&theirs))?;
    }
    for server in stopped {
        server.signal("STOP")?;
    }
    for _ in 0..ROUNDS {
        for _ in 0..locks {
            figures.ours.push(lock_ours(&ours)?);
        }
        for _ in 0..locks {
            figures.theirs.push(runtime.block_on(lock_theirs(&theirs))?);
        }
    }
    for server in stopped {
        server.signal("CONT")?;
    }
    Ok(figures)
}

/// With a fencing token, which takes two rounds of questions.
fn lock_ours(locker: &Locker) -> Result<Duration, Failure> {
    let began = Instant::now();
    let held = locker.try_lock("ours", TTL)?;
    locker.unlock(&held)?;
    Ok(began.elapsed())
}

async fn lock_theirs(manager: &LockManager) -> Result<Duration, Failure> {
    let began = Instant::now();
    let lock = manager.lock("theirs", TTL).await?;
    manager.unlock(&lock).await;
    Ok(began.elapsed())
}

fn row(what: &str, figures: &Figures) {
    let [ours, ours_late] = [0.5, 0.99].map(|share| quantile(&figures.ours, share));
    let [theirs, theirs_late] = [0.5, 0.99].map(|share| quantile(&figures.theirs, share));
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("{what:24} {ours:>10.1?} {ours_late:>8.1?} {theirs:>10.1?} {theirs_late:>8.1?}   {ratio:.2}");
}

fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    // A place in a list, which is no more than it has.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (last as f64 * share).round() as usize;
    times.get(at.min(last)).copied().unwrap_or_default()
}

/// A server that keeps nothing and goes with this process.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start_many(count: usize) -> Result<Vec<Self>, Failure> {
        (0..count).map(|_| Self::start()).collect()
    }

    fn start() -> Result<Self, Failure> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", std::env::temp_dir().to_str().unwrap_or("/tmp")])
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start redis-server (Debian: redis-server): {error}"))?;
        let server = Self { child, port };
        let end = Instant::now() + Duration::from_secs(20);
        while !server.answers() {
            if Instant::now() > end {
                return Err(format!("redis-server does not answer at port {port}").into());
            }
        }
        Ok(server)
    }

    fn answers(&self) -> bool {
        let mut answer = [0; 5];
        TcpStream::connect(("127.0.0.1", self.port))
            .and_then(|mut stream| {
                stream.write_all(b"PING\r\n")?;
                stream.read_exact(&mut answer)
            })
            .is_ok_and(|()| &answer == b"+PONG")
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(format!("cannot send {name}").into()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
