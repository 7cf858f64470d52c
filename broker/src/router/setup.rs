//! What a router is given, and why there may be none.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use super::sockets::Door;
use crate::config::{External, PlainErrors};
use crate::core::{ServiceId, Settings};
use crate::link::{self, Link};

/// What the operator asked for, as far as it concerns talking.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) default: ServiceSetup,
    /// In this order they are counted, from 1.
    pub(crate) further: Vec<ServiceSetup>,
    pub(crate) external: External,
    pub(crate) plain_errors: PlainErrors,
    /// The users who may order something.
    pub(crate) operators: Vec<u32>,
    /// For `status`: where clients and workers connect.
    pub(crate) frontend: String,
    pub(crate) backend: String,
    /// Whose requests its workers are for, if it is the agent of a crew.
    pub(crate) crew: Option<CrewSetup>,
}

/// What makes a router the agent of a crew: it has no ports, and connects to brokers.
#[derive(Debug, Clone)]
pub(crate) struct CrewSetup {
    /// Their backends.
    pub(crate) brokers: Vec<String>,
    /// This machine, as brokers are to show it.
    pub(crate) host: String,
    /// What workers of the default service serve there, if not the default one.
    pub(crate) service: Option<String>,
}

/// The same of one service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceSetup {
    pub(crate) settings: Settings,
    /// What the workers of a reload are asked first.
    pub(crate) probe: Option<Vec<u8>>,
    /// Paths whose change is a reload.
    pub(crate) reload_on: Vec<PathBuf>,
    /// Said when workers cannot start and none of them has sent a message.
    pub(crate) silent_workers_hint: &'static str,
}

impl Setup {
    pub(super) fn services(&self) -> impl Iterator<Item = (ServiceId, &ServiceSetup)> {
        (0..).map(ServiceId).zip(std::iter::once(&self.default).chain(&self.further))
    }

    pub(super) fn service_named_mut(&mut self, name: &str) -> Option<&mut ServiceSetup> {
        let mut services = std::iter::once(&mut self.default).chain(&mut self.further);
        services.find(|service| *service.settings.service == *name)
    }

    /// `None` if workers from elsewhere have brought it.
    pub(super) fn service(&self, id: ServiceId) -> Option<&ServiceSetup> {
        self.services().find(|(other, _)| *other == id).map(|(_, service)| service)
    }
}

/// What one life of the router begins with.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) link: Link,
    /// 1 for the first router of a parent.
    pub(crate) life: u32,
    pub(crate) frontend: Option<OwnedFd>,
    pub(crate) backend: Option<OwnedFd>,
    pub(crate) crew: OwnedFd,
    pub(crate) control: OwnedFd,
    /// The same for those who may only read.
    pub(crate) control_read: Option<OwnedFd>,
    /// Where keys are written down, for the routers that follow.
    pub(crate) journal: Option<[OwnedFd; 2]>,
    /// Workers that an earlier router started.
    pub(crate) workers: Vec<LiveWorker>,
    /// The last filling of each slot so far, which may be beyond what `memory` says.
    pub(crate) used: Vec<link::Place>,
    /// What an earlier router left behind.
    pub(crate) memory: Option<Vec<u8>>,
    /// The same of services other than the default one.
    pub(crate) named_memories: BTreeMap<String, Vec<u8>>,
    pub(crate) parent_pid: i32,
    /// When the parent started, on the monotonic clock.
    pub(crate) parent_started: Duration,
}

/// A worker that an earlier router started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveWorker {
    pub(crate) place: link::Place,
    pub(crate) generation: u32,
    pub(crate) pid: i32,
    /// On the monotonic clock.
    pub(crate) started: Duration,
}

/// Why there is no router.
#[derive(Debug)]
pub(super) enum RouterError {
    /// A descriptor the parent handed over is not what it should be.
    Listener { door: Door, why: &'static str },
    /// A call of libzmq failed.
    Socket { door: Door, error: Errno },
    /// There can be no connection to this broker.
    Uplink { endpoint: String, error: Errno },
    /// No descriptor to be woken by.
    NoWakeUp(rustix::io::Errno),
    /// The kernel gave no random bytes.
    NoRandomness(getrandom::Error),
}

impl std::fmt::Display for RouterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listener { door, why } => write!(f, "the {door} listener cannot be used: {why}"),
            Self::Socket { door, error } => write!(f, "the {door} socket failed: {error}"),
            Self::Uplink { endpoint, error } => write!(f, "cannot connect to {endpoint}: {error}"),
            Self::NoWakeUp(error) => write!(f, "no eventfd from the kernel: {error}"),
            Self::NoRandomness(error) => write!(f, "no random bytes from the kernel: {error}"),
        }
    }
}

impl std::error::Error for RouterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { error, .. } | Self::Uplink { error, .. } => Some(error),
            Self::NoWakeUp(error) => Some(error),
            Self::Listener { .. } | Self::NoRandomness(_) => None,
        }
    }
}
