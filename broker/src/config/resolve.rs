//! From what was written to what it means: every default and every check.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid};

use super::account::{Account, find_group};
use super::operators::operators;
use super::service::DEFAULT_SERVICE;
use super::{
    Address, Config, ConfigError, ControlPlace, Environment, External, PlainErrors, Privilege, RawConfig,
};
use crate::core::MAX_WORKERS;
use crate::logging::{Colour, Level, LogChoices, LogFormat};
use crate::parent::Identity;

/// What the meaning of a configuration depends on besides itself.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The processors this process may use.
    pub processors: u32,
    /// The user it runs as.
    pub user: Uid,
    /// The environment.
    pub environment: Environment,
}

impl Surroundings {
    /// Those of this process.
    pub fn read() -> Self {
        // The standard library asks for the affinity mask and for the cgroup's
        // processor quota, of version 1 and 2.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            processors: u32::try_from(processors).unwrap_or(MAX_WORKERS),
            user: Uid::effective(),
            environment: Environment::read(),
        }
    }
}

/// What a running broker keeps: where it listens, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Places {
    frontend: SocketAddr,
    backend: SocketAddr,
    http: Option<SocketAddr>,
    identity: Identity,
}

impl Places {
    /// Those of a broker that runs.
    pub(super) fn of(config: &Config) -> Self {
        let Config { frontend, backend, http, identity, .. } = config;
        Self { frontend: *frontend, backend: *backend, http: *http, identity: identity.clone() }
    }
}

impl RawConfig {
    /// What it means for a broker with these ports and this program.
    ///
    /// # Errors
    /// The first thing that cannot be, and what to write instead.
    pub fn resolve(
        self,
        ports: (&Address, &Address),
        argv: Vec<OsString>,
        surroundings: &Surroundings,
    ) -> Result<Config, ConfigError> {
        let places = self.resolve_places(ports, surroundings)?;
        self.resolve_in(places, argv, surroundings)
    }

    /// What has to be asked of others: where to listen, and as whom to run.
    pub(super) fn resolve_places(
        &self,
        (frontend, backend): (&Address, &Address),
        surroundings: &Surroundings,
    ) -> Result<Places, ConfigError> {
        let (frontend, backend) = self.resolve_addresses(frontend, backend)?;
        let http = self.resolve_http([frontend, backend])?;
        Ok(Places { frontend, backend, http, identity: self.resolve_identity(surroundings)? })
    }

    /// What the rest means.
    pub(super) fn resolve_in(
        self,
        places: Places,
        argv: Vec<OsString>,
        surroundings: &Surroundings,
    ) -> Result<Config, ConfigError> {
        let Places { frontend, backend, http, identity } = places;
        let log = LogChoices {
            file: self.log_file.clone().map(full_path).transpose()?,
            format: self.log_format.unwrap_or(LogFormat::Text),
            level: self.log_level.unwrap_or(Level::Info),
            colour: if surroundings.environment.refuses_colour() {
                Colour::Never
            } else {
                Colour::OnTerminals
            },
            owner: identity.user.zip(identity.group),
        };
        let control = self.control.clone().map(full_path).transpose()?;
        let control_read = self.resolve_control_read()?;
        Ok(Config {
            crew: None,
            default: self.resolve_service(DEFAULT_SERVICE, argv, surroundings)?,
            further: Vec::new(),
            external: match (self.no_external == Some(true), self.insecure == Some(true)) {
                (true, _) => External::Nobody,
                (false, true) => External::Anybody,
                (false, false) => External::Loopback,
            },
            plain_errors: self.plain_errors.unwrap_or(PlainErrors::Text),
            privilege: match identity.user.unwrap_or(surroundings.user.as_raw()) {
                0 => Privilege::Root,
                _ => Privilege::User,
            },
            control_read,
            operators: operators(surroundings.user, &identity),
            control: ControlPlace::choose(control, &surroundings.environment, surroundings.user),
            hooks: self.hook.unwrap_or_default(),
            pid_file: self.pid_file.map(full_path).transpose()?,
            check_for_dead: self.check_for_dead,
            frontend,
            backend,
            http,
            identity,
            log,
        })
    }

    fn resolve_addresses(
        &self,
        frontend: &Address,
        backend: &Address,
    ) -> Result<(SocketAddr, SocketAddr), ConfigError> {
        let resolve = |key, address: &Address| {
            let resolved = address.resolve().map_err(|source| ConfigError::Address {
                key,
                address: address.clone(),
                source: Box::new(source),
            })?;
            if !resolved.ip().is_loopback() && self.insecure != Some(true) {
                return Err(ConfigError::Exposed { key, address: address.clone() });
            }
            Ok(resolved)
        };
        let (front, back) = (resolve("frontend", frontend)?, resolve("backend", backend)?);
        if front.port() != 0 && overlap(front, back) {
            return Err(ConfigError::SamePort { port: front.port() });
        }
        Ok((front, back))
    }

