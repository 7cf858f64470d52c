//! The environment. Nothing else may read it.
//!
//! `HORNPIPE_ATTEMPTS=5` is `--attempts 5`, for every option. The variables that
//! are given to programs are never settings; any other `HORNPIPE_...` is a
//! typing error, and told.
#![expect(clippy::disallowed_methods, reason = "this file reads the environment")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::reading::{Kind, OptionReader, Unread};
use super::{Activation, ConfigError, RawConfig};
use crate::parent::Supervision;
use crate::parent::errand::{self, Errand};

const PREFIX: &str = "HORNPIPE_";

/// Names the file that is read besides.
const CONFIG: &str = "CONFIG";

/// What workers, their programs and hooks are told.
const GIVEN: &[&str] =
    &["BACKEND", "SERVICE", "SLOT", "INCARNATION", "GENERATION", "MOLD_FD", "EVENT", "PID", "REASON"];
const GIVEN_FAMILIES: &[&str] = &["REQUEST_", "LOCK_"];

/// What a service manager says to the process that it starts, and to no other.
const SUPERVISION: &[&str] = &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
const ACTIVATION: &[&str] = &["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// Where programs are looked for if nothing says it: what `execvp` does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The environment, as it was at one moment.
#[derive(Clone)]
pub struct Environment {
    variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// This process's.
    pub fn read() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    /// One made of these variables.
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// The settings in it.
    ///
    /// # Errors
    /// If a variable with our prefix is no setting, or its value cannot be read.
    pub fn settings(&self) -> Result<RawConfig, ConfigError> {
        self.layer().map(|layer| layer.options)
    }

    /// The settings in it, and which variable each of them comes from.
    ///
    /// # Errors
    /// As [`Environment::settings`].
    pub(super) fn layer(&self) -> Result<EnvironmentLayer, ConfigError> {
        let reader = OptionReader::default();
        let mut layer = EnvironmentLayer::default();
        for (name, value) in &self.variables {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if is_given(key) || name == errand::VARIABLE || key == CONFIG || value.is_empty() {
                continue;
            }
            let option = key.replace('_', "-").to_ascii_lowercase();
            let name = format!("{PREFIX}{key}");
            let read = reader.read(&option, &values(&reader, &option, value));
            let (long, options) = read.map_err(|unread| refused(name.clone(), value, unread))?;
            layer.options = layer.options.overridden_by(options);
            layer.variables.insert(long, name);
        }
        Ok(layer)
    }

    /// The file that it names, for who is told of none.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.value("HORNPIPE_CONFIG").map(PathBuf::from)
    }

    /// What workers inherit: everything but what is ours.
    pub fn for_workers(&self) -> Vec<(OsString, OsString)> {
        let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let for_us = |name: &OsStr| is_one_of(SUPERVISION, name) || is_one_of(ACTIVATION, name);
        self.variables.iter().filter(|(name, _)| !ours(name) && !for_us(name)).cloned().collect()
    }

    /// What this program is to do that its predecessor has started.
    pub fn errand(&self) -> Errand {
        Errand::read(self.value(errand::VARIABLE))
    }

    /// What a program in this one's place is given: everything but such an errand, and but
    /// the numbers of descriptors, which it is told in another way.
    pub fn for_successor(&self) -> Vec<(OsString, OsString)> {
        let for_it = |name: &OsStr| name != errand::VARIABLE && !is_one_of(ACTIVATION, name);
        self.variables.iter().filter(|(name, _)| for_it(name)).cloned().collect()
    }

    /// Who wants to hear of this process, if anybody does.
    ///
    /// # Errors
    /// If it asks for signs of life in a way that cannot be read: without them it would end
    /// this process again and again.
    pub fn supervision(&self) -> Result<Option<Supervision>, ConfigError> {
        let Some(socket) = self.value("NOTIFY_SOCKET") else { return Ok(None) };
        let watchdog = match (self.value("WATCHDOG_USEC"), self.text("WATCHDOG_PID")) {
            (Some(_), Some(pid)) if pid != std::process::id().to_string() => None,
            (None, _) => None,
            (Some(time), _) => {
                let microseconds = time.to_str().and_then(|text| text.parse().ok()).filter(|time| 0 < *time);
                let Some(microseconds) = microseconds else {
                    return Err(ConfigError::BadVariable {
                        name: "WATCHDOG_USEC".into(),
                        value: time.to_string_lossy().into_owned(),
                        why: "it must be a number of microseconds, more than 0".into(),
                    });
                };
                Some(Duration::from_micros(microseconds))
            }
        };
        Ok(Some(Supervision { socket: socket.to_owned(), watchdog }))
    }

    /// The sockets that this process has been started with.
    ///
    /// # Errors
    /// If they cannot be understood.
    pub fn activation(&self) -> Result<Activation, ConfigError> {
        let words = [self.text("LISTEN_PID"), self.text("LISTEN_FDS"), self.text("LISTEN_FDNAMES")];
        Activation::read(words, std::process::id())
    }

    /// Where this process would look for programs.
    pub fn search_path(&self) -> OsString {
        search_path(&self.variables)
    }

    /// Where a worker is to connect.
    pub fn backend(&self) -> Option<String> {
        self.value("HORNPIPE_BACKEND").and_then(OsStr::to_str).map(ToOwned::to_owned)
    }

    /// The service of a worker.
    pub fn service(&self) -> Option<String> {
        self.value("HORNPIPE_SERVICE").and_then(OsStr::to_str).map(ToOwned::to_owned)
    }

    /// The control socket, for the verbs that talk to a running broker.
    pub fn control(&self) -> Option<PathBuf> {
        self.value("HORNPIPE_CONTROL").map(PathBuf::from)
    }

    /// Where the verbs of `lock` lock.
    pub fn lock_servers(&self) -> Option<String> {
        self.text("HORNPIPE_LOCK_SERVERS")
    }

    /// The user's directory for sockets and the like.
    pub fn runtime_directory(&self) -> Option<PathBuf> {
        self.value("XDG_RUNTIME_DIR").map(PathBuf::from)
    }

    /// The user wants no colours (<https://no-color.org>).
    pub fn refuses_colour(&self) -> bool {
        self.value("NO_COLOR").is_some() || self.value("TERM").is_some_and(|term| term == "dumb")
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// The last of that name that is not empty.
    fn value(&self, name: &str) -> Option<&OsStr> {
        let same = |variable: &&(OsString, OsString)| variable.0 == name && !variable.1.is_empty();
        self.variables.iter().rev().find(same).map(|(_, value)| value.as_os_str())
    }
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EnvironmentLayer {
    pub(super) options: RawConfig,
    /// By the long name of the option.
    pub(super) variables: BTreeMap<String, String>,
}

/// Without the values: secrets live there.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}

/// Where programs with these variables are looked for.
pub(super) fn search_path(variables: &[(OsString, OsString)]) -> OsString {
    let path = variables.iter().rev().find(|(name, value)| name == "PATH" && !value.is_empty());
    path.map_or_else(|| DEFAULT_PATH.into(), |(_name, value)| value.clone())
}

/// The variable that says the same as an option of this long name.
pub fn variable_of(option: &str) -> String {
    format!("{PREFIX}{}", option.replace('-', "_").to_ascii_uppercase())
}

fn is_one_of(names: &[&str], name: &OsStr) -> bool {
    names.iter().any(|one| name == *one)
}

fn is_given(key: &str) -> bool {
    GIVEN.contains(&key) || GIVEN_FAMILIES.iter().any(|family| key.starts_with(family))
}

/// What can be given more than once is given a line each.
fn values<'a>(reader: &OptionReader, option: &str, value: &'a OsStr) -> Vec<&'a OsStr> {
    if reader.kind(option) != Some(Kind::List) {
        return vec![value];
    }
    let lines = value.as_bytes().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(OsStr::from_bytes).collect()
}

