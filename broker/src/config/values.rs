//! What holds for each key in the end, as it would be written in the file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::json;

use super::keys::{Change, KEYS, Scope};
use super::service::DEFAULT_SERVICE;
use super::{
    Config, Configured, ControlPlace, External, Framing, Origin, PlainErrors, ProgramKind, RawConfig,
    ServiceConfig, show_duration, show_size,
};
use crate::logging::LogFormat;
use crate::parent::{Hook, Limit, UNLIMITED, Unit};

/// A value, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// There is none: no limit, nothing to be done.
    Unset,
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(i128),
    /// Also times and sizes, with their units.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// One key, and what holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The service, if it is not the default one.
    pub service: Option<String>,
    /// The key.
    pub key: &'static str,
    /// What holds.
    pub value: Value,
    /// Who says so.
    pub origin: Origin,
    /// When a change of it is in force, if HUP brings it.
    pub change: Change,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // JSON has TOML's texts and lists, but for one character.
        let written = self.to_json().to_string().replace('\u{7f}', "\\u007F");
        f.write_str(&written)
    }
}

impl Value {
    /// The same in JSON.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Unset => json!(null),
            Self::Switch(value) => json!(value),
            Self::Number(value) => u64::try_from(*value).map_or_else(
                |_negative| json!(i64::try_from(*value).unwrap_or(i64::MIN)),
                |value| json!(value),
            ),
            Self::Text(text) => json!(text),
            Self::List(texts) => json!(texts),
        }
    }

    fn number(number: impl TryInto<i128>) -> Self {
        Self::Number(number.try_into().unwrap_or(i128::MAX))
    }

    fn time(time: std::time::Duration) -> Self {
        Self::Text(show_duration(time))
    }

    fn size(bytes: u64) -> Self {
        Self::Text(show_size(bytes))
    }

    fn path(path: &Path) -> Self {
        Self::Text(path.display().to_string())
    }

    fn or_unset<T>(value: Option<T>, show: impl Fn(T) -> Self) -> Self {
        value.map_or(Self::Unset, show)
    }
}

impl Configured {
    /// Every key, that of the broker and its default service first.
    pub fn settings(&self) -> Vec<Setting> {
        let merged = self.layers.merged();
        let mut values = of_service(&merged, &self.config.default);
        values.extend(of_broker(&merged, &self.config));
        let mut settings = self.setting_of(DEFAULT_SERVICE, values);
        for service in &self.config.further {
            if let Some(layer) = self.layers.file_layer(&service.name) {
                let values = of_service(&self.layers.merged_for(layer), service);
                settings.extend(self.setting_of(&service.name, values));
            }
        }
        settings
    }

    /// Keys of the file that mean nothing to the crew that it is for; none for a broker.
    pub fn unused_by_crew(&self) -> Vec<String> {
        if self.config.crew.is_none() {
            return Vec::new();
        }
        let is_written = |key: &&str| matches!(self.origin(DEFAULT_SERVICE, key), Origin::File(..));
        let of_brokers = KEYS.iter().map(|key| key.name).filter(|key| is_of_brokers(key));
        of_brokers.filter(is_written).map(str::to_owned).collect()
    }

    fn setting_of(&self, service: &str, mut values: BTreeMap<&'static str, Value>) -> Vec<Setting> {
        let is_default = service == DEFAULT_SERVICE;
        let keys = KEYS.iter().filter(|key| is_default || key.scope == Scope::Service);
        let keys = keys.filter(|key| self.config.crew.is_none() || !is_of_brokers(key.name));
        keys.map(|key| Setting {
            service: (!is_default).then(|| service.to_owned()),
            key: key.name,
            value: values.remove(key.name).unwrap_or(Value::Unset),
            origin: self.origin(service, key.name),
            change: key.change,
        })
        .collect()
    }
}

/// Whether it means nothing to a crew.
fn is_of_brokers(key: &str) -> bool {
    ["frontend", "backend"].contains(&key) || RawConfig::OF_BROKERS.contains(&key)
}

