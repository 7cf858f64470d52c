//! What makes a pool a crew: the brokers that its workers serve, and what it is called.
//! A crew listens on no port, and its requests are other brokers' to keep and to try again.

use std::fmt;
use std::net::SocketAddr;

use super::{Address, Config, ConfigError, External, RawConfig};
use crate::core::DEFAULT_SERVICE;

/// Longer names are for nobody to read.
const NAME_LIMIT: usize = 64;

/// What the command line of a crew says beside a pool's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrewOptions {
    /// The backends of brokers.
    pub connect: Vec<Address>,
    /// What operators call it; absent is `crew-` and the port of the first broker.
    pub name: Option<String>,
    /// What brokers are told that workers of the default service serve.
    pub service: Option<String>,
}

/// Whose requests the workers are for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrewPlan {
    /// The backends of brokers, as libzmq wants them.
    pub brokers: Vec<String>,
    /// What operators call it.
    pub name: String,
    /// The machine that it runs on, for the brokers' operators.
    pub host: String,
    /// What brokers are told that workers of the default service serve, if not theirs.
    pub service: Option<String>,
    /// A broker that another machine may be, or pretend to be.
    pub exposed: Option<String>,
}

/// Why there can be no such crew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrewError {
    /// What is to be connected to is no port of one machine.
    NoPlace {
        /// As it was given.
        address: Address,
    },
    /// The same broker would be served twice.
    Twice {
        /// As it was given.
        address: Address,
    },
    /// Requests would come over a network, and no flag says that this is meant.
    Exposed {
        /// As it was given.
        address: Address,
    },
    /// A name that cannot be a file's, or a service's.
    BadName {
        /// The option.
        option: &'static str,
        /// Its value.
        name: String,
    },
    /// What is a broker's to decide.
    OfBrokers {
        /// The option.
        option: &'static str,
    },
}

impl fmt::Display for CrewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace { address } => {
                write!(
                    f,
                    "--connect {address}: name one machine and the backend port of its broker, as in tcp://broker:6661"
                )
            }
            Self::Twice { address } => write!(f, "--connect names {address} twice"),
            Self::Exposed { address } => write!(
                f,
                "--connect {address} may be another machine: whoever is between can read and change requests \
                 and replies, and whoever answers there is believed. If the network is to be trusted, add --insecure"
            ),
            Self::BadName { option, name } => write!(
                f,
                "{option} {name:?}: a name has 1 to {NAME_LIMIT} letters, digits, dots, dashes and underscores, \
                 and begins with a letter"
            ),
            Self::OfBrokers { option } => {
                write!(
                    f,
                    "{option} is for the broker to know, which keeps the requests: give it to hornpipe serve"
                )
            }
        }
    }
}

impl std::error::Error for CrewError {}

impl CrewOptions {
    /// Makes a crew of what would be a broker.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        config.crew = Some(self.plan(config.external)?);
        for service in std::iter::once(&mut config.default).chain(&mut config.further) {
            let core = &mut service.core;
            core.lends_workers = true;
            // What a broker no longer waits for keeps a worker from what it does.
            core.cancel_on_disconnect = true;
            // No request ever waits here, so that its waiting could say nothing.
            core.autoscale = None;
        }
        Ok(())
    }

    fn plan(&self, external: External) -> Result<CrewPlan, CrewError> {
        let mut exposed = None;
        for (number, address) in self.connect.iter().enumerate() {
            if !address.is_a_place() {
                return Err(CrewError::NoPlace { address: address.clone() });
            }
            if self.connect.iter().take(number).any(|other| other.endpoint() == address.endpoint()) {
                return Err(CrewError::Twice { address: address.clone() });
            }
            if !address.is_loopback() {
                if external != External::Anybody {
                    return Err(CrewError::Exposed { address: address.clone() });
                }
                exposed.get_or_insert_with(|| address.endpoint());
            }
        }
        let port = self.connect.first().map(Address::port).unwrap_or_default();
        let name = self.name.clone().unwrap_or_else(|| format!("crew-{port}"));
        for (option, name) in [("--name", Some(&name)), ("--service", self.service.as_ref())] {
            if let Some(name) = name.filter(|name| !is_name(name)) {
                return Err(CrewError::BadName { option, name: name.clone() });
            }
        }
        Ok(CrewPlan {
            brokers: self.connect.iter().map(Address::endpoint).collect(),
            name,
            host: host(),
            service: self.service.clone().filter(|service| *service != DEFAULT_SERVICE),
            exposed,
        })
    }
}

/// Whether it can name a crew where a broker is named by its port.
pub fn is_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.len() <= NAME_LIMIT
        && name.chars().all(fits)
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(NAME_LIMIT).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

