//! The one place where the router waits: for whatever comes first.

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::error;

use super::agent::Agent;
use super::{Router, clock};

/// What there is to read.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each source, and any of them may be set")]
pub(super) struct Ready {
    pub(super) parent: bool,
    pub(super) crew: bool,
    pub(super) backend: bool,
    pub(super) frontend: bool,
    pub(super) uplinks: bool,
    pub(super) watches: bool,
    pub(super) memory_watch: bool,
    pub(super) control: bool,
}

/// Which of them a descriptor belongs to.
type Source = fn(&mut Ready) -> &mut bool;

impl Router {
    /// Waits until there is something to read, or something is due.
    ///
    /// A socket of libzmq, as a crew's agent has them, has a descriptor that becomes readable when libzmq's thread has
    /// something for it to hear. Whatever is done with the socket may have heard that already, and the descriptor is silent again: see
    /// `zmq_getsockopt`(3), `ZMQ_FD`. So nobody sleeps before such a socket was read to its end once more.
    pub(super) fn wait(&mut self) -> Ready {
        let reads_clients = !self.is_handing_over();
        let mut ready = Ready {
            crew: self.sockets.crew.is_stirred(),
            frontend: reads_clients && self.sockets.frontend.is_stirred(),
            backend: self.sockets.backend.is_stirred(),
            uplinks: self.agent.as_ref().is_some_and(Agent::is_stirred),
            ..Ready::default()
        };
        let has_work = ready.crew || ready.frontend || ready.backend || ready.uplinks;
        let timeout = if has_work { Duration::ZERO } else { self.time_to_next_deadline() };
        let mut sources: Vec<Source> = Vec::new();
        let mut items: Vec<PollFd<'_>> = Vec::new();
        let mut watch = |descriptor, events, source: Source| {
            items.push(PollFd::new(descriptor, events));
            sources.push(source);
        };
        let either = PollFlags::POLLIN | PollFlags::POLLOUT;
        let from_parent = if self.parent.wants_to_write() { either } else { PollFlags::POLLIN };
        watch(self.parent.descriptor(), from_parent, |ready| &mut ready.parent);
        watch(self.sockets.crew.descriptor(), PollFlags::POLLIN, |ready| &mut ready.crew);
        watch(self.sockets.backend.descriptor(), PollFlags::POLLIN, |ready| &mut ready.backend);
        if reads_clients {
            watch(self.sockets.frontend.descriptor(), PollFlags::POLLIN, |ready| &mut ready.frontend);
        }
        watch(self.memory_watch.descriptor(), PollFlags::POLLIN, |ready| &mut ready.memory_watch);
        for descriptor in self.agent.iter().flat_map(Agent::descriptors) {
            watch(descriptor, PollFlags::POLLIN, |ready| &mut ready.uplinks);
        }
        for descriptor in self.watches.descriptors() {
            watch(descriptor, PollFlags::POLLIN, |ready| &mut ready.watches);
        }
        for (descriptor, wants_to_write) in self.sockets.control.descriptors() {
            let events = if wants_to_write { either } else { PollFlags::POLLIN };
            watch(descriptor, events, |ready| &mut ready.control);
        }
        // Rounded up, so that nothing is woken too early and spins.
        let milliseconds = timeout.as_micros().div_ceil(1000);
        let limit = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        let outcome = poll(&mut items, limit);
        clock::after_a_wait(Duration::from_millis(limit.as_millis().unwrap_or(u32::MAX).into()));
        match outcome {
            Ok(_count) => {
                for (item, source) in items.iter().zip(sources) {
                    *source(&mut ready) |= item.any().unwrap_or_default();
                }
            }
            Err(Errno::EINTR) => (),
            Err(error) => {
                error!(%error, "cannot poll");
                self.exit_code = Some(1);
            }
        }
        ready
    }

    fn time_to_next_deadline(&self) -> Duration {
        let now = clock::now();
        let deadlines = [
            self.core.next_deadline(),
            self.clients.next_deadline(),
            self.workers.next_deadline(),
            self.sockets.next_deadline(),
            Some(self.room.next_deadline()),
            self.watches.next_deadline(),
            self.events_deadline(),
            self.pulse.next_deadline(),
        ];
        deadlines.into_iter().flatten().min().map_or(Duration::MAX, |deadline| now.until(deadline))
    }
}