fn of_broker(raw: &RawConfig, config: &Config) -> BTreeMap<&'static str, Value> {
    let control = match &config.control {
        ControlPlace::File(path) => Value::path(path),
        // It is named after a port that may not be known yet.
        ControlPlace::Directory(_) | ControlPlace::Shared(_) => Value::Unset,
    };
    let log = &config.log;
    let hooks = &config.hooks;
    BTreeMap::from([
        ("frontend", Value::Text(config.frontend.to_string())),
        ("backend", Value::Text(config.backend.to_string())),
        ("check-for-dead", Value::or_unset(config.check_for_dead, Value::time)),
        ("no-external", Value::Switch(config.external == External::Nobody)),
        ("plain-errors", Value::Text(show_errors(config.plain_errors).to_owned())),
        ("drain", Value::time(config.default.core.drain)),
        ("log-file", Value::or_unset(log.file.as_deref(), Value::path)),
        ("log-format", Value::Text(show_format(log.format).to_owned())),
        ("log-level", Value::Text(log.level.as_str().to_owned())),
        ("control", control),
        ("control-read", Value::or_unset(config.control_read.as_ref(), |socket| Value::path(&socket.path))),
        ("control-group", Value::or_unset(raw.control_group.clone(), Value::Text)),
        ("http", Value::or_unset(config.http, |address| Value::Text(address.to_string()))),
        ("hook", list(hooks.iter().map(show_hook))),
        ("insecure", Value::Switch(raw.insecure == Some(true))),
        ("user", Value::or_unset(raw.user.clone(), Value::Text)),
        ("group", Value::or_unset(raw.group.clone(), Value::Text)),
        ("chroot", Value::or_unset(raw.chroot.as_deref(), Value::path)),
        ("chdir", Value::or_unset(raw.chdir.as_deref(), Value::path)),
        ("pid-file", Value::or_unset(config.pid_file.as_deref(), Value::path)),
    ])
}

fn of_service(raw: &RawConfig, service: &ServiceConfig) -> BTreeMap<&'static str, Value> {
    let (core, conditions) = (&service.core, &service.conditions);
    let (autoscale, spares) = (core.autoscale, core.spares);
    let (argv, framing) = match &service.program {
        ProgramKind::Exec(argv) | ProgramKind::Each(argv) => (argv.as_slice(), Framing::Line),
        ProgramKind::Lines { argv, framing } => (argv.as_slice(), *framing),
        ProgramKind::Echo | ProgramKind::None => (&[][..], Framing::Line),
    };
    BTreeMap::from([
        ("program", list(argv.iter().map(lossy))),
        ("each", Value::Switch(matches!(service.program, ProgramKind::Each(_)))),
        ("lines", Value::Switch(matches!(service.program, ProgramKind::Lines { .. }))),
        ("framing", Value::Text(show_framing(framing).to_owned())),
        ("workers", Value::number(core.workers)),
        ("min", Value::number(core.min)),
        ("max", Value::number(core.max)),
        ("boot-timeout", Value::time(core.boot_timeout)),
        ("max-requests", Value::or_unset(core.max_requests, Value::number)),
        ("max-age", Value::or_unset(core.max_age, Value::time)),
        ("idle-timeout", Value::or_unset(core.idle_timeout, Value::time)),
        ("max-memory", Value::or_unset(core.max_memory, Value::size)),
        ("max-memory-hard", Value::or_unset(core.max_memory_hard, Value::size)),
        ("fresh", Value::Switch(core.fresh)),
        ("mold", Value::Switch(service.molded)),
        ("no-mold", Value::Switch(raw.no_mold == Some(true))),
        ("access-log", Value::Switch(core.tell_ends)),
        ("surge", Value::number(core.surge)),
        ("probe", Value::or_unset(raw.probe.clone(), Value::Text)),
        ("probe-timeout", Value::or_unset(core.probe_timeout.or(raw.probe_timeout), Value::time)),
        ("reload-on", list(service.reload_on.iter().map(lossy))),
        ("no-autoscale", Value::Switch(autoscale.is_none())),
        ("scale-up-wait", Value::or_unset(autoscale.map(|rules| rules.up_wait), Value::time)),
        ("scale-down-after", Value::or_unset(autoscale.map(|rules| rules.down_after), Value::time)),
        ("min-spare-servers", Value::or_unset(raw.min_spare_servers, Value::number)),
        ("max-spare-servers", Value::or_unset(raw.max_spare_servers, Value::number)),
        ("check-for-waiting", Value::or_unset(spares.map(|rules| rules.check), Value::time)),
        ("timeout", Value::or_unset(core.timeout, Value::time)),
        ("queue-timeout", Value::or_unset(core.queue_timeout, Value::time)),
        ("part-timeout", Value::or_unset(core.part_timeout, Value::time)),
        ("affinity-wait", Value::time(core.affinity_wait)),
        ("prefetch", Value::time(core.prefetch.unwrap_or_default())),
        ("cancel-grace", Value::time(core.cancel_grace)),
        ("cancel-on-disconnect", Value::Switch(core.cancel_on_disconnect)),
        ("term-grace", Value::time(core.term_grace)),
        ("attempts", Value::number(core.attempts)),
        ("queue", Value::number(core.backlog_limit as u64)),
        ("queue-bytes", Value::size(core.held_bytes_limit)),
        ("client-queue", Value::or_unset(core.client_backlog_limit.map(|count| count as u64), Value::number)),
        ("client-queue-bytes", Value::or_unset(core.client_bytes_limit, Value::size)),
        ("key-window", Value::time(core.key_window)),
        ("keys", Value::number(core.keys_limit as u64)),
        ("key-bytes", Value::size(core.key_bytes_limit)),
        ("max-body", Value::size(core.body_limit)),
        ("rlimit", list(conditions.limits.iter().map(show_limit))),
        ("nice", Value::or_unset(conditions.niceness, Value::number)),
        ("umask", Value::or_unset(conditions.umask, |mask| Value::Text(format!("{mask:03o}")))),
        ("env", list(raw.env.iter().flatten().map(lossy))),
    ])
}

