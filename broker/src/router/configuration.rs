//! The settings that can change while a router runs, as bytes: made where they are read
//! again, understood here, and carried by a parent that knows nothing of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::error;

use super::{Router, ServiceSetup, Setup, memory_limit};
use crate::config::PlainErrors;
use crate::core::{AutoscaleRules, Event, Settings, Slot, SpareRules};
use crate::logging::{self, Level};

/// What holds of one service from here on.
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
    part_timeout: Option<Duration>,
    affinity_wait: Duration,
    prefetch: Option<Duration>,
    client_backlog_limit: Option<usize>,
    client_bytes_limit: Option<u64>,
    cancel_on_disconnect: bool,
    key_window: Duration,
    keys_limit: usize,
    key_bytes_limit: u64,
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
    tell_ends: bool,
    probe_timeout: Option<Duration>,
    lends_workers: bool,
    forks_after_early_deaths: usize,
}

/// What a router is told that this holds from here on, service by service.
pub(crate) fn encode_all(setup: &Setup, level: Level) -> Vec<Vec<u8>> {
    let encode = |service| rmp_serde::to_vec_named(&Packet::of(service, setup, level)).unwrap_or_default();
    setup.services().map(|(_id, service)| encode(service)).collect()
}

impl Router {
    /// Other settings of one service hold from here on.
    pub(super) fn configure(&mut self, bytes: &[u8]) {
        let Some(Configuration { settings, probe, plain_errors, level }) = decode(bytes) else {
            return error!("the parent's word on the settings cannot be read: those of before stay");
        };
        if let Some(level) = level {
            logging::set_level(level);
        }
        self.clients.set_plain_errors(plain_errors);
        if let Some(setup) = self.setup.service_named_mut(&settings.service) {
            setup.probe = probe;
            setup.settings = settings.clone();
        }
        memory_limit::apply(&self.setup);
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

    fn setup(settings: Settings, probe: &[u8], plain_errors: PlainErrors) -> Setup {
        let (probe, reload_on, silent_workers_hint) = (Some(probe.to_vec()), Vec::new(), "");
        Setup {
            default: ServiceSetup { settings, probe, reload_on, silent_workers_hint },
            further: Vec::new(),
            external: External::Loopback,
            plain_errors,
            operators: Vec::new(),
            frontend: String::new(),
            backend: String::new(),
            crew: None,
        }
    }

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
        let mut setup = setup(settings.clone(), &[0, 255], PlainErrors::Silent);
        let images = Settings { service: "images".into(), ..Settings::default() };
        setup.further.push(ServiceSetup { settings: images.clone(), probe: None, ..setup.default.clone() });
        let of = |settings, probe| {
            let (plain_errors, level) = (PlainErrors::Silent, Some(Level::Debug));
            Some(Configuration { settings, probe, plain_errors, level })
        };
        let understood: Vec<_> = encode_all(&setup, Level::Debug).iter().map(|one| decode(one)).collect();
        assert_eq!(understood, [of(settings, Some(vec![0, 255])), of(images, None)]);
        assert_eq!(decode(b"nonsense"), None);
    }

    #[test]
    fn the_largest_probe_fits_into_a_packet() {
        let setup = setup(Settings::default(), &[255; 8 * 1024], PlainErrors::Text);
        for settings in encode_all(&setup, Level::Info) {
            let packet = rmp_serde::to_vec(&crate::link::ToRouter::Configured { settings }).unwrap();
            assert!(packet.len() < crate::link::PACKET_LIMIT, "{}", packet.len());
        }
    }
}
