//! Settings that were read again, beside those in force: what is different, what of it holds
//! from here on, and what needs more than a HUP.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{ServiceLayer, Written};
use super::service::DEFAULT_SERVICE;
use super::{Change, Config, Configured, Origin, ServiceConfig, Setting, Value};

/// The settings of a broker that runs.
#[derive(Debug)]
pub struct InForce {
    /// What it is, for parts that cannot change as it was at the start.
    pub config: Config,
    /// What holds, by service and key.
    values: BTreeMap<(String, &'static str), Value>,
    /// Where it listens, as it was written.
    ports: [Option<String>; 2],
    last_read: Configured,
}

/// One key that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The service.
    pub service: String,
    /// The key.
    pub key: &'static str,
    /// What holds, or held; `None` if it is not to be told to everybody who reads a log.
    pub old: Option<String>,
    /// What was written.
    pub new: Option<String>,
    /// What comes of it.
    pub effect: Effect,
}

/// What comes of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It holds from here on.
    InForce,
    /// It does not hold before that.
    Needs(Change),
    /// It is what the file says, and somebody who goes before the file says something else.
    Overridden(Origin),
}

impl InForce {
    /// Those of a broker that begins.
    pub fn new(configured: Configured) -> Self {
        let values =
            configured.settings().into_iter().map(|setting| (name(&setting), setting.value)).collect();
        let ports = spelled_ports(&configured);
        Self { config: configured.config.clone(), values, ports, last_read: configured }
    }

    /// Reads the file again, and takes over what can be.
    ///
    /// # Errors
    /// As [`Configured::read_again`]. Nothing has changed then.
    pub fn read_again(&mut self) -> Result<Vec<Difference>, super::ConfigError> {
        let read = self.last_read.read_again()?;
        let mut differences = self.overridden(&read);
        differences.extend(self.ports(&read));
        for setting in read.settings() {
            differences.extend(self.take(&setting));
        }
        let read_names: BTreeSet<String> = read.config.further.iter().map(|one| one.name.clone()).collect();
        let names: BTreeSet<String> = self.config.further.iter().map(|one| one.name.clone()).collect();
        let changed = read_names.symmetric_difference(&names);
        differences.extend(changed.map(|name| service_difference(name, &read_names)));
        take_over(&mut self.config, read.config.clone());
        self.last_read = read;
        Ok(differences)
    }

    /// What the settings in force were read from.
    pub fn text(&self) -> Option<String> {
        self.last_read.text()
    }

    /// Whether there is a file to be read again.
    pub fn has_file(&self) -> bool {
        self.last_read.file().is_some()
    }

    /// Names of hosts are not looked up again, so that the values are those of the start.
    fn ports(&self, read: &Configured) -> Vec<Difference> {
        let (old, new) = (self.ports.iter(), spelled_ports(read));
        let ports = ["frontend", "backend"].into_iter().zip(old.cloned().zip(new));
        let changed = ports.filter(|(_key, (old, new))| old != new);
        changed
            .map(|(key, (old, new))| {
                let effect = Effect::Needs(Change::Restart);
                Difference { service: DEFAULT_SERVICE.to_owned(), key, old, new, effect }
            })
            .collect()
    }

    fn take(&mut self, setting: &Setting) -> Option<Difference> {
        let (service, key) = name(setting);
        // A service that is new is told as a whole.
        let old = self.values.get(&(service.clone(), key))?.clone();
        if old == setting.value {
            return None;
        }
        let effect = match setting.change {
            Change::AtOnce => {
                self.values.insert((service.clone(), key), setting.value.clone());
                Effect::InForce
            }
            later => Effect::Needs(later),
        };
        Some(Difference { service, key, old: told(key, &old), new: told(key, &setting.value), effect })
    }

    /// What has changed in the file, and does not count.
    fn overridden(&self, read: &Configured) -> Vec<Difference> {
        let (old, new) = (&self.last_read.layers.file.default, &read.layers.file.default);
        let keys: BTreeSet<&String> = old.written.keys().chain(new.written.keys()).collect();
        let text =
            |layer: &ServiceLayer, key: &str| layer.written.get(key).map(|Written { text, .. }| text.clone());
        let changed = keys.into_iter().filter(|key| text(old, key) != text(new, key));
        changed
            .filter(|key| read.layers.is_overridden(key))
            .filter_map(|key| super::keys::find(key))
            .map(|known| {
                let show = |layer| text(layer, known.name).filter(|_text| !is_secret(known.name));
                Difference {
                    service: DEFAULT_SERVICE.to_owned(),
                    key: known.name,
                    old: show(old),
                    new: show(new),
                    effect: Effect::Overridden(read.origin(DEFAULT_SERVICE, known.name)),
                }
            })
            .collect()
    }
}

/// A service has come, or gone.
fn service_difference(service: &str, read: &BTreeSet<String>) -> Difference {
    let word = |is_there| Some(if is_there { "described" } else { "not described" }.to_owned());
    let is_there = read.contains(service);
    Difference {
        service: service.to_owned(),
        key: "service",
        old: word(!is_there),
        new: word(is_there),
        effect: Effect::Needs(Change::Upgrade),
    }
}

fn spelled_ports(configured: &Configured) -> [Option<String>; 2] {
    let (frontend, backend) = configured.layers.ports();
    [frontend, backend].map(|address| address.map(ToString::to_string))
}

fn name(setting: &Setting) -> (String, &'static str) {
    (setting.service.clone().unwrap_or_else(|| DEFAULT_SERVICE.to_owned()), setting.key)
}

/// Secrets live there.
fn is_secret(key: &str) -> bool {
    matches!(key, "env" | "probe" | "hook")
}

fn told(key: &str, value: &Value) -> Option<String> {
    (!is_secret(key)).then(|| match value {
        Value::Unset => "none".to_owned(),
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    })
}

/// What can change while the broker runs is as it was read.
fn take_over(config: &mut Config, read: Config) {
    take_over_service(&mut config.default, read.default);
    for service in read.further {
        if let Some(known) = config.further.iter_mut().find(|known| known.name == service.name) {
            take_over_service(known, service);
        }
    }
    config.plain_errors = read.plain_errors;
    config.hooks = read.hooks;
    config.check_for_dead = read.check_for_dead;
    config.log.level = read.log.level;
}

fn take_over_service(service: &mut ServiceConfig, read: ServiceConfig) {
    let (fresh, body_limit) = (service.core.fresh, service.core.body_limit);
    let reload_on = std::mem::take(&mut service.reload_on);
    *service = ServiceConfig { reload_on, ..read };
    service.core.fresh = fresh;
    // A body that the queue has no room for is too large, and not to be tried again.
    service.core.body_limit = body_limit.min(service.core.held_bytes_limit);
}