impl Config {
    /// What its sockets are named after: the frontend's port, or the crew's name.
    pub fn name(&self, frontend: Option<SocketAddr>) -> String {
        match &self.crew {
            Some(crew) => crew.name.clone(),
            None => frontend.unwrap_or(self.frontend).port().to_string(),
        }
    }
}

impl RawConfig {
    /// The first option that means nothing to a crew: a flag that does nothing misleads.
    ///
    /// # Errors
    /// Which it is.
    pub fn check_for_crew(&self) -> Result<(), CrewError> {
        let given = [
            (self.no_external.is_some(), "--no-external"),
            (self.no_autoscale.is_some(), "--no-autoscale"),
            (self.scale_up_wait.is_some(), "--scale-up-wait"),
            (self.scale_down_after.is_some(), "--scale-down-after"),
            (self.queue_timeout.is_some(), "--queue-timeout"),
            (self.affinity_wait.is_some(), "--affinity-wait"),
            (self.cancel_on_disconnect.is_some(), "--cancel-on-disconnect"),
            (self.attempts.is_some(), "--attempts"),
            (self.queue.is_some(), "--queue"),
            (self.client_queue.is_some(), "--client-queue"),
            (self.client_queue_bytes.is_some(), "--client-queue-bytes"),
            (self.key_window.is_some(), "--key-window"),
            (self.keys.is_some(), "--keys"),
            (self.key_bytes.is_some(), "--key-bytes"),
            (self.plain_errors.is_some(), "--plain-errors"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(CrewError::OfBrokers { option }),
            None => Ok(()),
        }
    }

    /// Those options, without dashes.
    pub const OF_BROKERS: [&str; 15] = [
        "no-external",
        "no-autoscale",
        "scale-up-wait",
        "scale-down-after",
        "queue-timeout",
        "affinity-wait",
        "cancel-on-disconnect",
        "attempts",
        "queue",
        "client-queue",
        "client-queue-bytes",
        "key-window",
        "keys",
        "key-bytes",
        "plain-errors",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connect: &[&str], external: External) -> Result<CrewPlan, CrewError> {
        let connect = connect.iter().map(|address| address.parse().unwrap()).collect();
        CrewOptions { connect, ..CrewOptions::default() }.plan(external)
    }

    #[test]
    fn another_machine_must_be_meant() {
        for here in ["6661", "tcp://127.0.0.1:6661", "localhost:6661", "[::1]:6661"] {
            assert_eq!(plan(&[here], External::Loopback).unwrap().exposed, None, "{here}");
        }
        for there in ["tcp://broker:6661", "192.0.2.1:6661"] {
            let refused = plan(&["6661", there], External::Loopback).unwrap_err();
            assert!(matches!(refused, CrewError::Exposed { .. }), "{there}: {refused}");
            assert!(refused.to_string().contains("--insecure"), "{refused}");
            assert!(plan(&[there], External::Anybody).unwrap().exposed.is_some(), "{there}");
        }
    }

    #[test]
    fn a_crew_has_a_name_and_its_brokers_endpoints() {
        let plan = plan(&["tcp://broker:6661", "[::1]:7"], External::Anybody).unwrap();
        assert_eq!(plan.name, "crew-6661");
        assert_eq!(plan.brokers, ["tcp://broker:6661", "tcp://[::1]:7"]);
        assert!(!plan.host.is_empty());
        let named = |name: &str| {
            let connect = vec!["6661".parse().unwrap()];
            CrewOptions { connect, name: Some(name.into()), service: None }.plan(External::Loopback)
        };
        assert_eq!(named("web-2").unwrap().name, "web-2");
        for bad in ["", "6661", "../x", "a b"] {
            assert!(matches!(named(bad), Err(CrewError::BadName { .. })), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_port_of_a_machine_cannot_be_connected_to() {
        for nowhere in ["0", "*:6661", "0.0.0.0:1", "broker:0"] {
            let refused = plan(&[nowhere], External::Anybody);
            assert!(matches!(refused, Err(CrewError::NoPlace { .. })), "{nowhere}: {refused:?}");
        }
        let twice = plan(&["6661", "127.0.0.1:6661"], External::Loopback);
        assert!(matches!(twice, Err(CrewError::Twice { .. })), "{twice:?}");
    }

    #[test]
    fn what_a_broker_decides_is_no_option_of_a_crew() {
        assert_eq!(RawConfig::default().check_for_crew(), Ok(()));
        let raw = RawConfig { attempts: Some(1), ..RawConfig::default() };
        assert_eq!(raw.check_for_crew(), Err(CrewError::OfBrokers { option: "--attempts" }));
    }
}
