//! A client that a fork has copied. Alone in its program: a child of a process
//! with other tests' threads could find any lock held.

#![expect(unsafe_code, reason = "fork is the thing tested")]

mod common;

use common::{PATIENCE, Server, read_request, reply};
use hornpipe_client::{AskError, Client};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

#[test]
fn a_forked_copy_refuses_drops_and_leaves_the_original_alone() {
    let server = Server::start(|peer, frames| {
        let (meta, body) = read_request(frames);
        vec![reply(peer, &meta.id, body)]
    });
    let client = Client::builder().endpoint(&server.endpoint).timeout(PATIENCE).build().unwrap();
    client.ask("before").unwrap();

    // SAFETY: other threads exist, so the child may only do what needs none of
    // their locks: it allocates (glibc keeps malloc usable after a fork),
    // compares pids, and leaves by `_exit`.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // A drop that waits for libzmq's threads ends here, by SIGALRM.
            nix::unistd::alarm::set(5);
            let refused = client.ask("x") == Err(AskError::Forked);
            drop(client);
            // SAFETY: `_exit` may be called anywhere.
            unsafe { nix::libc::_exit(i32::from(!refused)) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!(client.ask("after").unwrap().bytes(), b"after");
}
