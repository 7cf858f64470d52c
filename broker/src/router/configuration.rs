//! The settings that can change while a router runs, as bytes: made where they are read
//! again, understood here, and carried by a parent that knows nothing of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Router, Setup, memory_limit};
use crate::config::PlainErrors;
use crate::core::{AutoscaleRules, Event, Settings, SpareRules};
use crate::logging::{self, Level};

/// What holds from here on.
#[derive(Debug, PartialEq, Eq)]
struct Configuration {
    settings: Settings,
    probe: Option<Vec<u8>>,
    plain_errors: PlainErrors,
    level: Option<Level>,
}

macro_rules! packet {
    ($($field:ident: $type:ty,)+) => {
        /// One to one the core's, whose types are not serialized.
        #[derive(Debug, Serialize, Deserialize)]
        struct Packet {
            $($field: $type,)+
            autoscale: Option<(Duration, Duration)>,
            spares: Option<(u32, u32, Duration)>,
            probe: Option<Vec<u8>>,
            silent: bool,
            level: String,
        }

        impl Packet {
            fn of(setup: &Setup, level: Level) -> Self {
                let settings = setup.settings.clone();
                Self {
                    $($field: settings.$field,)+
                    autoscale: settings.autoscale.map(|rules| (rules.up_wait, rules.down_after)),
                    spares: settings.spares.map(|rules| (rules.min, rules.max, rules.check)),
                    probe: setup.probe.clone(),
                    silent: setup.plain_errors == PlainErrors::Silent,
                    level: level.as_str().to_owned(),
                }
            }

            fn open(self) -> Configuration {
                let autoscale = self.autoscale.map(|(up_wait, down_after)| AutoscaleRules { up_wait, down_after });
                let spares = self.spares.map(|(min, max, check)| SpareRules { min, max, check });
                Configuration {
                    settings: Settings { $($field: self.$field,)+ autoscale, spares },
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

/// What a router is told that this holds from here on.
pub(crate) fn encode(setup: &Setup, level: Level) -> Vec<u8> {
    rmp_serde::to_vec_named(&Packet::of(setup, level)).unwrap_or_default()
}

impl Router {
    /// Other settings hold from here on.
    pub(super) fn configure(&mut self, bytes: &[u8]) {
        let Some(Configuration { settings, probe, plain_errors, level }) = decode(bytes) else {
            return error!("the parent's word on the settings cannot be read: those of before stay");
        };
        if let Some(level) = level {
            logging::set_level(level);
        }
        self.clients.set_plain_errors(plain_errors);
        self.setup.probe = probe;
        self.setup.settings = settings.clone();
        memory_limit::apply(&settings);
        self.pending.push_back(Event::Configure { settings: Box::new(settings) });
    }
}

/// `None` for bytes of another version: the next router knows the settings by its birth.
fn decode(bytes: &[u8]) -> Option<Configuration> {
    rmp_serde::from_slice(bytes).ok().map(Packet::open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::External;

    #[test]
    fn what_is_encoded_is_understood() {
        let settings = Settings {
            workers: 3,
            timeout: Some(Duration::from_millis(1500)),
            autoscale: Some(AutoscaleRules {
                up_wait: Duration::from_millis(5),
                down_after: Duration::from_secs(9),
            }),
            spares: Some(SpareRules { min: 1, max: u32::MAX, check: Duration::from_secs(2) }),
            ..Settings::default()
        };
        let setup = Setup {
            settings: settings.clone(),
            external: External::Loopback,
            plain_errors: PlainErrors::Silent,
            probe: Some(vec![0, 255]),
            reload_on: Vec::new(),
            frontend: String::new(),
            backend: String::new(),
            silent_workers_hint: "",
        };
        let expected = Configuration {
            settings,
            probe: Some(vec![0, 255]),
            plain_errors: PlainErrors::Silent,
            level: Some(Level::Debug),
        };
        assert_eq!(decode(&encode(&setup, Level::Debug)), Some(expected));
        assert_eq!(decode(b"nonsense"), None);
    }

    #[test]
    fn the_largest_probe_fits_into_a_packet() {
        let probe = vec![255_u8; 8 * 1024];
        let setup = Setup {
            settings: Settings::default(),
            external: External::Loopback,
            plain_errors: PlainErrors::Text,
            probe: Some(probe),
            reload_on: Vec::new(),
            frontend: String::new(),
            backend: String::new(),
            silent_workers_hint: "",
        };
        let settings = encode(&setup, Level::Info);
        let packet = rmp_serde::to_vec(&crate::link::ToRouter::Configured { settings }).unwrap();
        assert!(packet.len() < crate::link::PACKET_LIMIT, "{}", packet.len());
    }
}