    fn resolve_http(&self, others: [SocketAddr; 2]) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(address) = &self.http else { return Ok(None) };
        let resolved = address.resolve().map_err(|source| ConfigError::Address {
            key: "http",
            address: address.clone(),
            source: Box::new(source),
        })?;
        if !resolved.ip().is_loopback() && self.insecure != Some(true) {
            return Err(ConfigError::HttpExposed { address: address.clone() });
        }
        if resolved.port() != 0 && others.iter().any(|other| overlap(*other, resolved)) {
            return Err(ConfigError::HttpPort { port: resolved.port() });
        }
        Ok(Some(resolved))
    }

    fn resolve_identity(&self, surroundings: &Surroundings) -> Result<Identity, ConfigError> {
        let mut identity = Identity {
            chroot: self.chroot.clone().map(full_path).transpose()?,
            directory: self.chdir.clone(),
            ..Identity::default()
        };
        if let Some(name) = &self.user {
            let account = Account::of(name)?;
            identity.user = Some(account.user.as_raw());
            identity.group = account.group.map(Gid::as_raw);
            identity.supplementary_groups =
                account.supplementary.map(|groups| groups.into_iter().map(Gid::as_raw).collect());
        }
        if let Some(name) = &self.group {
            let group = find_group(name)?.as_raw();
            identity.group = Some(group);
            // Root's groups must not be left to somebody who is only named with a group.
            identity.supplementary_groups.get_or_insert_with(|| vec![group]);
        }
        if let (Some(user), None) = (identity.user, identity.group) {
            return Err(ConfigError::GroupNeeded { user });
        }
        check_directory("--chroot", self.chroot.as_ref())?;
        if self.chroot.is_none() {
            check_directory("--chdir", self.chdir.as_ref())?;
        }
        if !surroundings.user.is_root() {
            let options = [("--user", &self.user), ("--group", &self.group)];
            let named = options.into_iter().find(|(_, name)| name.is_some()).map(|(option, _)| option);
            if let Some(option) = named.or(self.chroot.as_ref().map(|_| "--chroot")) {
                return Err(ConfigError::NotRoot { option });
            }
        }
        Ok(identity)
    }
}

/// Whether only one of them can be listened on.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (everywhere || one.ip() == other.ip())
}

fn check_directory(option: &'static str, path: Option<&PathBuf>) -> Result<(), ConfigError> {
    match path {
        Some(path) if !path.is_dir() => Err(ConfigError::NotADirectory { option, path: path.clone() }),
        Some(_) | None => Ok(()),
    }
}

