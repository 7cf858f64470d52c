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
    ports: [Option<String>; 3],
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
        let ports = ["frontend", "backend", "http"].into_iter().zip(old.cloned().zip(new));
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

fn spelled_ports(configured: &Configured) -> [Option<String>; 3] {
    let (frontend, backend) = configured.layers.ports();
    let http = configured.layers.merged().http;
    [frontend, backend, http.as_ref()].map(|address| address.map(ToString::to_string))
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::unistd::Uid;

    use super::*;
    use crate::config::keys::KEYS;
    use crate::config::{CommandLine, Environment, RawConfig, Surroundings};

    const BASE: &str = "frontend = 6660\nbackend = 6661\n";

    /// A file, and the settings that were read from it.
    struct Scene {
        path: PathBuf,
        in_force: InForce,
    }

    impl Scene {
        fn new(text: &str, options: RawConfig) -> Self {
            let name = format!("hornpipe-changes-{}-{:?}", std::process::id(), std::thread::current().id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            let user = Uid::from_raw(1000);
            let surroundings = Surroundings { processors: 6, user, environment: Environment::of([]) };
            let command_line = CommandLine { file: Some(path.clone()), options, ..CommandLine::default() };
            let in_force = InForce::new(Configured::read(command_line, surroundings).unwrap());
            Self { path, in_force }
        }

        fn read(&mut self, text: &str) -> Vec<(String, &'static str, Effect)> {
            std::fs::write(&self.path, text).unwrap();
            let differences = self.in_force.read_again().unwrap();
            differences.into_iter().map(|one| (one.service, one.key, one.effect)).collect()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            std::fs::remove_file(&self.path).ok();
        }
    }

    /// A value of each key that is not its default, and what else it needs.
    fn other_value(key: &str) -> &'static str {
        match key {
            "frontend" | "backend" => "7000",
            "program" => "['x']",
            "each" | "lines" | "mold" => {
                "true
program = ['x']"
            }
            "fresh" | "cancel-on-disconnect" | "no-external" | "insecure" | "access-log" => "true",
            "no-mold" => {
                "true
program = ['python3', '-m', 'hornpipe']"
            }
            "no-autoscale" => "true\nmin = 2\nmax = 4",
            "boot-timeout" | "max-age" | "idle-timeout" | "check-for-dead" | "timeout" | "queue-timeout"
            | "part-timeout" | "affinity-wait" | "prefetch" | "key-window" | "cancel-grace"
            | "term-grace" | "drain" => "'77s'",
            "probe-timeout" => "'77s'\nprobe = 'x'",
            "scale-up-wait" | "scale-down-after" => "'77s'\nmin = 2\nmax = 4",
            "check-for-waiting" => "'77s'\nmax-spare-servers = 4",
            "max-memory" | "max-memory-hard" | "max-body" | "queue-bytes" | "client-queue-bytes"
            | "key-bytes" => "'77MiB'",
            "plain-errors" => "'silent'",
            "framing" => "'length'\nlines = true\nprogram = ['x']",
            "log-format" => "'json'",
            "log-level" => "'debug'",
            "reload-on" => "['/dev/null']",
            "hook" => "['degraded=x']",
            "rlimit" => "['nofile=9']",
            "env" => "['A=b']",
            "umask" => "'077'",
            "min-spare-servers" => "3\nmax = 9",
            "http" => "'7000'",
            "control-group" => "'0'\ncontrol-read = '/x'",
            "probe" | "log-file" | "control" | "control-read" | "user" | "group" | "chroot" | "chdir"
            | "pid-file" => "'/x'",
            _ => "7",
        }
    }

    #[test]
    fn a_change_of_each_key_is_told_and_holds_if_it_can() {
        for key in KEYS {
            let (name, value) = (key.name, other_value(key.name));
            let rest = value.split_once('\n').map_or("", |(_, rest)| rest);
            // What the key needs besides is there before.
            let needs_rest = !matches!(name, "each" | "lines");
            let mut scene =
                Scene::new(&format!("{BASE}{}\n", if needs_rest { rest } else { "" }), RawConfig::default());
            let before = scene.in_force.config.clone();
            let base = if BASE.contains(&format!("{name} =")) {
                BASE.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n") + "\n"
            } else {
                BASE.to_owned()
            };
            let told = scene.read(&format!("{base}{name} = {value}\n"));
            let effect = told.iter().find(|(_, told, _)| *told == name).map(|(_, _, effect)| effect.clone());
            let holds = key.change == Change::AtOnce;
            let expected = if holds { Effect::InForce } else { Effect::Needs(key.change) };
            assert_eq!(effect, Some(expected), "{name}: {told:?}");
            assert_eq!(scene.in_force.config != before, holds, "{name}");
        }
    }

    #[test]
    fn what_is_not_in_force_is_told_again_and_what_is_is_not() {
        let mut scene = Scene::new(BASE, RawConfig::default());
        let text = format!("{BASE}workers = 3\nfresh = true\n");
        assert_eq!(scene.read(&text).len(), 2);
        let default = DEFAULT_SERVICE.to_owned();
        assert_eq!(scene.read(&text), [(default, "fresh", Effect::Needs(Change::Upgrade))]);
        assert_eq!(scene.read(BASE).len(), 1, "workers are as many as CPUs again");
        assert_eq!(scene.in_force.config.default.core.workers, 6);
    }

    #[test]
    fn what_is_overridden_is_told_when_the_file_changes() {
        let options = RawConfig { workers: Some(2), ..RawConfig::default() };
        let mut scene = Scene::new(&format!("{BASE}workers = 3\n"), options);
        let text = format!("{BASE}workers = 4\n");
        let overridden = (DEFAULT_SERVICE.to_owned(), "workers", Effect::Overridden(Origin::CommandLine));
        assert_eq!(scene.read(&text), [overridden]);
        assert_eq!(scene.read(&text), []);
    }

    #[test]
    fn services_change_each_for_itself_and_come_and_go_with_an_upgrade() {
        let service = |name: &str, workers: u32| format!("[service.{name}]\nworkers = {workers}\n");
        let mut scene =
            Scene::new(&format!("{BASE}{}{}", service("a", 1), service("b", 1)), RawConfig::default());
        let told = scene.read(&format!("{BASE}{}{}", service("b", 2), service("c", 1)));
        let upgrade = |name: &str| (name.to_owned(), "service", Effect::Needs(Change::Upgrade));
        assert_eq!(told, [("b".to_owned(), "workers", Effect::InForce), upgrade("a"), upgrade("c")]);
        let workers: Vec<_> =
            scene.in_force.config.further.iter().map(|one| (one.name.as_str(), one.core.workers)).collect();
        assert_eq!(workers, [("a", 1), ("b", 2)]);
    }

    #[test]
    fn secrets_are_not_told() {
        let mut scene = Scene::new(BASE, RawConfig::default());
        std::fs::write(&scene.path, format!("{BASE}env = ['PASSWORD=x']\n")).unwrap();
        let differences = scene.in_force.read_again().unwrap();
        assert!(!format!("{differences:?}").contains("PASSWORD"), "{differences:?}");
    }
}
