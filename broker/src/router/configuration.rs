//! The settings that can change while a router runs, as bytes: made where they are read
//! again, understood here, and carried by a parent that knows nothing of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ServiceSetup, Setup};
use crate::config::PlainErrors;
use crate::core::{AutoscaleRules, Settings, Slot, SpareRules};
use crate::logging::Level;

/// What has changed of one service.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) settings: Settings,
    pub(super) probe: Option<Vec<u8>>,
    pub(super) plain_errors: PlainErrors,
    pub(super) level: Option<Level>,
}

macro_rules! packet {
    ($($field:ident: $type:ty,)+) => {
        /// One to one the core's, whose types are not serialized.
        #[derive(Debug, Serialize, Deserialize)]
        struct Packet {
            service: String,
            $($field: $type,)+
            autoscale: Option<(Duration, Duration)>,
            spares: Option<(u32, u32, Duration)>,
            probe: Option<Vec<u8>>,
            silent: bool,
            level: String,
        }

        impl Packet {
            fn of(service: &ServiceSetup, setup: &Setup, level: Level) -> Self {
                let settings = service.settings.clone();
                Self {
                    service: settings.service.as_ref().to_owned(),
                    $($field: settings.$field,)+
                    autoscale: settings.autoscale.map(|rules| (rules.up_wait, rules.down_after)),
                    spares: settings.spares.map(|rules| (rules.min, rules.max, rules.check)),
                    probe: service.probe.clone(),
                    silent: setup.plain_errors == PlainErrors::Silent,
                    level: level.as_str().to_owned(),
                }
            }

            fn open(self) -> Configuration {
                let autoscale = self.autoscale.map(|(up_wait, down_after)| AutoscaleRules { up_wait, down_after });
                let spares = self.spares.map(|(min, max, check)| SpareRules { min, max, check });
                Configuration {
                    settings: Settings {
                        service: self.service.into(),
                        // Whose slots are where is not for the configuration to say.
                        first_slot: Slot(0),
                        $($field: self.$field,)+
                        autoscale,
                        spares,
                    },
                    probe: self.probe,
                    plain_errors: if self.silent { PlainErrors::Silent } else { PlainErrors::Text },
                    level: self.level.parse().ok(),
                }
            }
        }
    };
}

packet! {
    workers: u32,
    min: u32,
    max: u32,
    attempts: u32,
    timeout: Option<Duration>,
    queue_timeout: Option<Duration>,
    boot_timeout: Duration,
    cancel_grace: Duration,
    term_grace: Duration,
    backlog_limit: usize,
    held_bytes_limit: u64,
    body_limit: u64,
    drain: Duration,
    max_requests: Option<u64>,
    quarantine_limit: usize,
    quarantine_bytes_limit: u64,
    max_age: Option<Duration>,
    idle_timeout: Option<Duration>,
    max_memory: Option<u64>,
    max_memory_hard: Option<u64>,
    fresh: bool,
    surge: u32,
    probe_timeout: Option<Duration>,
    forks_after_early_deaths: usize,
}

/// What a router is told that this holds from here on, service by service.
pub(crate) fn encode_all(setup: &Setup, level: Level) -> Vec<Vec<u8>> {
    let encode = |service| rmp_serde::to_vec_named(&Packet::of(service, setup, level)).unwrap_or_default();
    setup.services().map(|(_id, service)| encode(service)).collect()
}

/// `None` for bytes of another version: the next router knows the settings by its birth.
pub(super) fn decode(bytes: &[u8]) -> Option<Configuration> {
    rmp_serde::from_slice(bytes).ok().map(Packet::open)
}