/// The same path from every working directory.
pub(super) fn full_path(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|_error| ConfigError::NoWorkingDirectory { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProgramKind;
    use crate::core::Settings;

    fn surroundings() -> Surroundings {
        Surroundings { processors: 6, user: Uid::from_raw(1000), environment: Environment::of([]) }
    }

    fn resolve(raw: RawConfig, ports: (&str, &str), argv: &[&str]) -> Result<Config, ConfigError> {
        let (frontend, backend) = (ports.0.parse().unwrap(), ports.1.parse().unwrap());
        raw.resolve((&frontend, &backend), argv.iter().map(OsString::from).collect(), &surroundings())
    }

    fn settings(raw: RawConfig) -> Result<Settings, ConfigError> {
        resolve(raw, ("6660", "6661"), &["worker"]).map(|config| config.default.core)
    }

    fn sentence(raw: RawConfig) -> String {
        resolve(raw, ("6660", "6661"), &[]).unwrap_err().to_string()
    }

    fn raw() -> RawConfig {
        RawConfig::default()
    }

    #[test]
    fn metrics_and_health_have_a_port_of_their_own_on_loopback() {
        let http = |http: &str| RawConfig { http: Some(http.parse().unwrap()), ..raw() };
        let port = |raw| resolve(raw, ("6660", "6661"), &[]).map(|config| config.http);
        assert_eq!(port(raw()), Ok(None));
        assert_eq!(port(http("9090")), Ok("127.0.0.1:9090".parse().ok()));
        assert_eq!(port(http("0")), Ok("127.0.0.1:0".parse().ok()));
        assert_eq!(port(http("6661")), Err(ConfigError::HttpPort { port: 6661 }));
        let open = port(http("*:9090")).unwrap_err();
        assert!(matches!(open, ConfigError::HttpExposed { .. }), "{open}");
        let meant = RawConfig { insecure: Some(true), ..http("*:9090") };
        assert_eq!(port(meant), Ok("0.0.0.0:9090".parse().ok()));
    }

    #[test]
    fn what_nobody_says_has_its_default() {
        let config = resolve(raw(), ("6660", "6661"), &[]).unwrap();
        assert_eq!(config.default.core, Settings { workers: 6, ..Settings::default() });
        assert_eq!((config.default.core.min, config.default.core.max), (1, MAX_WORKERS));
        assert_eq!(config.frontend.to_string(), "127.0.0.1:6660");
        assert_eq!(config.backend.to_string(), "127.0.0.1:6661");
        assert_eq!(config.default.program, ProgramKind::Echo);
        assert_eq!(config.external, External::Loopback);
        assert_eq!(config.plain_errors, PlainErrors::Text);
        assert_eq!(config.privilege, Privilege::User);
        assert_eq!(config.control.socket(6660), std::path::Path::new("/tmp/hornpipe-1000/6660.sock"));
    }

    #[test]
    fn the_command_line_goes_before_the_environment() {
        let environment = Environment::of([("HORNPIPE_WORKERS", "2"), ("HORNPIPE_ATTEMPTS", "7")]);
        let flags = RawConfig { workers: Some(3), ..raw() };
        let both = settings(environment.settings().unwrap().overridden_by(flags)).unwrap();
        assert_eq!((both.workers, both.attempts), (3, 7));
    }

    #[test]
    fn nothing_is_open_to_other_machines_unless_a_flag_says_so() {
        for ports in
            [("*:6660", "6661"), ("6660", "0.0.0.0:6661"), ("[::]:6660", "6661"), ("192.0.2.1:1", "2")]
        {
            let error = resolve(raw(), ports, &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Exposed { .. }), "{ports:?}: {error}");
            let config = resolve(RawConfig { insecure: Some(true), ..raw() }, ports, &[]).unwrap();
            assert_eq!(config.external, External::Anybody);
        }
        assert_eq!(
            resolve(raw(), (":6660", "6661"), &[]).unwrap_err().to_string(),
            ":6660 is open to other machines, and whoever reaches it could ask and serve: listen on 127.0.0.1, \
             or add --insecure if that is meant"
        );
        let nobody = RawConfig { insecure: Some(true), no_external: Some(true), ..raw() };
        assert_eq!(resolve(nobody, ("1", "2"), &[]).unwrap().external, External::Nobody);
    }

    #[test]
    fn the_same_port_twice_is_refused_but_two_free_ones_are_fine() {
        let insecure = || RawConfig { insecure: Some(true), ..raw() };
        let same = Err(ConfigError::SamePort { port: 6660 });
        assert_eq!(resolve(raw(), ("6660", "6660"), &[]), same);
        assert_eq!(resolve(insecure(), ("*:6660", "6660"), &[]), same);
        assert_eq!(resolve(insecure(), ("192.0.2.1:6660", "[::]:6660"), &[]), same);
        assert!(resolve(insecure(), ("192.0.2.1:6660", "6660"), &[]).is_ok());
        assert!(resolve(raw(), ("0", "0"), &[]).is_ok());
    }

    #[test]
    fn only_root_may_become_somebody_else() {
        let user = || RawConfig { user: Some("root".into()), ..raw() };
        assert_eq!(sentence(user()), "--user is for root: only root may change that");
        let chroot = RawConfig { chroot: Some("/tmp".into()), ..raw() };
        assert_eq!(sentence(chroot), "--chroot is for root: only root may change that");
        let as_root = |raw: RawConfig| {
            let root = Surroundings { user: Uid::from_raw(0), ..surroundings() };
            let (frontend, backend) = ("1".parse().unwrap(), "2".parse().unwrap());
            raw.resolve((&frontend, &backend), Vec::new(), &root)
        };
        let config = as_root(user()).unwrap();
        assert_eq!((config.identity.user, config.identity.group), (Some(0), Some(0)));
        assert_eq!(config.privilege, Privilege::Root);
        assert_eq!(as_root(raw()).unwrap().privilege, Privilege::Root);
        let number = RawConfig { user: Some("4000000000".into()), ..raw() };
        assert_eq!(as_root(number.clone()), Err(ConfigError::GroupNeeded { user: 4_000_000_000 }));
        let config = as_root(RawConfig { group: Some("12345".into()), ..number }).unwrap();
        assert_eq!(config.identity.supplementary_groups, Some(vec![12345]));
        assert_eq!(config.privilege, Privilege::User);
        assert_eq!(config.log.owner, Some((4_000_000_000, 12345)));
        let nobody = as_root(RawConfig { user: Some("no-such-user".into()), ..raw() }).unwrap_err();
        assert_eq!(nobody.to_string(), "there is no user \"no-such-user\" on this machine");
    }

    #[test]
    fn a_directory_that_is_none_is_told_before_anything_starts() {
        let sentence = sentence(RawConfig { chdir: Some("/dev/null".into()), ..raw() });
        assert_eq!(sentence, "--chdir: /dev/null is not a directory");
    }
}
