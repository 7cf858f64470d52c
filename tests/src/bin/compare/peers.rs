//! The others: each a process of this very program, on the same libzmq.

use std::collections::VecDeque;
use std::io::Write;

use crate::Result;

fn endpoint(socket: &zmq::Socket) -> Result<String> {
    Ok(socket.get_last_endpoint()?.map_err(|_bytes| zmq::Error::EINVAL)?)
}

fn say(frontend: &zmq::Socket, backend: &zmq::Socket) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", endpoint(frontend)?, endpoint(backend)?)?;
    Ok(out.flush()?)
}

/// What libzmq brings along: a ROUTER and a DEALER, joined by libzmq itself.
pub(super) fn proxy() -> Result<()> {
    let context = zmq::Context::new();
    let (frontend, backend) = (context.socket(zmq::ROUTER)?, context.socket(zmq::DEALER)?);
    for socket in [&frontend, &backend] {
        socket.bind("tcp://127.0.0.1:*")?;
    }
    say(&frontend, &backend)?;
    Ok(zmq::proxy(&frontend, &backend)?)
}

/// No broker at all: a REP socket that echoes at the clients' own port. What a hop adds is what
/// is more than this.
pub(super) fn direct() -> Result<()> {
    let socket = zmq::Context::new().socket(zmq::REP)?;
    socket.bind("tcp://127.0.0.1:*")?;
    say(&socket, &socket)?;
    echo(&socket)
}

/// Its worker: a REP socket that echoes.
pub(super) fn proxy_worker(backend: &str) -> Result<()> {
    let socket = zmq::Context::new().socket(zmq::REP)?;
    socket.connect(backend)?;
    echo(&socket)
}

fn echo(socket: &zmq::Socket) -> Result<()> {
    loop {
        let message = socket.recv_msg(0)?;
        socket.send(message, 0)?;
    }
}

/// A least-recently-used broker of the kind that the Guide describes, and nothing more: two
/// ROUTERs, a queue of idle workers, one request each, clients read only while a worker is idle.
pub(super) fn lru() -> Result<()> {
    let context = zmq::Context::new();
    let (frontend, backend) = (context.socket(zmq::ROUTER)?, context.socket(zmq::ROUTER)?);
    for socket in [&frontend, &backend] {
        socket.set_sndhwm(0)?;
        socket.set_rcvhwm(0)?;
        socket.bind("tcp://127.0.0.1:*")?;
    }
    say(&frontend, &backend)?;
    let mut idle: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        let mut items = vec![backend.as_poll_item(zmq::POLLIN)];
        if !idle.is_empty() {
            items.push(frontend.as_poll_item(zmq::POLLIN));
        }
        zmq::poll(&mut items, -1)?;
        let ready: Vec<bool> = items.iter().map(zmq::PollItem::is_readable).collect();
        if ready.first() == Some(&true) {
            // worker, "", and either the word that it is there, or client, "", reply.
            let mut frames = backend.recv_multipart(0)?;
            let rest = frames.split_off(2.min(frames.len()));
            idle.extend(frames.into_iter().next());
            if rest.len() >= 3 {
                frontend.send_multipart(rest, 0)?;
            }
        }
        if ready.get(1) == Some(&true)
            && let Some(worker) = idle.pop_front()
        {
            let request = frontend.recv_multipart(0)?;
            backend.send_multipart([worker, Vec::new()].into_iter().chain(request), 0)?;
        }
    }
}

/// Its worker: a REQ socket that echoes.
pub(super) fn lru_worker(backend: &str) -> Result<()> {
    let socket = zmq::Context::new().socket(zmq::REQ)?;
    socket.connect(backend)?;
    socket.send("READY", 0)?;
    loop {
        let job = socket.recv_multipart(0)?;
        socket.send_multipart(job, 0)?;
    }
}