/// Nothing is not written as an empty list, which would be refused.
fn list(texts: impl Iterator<Item = String>) -> Value {
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { Value::Unset } else { Value::List(texts) }
}

fn lossy(text: impl Into<OsString>) -> String {
    text.into().to_string_lossy().into_owned()
}

const fn show_framing(framing: Framing) -> &'static str {
    match framing {
        Framing::Line => "line",
        Framing::Length => "length",
        Framing::Netstring => "netstring",
    }
}

const fn show_errors(errors: PlainErrors) -> &'static str {
    match errors {
        PlainErrors::Text => "text",
        PlainErrors::Silent => "silent",
    }
}

const fn show_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn show_hook(hook: &Hook) -> String {
    format!("{}={}", hook.event, hook.command)
}

fn show_limit(limit: &Limit) -> String {
    let show = |value: u64| match limit.resource.unit {
        _ if value == UNLIMITED => "unlimited".to_owned(),
        Unit::Bytes => show_size(value),
        Unit::Seconds => format!("{value}s"),
        Unit::Pieces => value.to_string(),
    };
    format!("{}={}:{}", limit.resource.name, show(limit.soft), show(limit.hard))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nix::unistd::Uid;

    use super::*;
    use crate::config::{CommandLine, Environment, Surroundings};

    fn configured(options: RawConfig) -> Configured {
        let user = Uid::from_raw(1000);
        let surroundings = Surroundings { processors: 6, user, environment: Environment::of([]) };
        let (frontend, backend) = ("6660".parse().ok(), "0".parse().ok());
        let command_line = CommandLine { frontend, backend, options, ..CommandLine::default() };
        Configured::read(command_line, surroundings).unwrap()
    }

    #[test]
    fn every_key_has_a_value_to_show() {
        let Configured { config, .. } = configured(RawConfig::default());
        let raw = RawConfig::default();
        let service: BTreeSet<&str> = of_service(&raw, &config.default).into_keys().collect();
        let broker: BTreeSet<&str> = of_broker(&raw, &config).into_keys().collect();
        let keys = |scope| KEYS.iter().filter(move |key| key.scope == scope).map(|key| key.name).collect();
        assert_eq!((service, broker), (keys(Scope::Service), keys(Scope::Broker)));
    }

    #[test]
    fn a_value_is_shown_as_it_would_be_written() {
        let options = RawConfig {
            rlimit: Some(vec![
                super::super::conditions::limit("as=512MiB:unlimited").unwrap(),
                super::super::conditions::limit("cpu=60s").unwrap(),
            ]),
            umask: Some(0o27),
            nice: Some(-5),
            timeout: Some(std::time::Duration::from_millis(1500)),
            env: Some(vec!["A=\"\u{7f}\u{1}".into()]),
            ..RawConfig::default()
        };
        let settings = configured(options).settings();
        let shown = |key: &str| {
            settings
                .iter()
                .find(|setting| setting.key == key)
                .map(|setting| setting.value.to_string())
                .unwrap()
        };
        for (key, value) in [
            ("frontend", "\"127.0.0.1:6660\""),
            ("rlimit", "[\"as=512MiB:unlimited\",\"cpu=60s:60s\"]"),
            ("umask", "\"027\""),
            ("nice", "-5"),
            ("timeout", "\"1500ms\""),
            ("max-body", "\"64MiB\""),
            ("fresh", "false"),
            ("env", "[\"A=\\\"\\u007F\\u0001\"]"),
            ("probe", "null"),
        ] {
            assert_eq!(shown(key), value, "{key}");
        }
    }
}