fn refused(name: String, value: &OsStr, unread: Unread) -> ConfigError {
    match unread {
        Unread::Unknown { nearest } => {
            ConfigError::UnknownVariable { name, suggestion: nearest.as_deref().map(variable_of) }
        }
        Unread::Bad { why } => {
            ConfigError::BadVariable { name, value: value.to_string_lossy().into_owned(), why }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_the_option_of_its_name() {
        let environment = Environment::of([
            ("HORNPIPE_WORKERS", "3"),
            ("HORNPIPE_TIMEOUT", "250ms"),
            ("HORNPIPE_CHECK_FOR_DEAD", "30"),
            ("HORNPIPE_INSECURE", "yes"),
            ("HORNPIPE_EACH", "0"),
            ("HORNPIPE_QUEUE", ""),
            ("HORNPIPE_ENV", "A=1 and\n\nB=2"),
            ("HORNPIPE_NICE", "-5"),
            ("PATH", "/bin"),
        ]);
        let expected = RawConfig {
            workers: Some(3),
            timeout: Some(Duration::from_millis(250)),
            check_for_dead: Some(Duration::from_secs(30)),
            insecure: Some(true),
            each: Some(false),
            env: Some(vec!["A=1 and".into(), "B=2".into()]),
            nice: Some(-5),
            ..RawConfig::default()
        };
        assert_eq!(environment.settings(), Ok(expected));
    }

    #[test]
    fn the_words_of_net_server_are_variables_too() {
        let environment = Environment::of([("HORNPIPE_MIN_SERVERS", "3"), ("HORNPIPE_MAX_SERVERS", "5")]);
        let settings = environment.settings().unwrap();
        assert_eq!((settings.workers, settings.max), (Some(3), Some(5)));
    }

    #[test]
    fn what_is_given_to_programs_is_never_read_as_a_setting() {
        let given = Environment::of([
            ("HORNPIPE_BACKEND", "ipc:///x"),
            ("HORNPIPE_SERVICE", "images"),
            ("HORNPIPE_SLOT", "3"),
            ("HORNPIPE_INCARNATION", "1"),
            ("HORNPIPE_GENERATION", "0"),
            ("HORNPIPE_REQUEST_ID", "7"),
            ("HORNPIPE_LOCK_TTL", "1s"),
        ]);
        assert_eq!(given.settings(), Ok(RawConfig::default()));
        assert_eq!(given.backend().as_deref(), Some("ipc:///x"));
    }

    #[test]
    fn a_typing_error_is_told_with_what_was_meant() {
        let error = Environment::of([("HORNPIPE_WORKRES", "3")]).settings().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable HORNPIPE_WORKRES is no setting: did you mean HORNPIPE_WORKERS?"
        );
        let error = Environment::of([("HORNPIPE_ZZZ", "3")]).settings().unwrap_err();
        assert_eq!(error.to_string(), "the environment variable HORNPIPE_ZZZ is no setting: remove it");
    }

    #[test]
    fn a_bad_value_is_told_with_its_variable() {
        for (name, value, why) in [
            ("HORNPIPE_TIMEOUT", "30", "add a unit: 30s or 30ms"),
            ("HORNPIPE_WORKERS", "many", "invalid digit found in string"),
            ("HORNPIPE_INSECURE", "perhaps", "write 1 or 0"),
            ("HORNPIPE_LOG_FORMAT", "xml", "write text or json"),
            ("HORNPIPE_NICE", "20", "20 is not in -20..=19"),
            ("HORNPIPE_UMASK", "9", "a umask is octal, from 000 to 777"),
        ] {
            let error = Environment::of([(name, value)]).settings().unwrap_err();
            assert_eq!(error.to_string(), format!("the environment variable {name} is {value:?}: {why}"));
        }
    }

    #[test]
    fn workers_inherit_everything_but_what_is_ours() {
        let environment =
            Environment::of([("HOME", "/root"), ("HORNPIPE_WORKERS", "3"), ("HORNPIPE_SLOT", "1")]);
        assert_eq!(environment.for_workers(), [("HOME".into(), "/root".into())]);
    }
    #[test]
    fn what_a_service_manager_says_is_for_this_process_alone() {
        let environment = Environment::of([
            ("HOME", "/"),
            ("NOTIFY_SOCKET", "/run/notify"),
            ("WATCHDOG_USEC", "2000000"),
            ("WATCHDOG_PID", "1"),
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDNAMES", "frontend"),
            ("LISTEN_PIDFDID", "3"),
        ]);
        assert_eq!(environment.for_workers(), [("HOME".into(), "/".into())]);
        let names: Vec<_> = environment.for_successor().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HOME", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]);
    }

    #[test]
    fn the_watchdog_is_ours_if_it_names_us_or_nobody() {
        let own = std::process::id().to_string();
        let watchdog = |variables: [(&str, &str); 3]| {
            Environment::of(variables).supervision().map(|found| found.map(|found| found.watchdog))
        };
        let socket = ("NOTIFY_SOCKET", "@manager");
        let two = Some(Duration::from_secs(2));
        let usec = ("WATCHDOG_USEC", "2000000");
        assert_eq!(watchdog([socket, usec, ("WATCHDOG_PID", &own)]), Ok(Some(two)));
        assert_eq!(watchdog([socket, usec, ("WATCHDOG_PID", "")]), Ok(Some(two)));
        assert_eq!(watchdog([socket, usec, ("WATCHDOG_PID", "1")]), Ok(Some(None)));
        assert_eq!(watchdog([socket, ("A", ""), ("B", "")]), Ok(Some(None)));
        assert_eq!(watchdog([("A", ""), usec, ("B", "")]), Ok(None));
        for time in ["0", "2s", "-1"] {
            let error = watchdog([socket, ("WATCHDOG_USEC", time), ("A", "")]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "the environment variable WATCHDOG_USEC is {time:?}: it must be a number of microseconds, \
                     more than 0"
                )
            );
        }
        // Not ours, so not our error.
        assert_eq!(watchdog([socket, ("WATCHDOG_USEC", "x"), ("WATCHDOG_PID", "1")]), Ok(Some(None)));
    }
}
