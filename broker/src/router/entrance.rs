//! Where newcomers come in at a door: as many as there is room for, and the others wait in the kernel's queue.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::clock;
use super::sockets::Door;
use super::wire::Origin;
use crate::core::Timestamp;

/// The number that the listener has among what is watched.
pub(super) const LISTENER: u64 = 0;

/// Without descriptors nobody is accepted for so long.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Entrance {
    door: Door,
    /// A crew's agent has none at two of its doors, and nobody ever comes by them.
    listener: Option<OwnedFd>,
    /// So many more may come in.
    vacancies: usize,
    /// Nobody may any more: another router follows.
    is_closed: bool,
    /// There was no descriptor for a connection: when it is tried again.
    accept_at: Option<Timestamp>,
    /// That was told, and nobody could be accepted since.
    has_complained: bool,
    /// Whether the kernel tells of newcomers.
    is_watched: bool,
}

impl Entrance {
    /// Has the kernel tell of those who come to this listener.
    pub(super) fn open(door: Door, listener: Option<OwnedFd>, epoll: &OwnedFd) -> Result<Self, Errno> {
        if let Some(listener) = &listener {
            epoll::add(epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        }
        Ok(Self {
            door,
            listener,
            vacancies: usize::MAX,
            is_closed: false,
            accept_at: None,
            has_complained: false,
            is_watched: true,
        })
    }

    /// The next one who is let in.
    pub(super) fn accept(&mut self) -> Option<(OwnedFd, Origin)> {
        loop {
            let listener = self.listener.as_ref().filter(|_listener| self.vacancies != 0)?;
            match acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((socket, address)) => {
                    self.has_complained = false;
                    self.vacancies -= 1;
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    let origin = match (self.door, address) {
                        (Door::Crew, _) => getsockopt(&socket, sockopt::PeerCredentials)
                            .map_or(Origin::Unknown, |peer| Origin::Process(peer.pid())),
                        (_, Some(address)) => Origin::Address(address.ip().to_canonical()),
                        (_, None) => Origin::Unknown,
                    };
                    return Some((socket, origin));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => (),
                Err(Errno::AGAIN) => return None,
                Err(error) => {
                    if !std::mem::replace(&mut self.has_complained, true) {
                        tracing::warn!(door = %self.door, %error, "connections cannot be accepted yet");
                    }
                    self.accept_at = Some(clock::now().after(PAUSE));
                    return None;
                }
            }
        }
    }

    /// So many more may come in.
    pub(super) fn admit(&mut self, vacancies: usize) {
        self.vacancies = vacancies;
    }

    /// Nobody may any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether newcomers are kept waiting for want of room.
    pub(super) fn is_crowded(&self) -> bool {
        self.vacancies == 0
    }

    /// When it is tried again what could not be done for want of descriptors.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.accept_at
    }

    /// Has the kernel tell of newcomers if they may come in now, and not again and again if they may not.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, now: Timestamp) {
        self.accept_at.take_if(|time| *time <= now);
        let may_come = !self.is_closed && self.vacancies != 0 && self.accept_at.is_none();
        let Some(listener) = self.listener.as_ref().filter(|_listener| may_come != self.is_watched) else {
            return;
        };
        self.is_watched = may_come;
        let flags = if may_come { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        if let Err(error) = epoll::modify(epoll, listener, epoll::EventData::new_u64(LISTENER), flags) {
            tracing::error!(door = %self.door, %error, "newcomers cannot be watched for");
        }
    }
}
