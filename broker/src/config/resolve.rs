//! From what was written to what it means: every default and every check.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Gid, Uid};

use super::account::{Account, find_group};
use super::operators::operators;
use super::pool_size::PoolSize;
use super::{
    Address, Config, ConfigError, ControlPlace, Environment, External, PlainErrors, Privilege, ProgramKind,
    RawConfig, env,
};
use crate::core::{MAX_WORKERS, Settings};
use crate::logging::{Colour, Level, LogChoices, LogFormat};
use crate::parent::Identity;

/// How long a worker may take to answer its probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

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

impl RawConfig {
    /// What it means for a broker with these ports and this program.
    ///
    /// # Errors
    /// The first thing that cannot be, and what to write instead.
    pub fn resolve(
        self,
        (frontend, backend): (&Address, &Address),
        argv: Vec<OsString>,
        surroundings: &Surroundings,
    ) -> Result<Config, ConfigError> {
        let (frontend, backend) = self.resolve_addresses(frontend, backend)?;
        let http = self.resolve_http([frontend, backend])?;
        let program = self.resolve_program(argv)?;
        let identity = self.resolve_identity(surroundings)?;
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
        let worker_environment = self.resolve_environment(surroundings.environment.for_workers())?;
        Ok(Config {
            core: self.resolve_settings(&program, surroundings)?,
            external: match (self.no_external, self.insecure) {
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
            probe: self.probe.clone().map(String::into_bytes),
            reload_on: watched(self.reload_on.clone().unwrap_or_default())?,
            conditions: self.resolve_conditions(),
            hooks: self.hook.unwrap_or_default(),
            pid_file: self.pid_file.map(full_path).transpose()?,
            check_for_dead: self.check_for_dead,
            search_path: env::search_path(&worker_environment),
            worker_environment,
            frontend,
            backend,
            http,
            program,
            identity,
            log,
        })
    }

    fn resolve_addresses(
        &self,
        frontend: &Address,
        backend: &Address,
    ) -> Result<(SocketAddr, SocketAddr), ConfigError> {
        let resolve = |address: &Address| {
            let resolved = address
                .resolve()
                .map_err(|source| ConfigError::Address { address: address.clone(), source })?;
            if !resolved.ip().is_loopback() && !self.insecure {
                return Err(ConfigError::Exposed { address: address.clone() });
            }
            Ok(resolved)
        };
        let (front, back) = (resolve(frontend)?, resolve(backend)?);
        if front.port() != 0 && overlap(front, back) {
            return Err(ConfigError::SamePort { port: front.port() });
        }
        Ok((front, back))
    }

    fn resolve_http(&self, others: [SocketAddr; 2]) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(address) = &self.http else { return Ok(None) };
        let resolved =
            address.resolve().map_err(|source| ConfigError::Address { address: address.clone(), source })?;
        if !resolved.ip().is_loopback() && !self.insecure {
            return Err(ConfigError::HttpExposed { address: address.clone() });
        }
        if resolved.port() != 0 && others.iter().any(|other| overlap(*other, resolved)) {
            return Err(ConfigError::HttpPort { port: resolved.port() });
        }
        Ok(Some(resolved))
    }

    fn resolve_program(&self, argv: Vec<OsString>) -> Result<ProgramKind, ConfigError> {
        if argv.first().is_some_and(|name| name.is_empty()) {
            return Err(ConfigError::EmptyProgram);
        }
        match (self.each, self.lines) {
            (true, true) => Err(ConfigError::EachAndLines),
            (true, false) if argv.is_empty() => Err(ConfigError::NoProgram { option: "--each" }),
            (false, true) if argv.is_empty() => Err(ConfigError::NoProgram { option: "--lines" }),
            (true, false) => Ok(ProgramKind::Each(argv)),
            (false, true) => Ok(ProgramKind::Lines(argv)),
            (false, false) if !argv.is_empty() => Ok(ProgramKind::Exec(argv)),
            // An echo that joins later would take the work of workers from elsewhere.
            (false, false) if self.workers == Some(0) => Ok(ProgramKind::None),
            (false, false) => Ok(ProgramKind::Echo),
        }
    }

    fn resolve_settings(
        &self,
        program: &ProgramKind,
        surroundings: &Surroundings,
    ) -> Result<Settings, ConfigError> {
        let defaults = Settings::default();
        let held_bytes_limit = self.queue_bytes.unwrap_or(defaults.held_bytes_limit);
        let body_limit = self.max_body.unwrap_or(defaults.body_limit.min(held_bytes_limit));
        // libzmq counts in signed 64 bits, and is told twice this.
        if i64::MAX.unsigned_abs() / 2 < body_limit {
            return Err(ConfigError::BodyTooLarge);
        }
        if held_bytes_limit < body_limit {
            return Err(ConfigError::BodyAboveQueue { max_body: body_limit, queue_bytes: held_bytes_limit });
        }
        let zeros = [
            (self.attempts == Some(0), "--attempts"),
            (self.max_requests == Some(0), "--max-requests"),
            (self.timeout.is_some_and(|time| time.is_zero()), "--timeout"),
            (self.queue_timeout.is_some_and(|time| time.is_zero()), "--queue-timeout"),
            (self.boot_timeout.is_some_and(|time| time.is_zero()), "--boot-timeout"),
            (self.scale_up_wait.is_some_and(|time| time.is_zero()), "--scale-up-wait"),
            (self.scale_down_after.is_some_and(|time| time.is_zero()), "--scale-down-after"),
            (self.check_for_waiting.is_some_and(|time| time.is_zero()), "--check-for-waiting"),
            (self.surge == Some(0), "--surge"),
            (self.probe_timeout.is_some_and(|time| time.is_zero()), "--probe-timeout"),
            (body_limit == 0, "--max-body"),
        ];
        if let Some((_, option)) = zeros.into_iter().find(|(wrong, _)| *wrong) {
            return Err(ConfigError::Zero { option });
        }
        self.check_wear()?;
        let PoolSize { workers, min, max } = self.resolve_pool(program, surroundings.processors)?;
        let (autoscale, spares) = (self.resolve_autoscale()?, self.resolve_spares()?);
        Ok(Settings {
            workers,
            min,
            max,
            attempts: self.attempts.unwrap_or(defaults.attempts),
            timeout: self.timeout.or(defaults.timeout),
            queue_timeout: self.queue_timeout.or(defaults.queue_timeout),
            boot_timeout: self.boot_timeout.unwrap_or(defaults.boot_timeout),
            cancel_grace: self.cancel_grace.unwrap_or(defaults.cancel_grace),
            term_grace: self.term_grace.unwrap_or(defaults.term_grace),
            backlog_limit: self.queue.unwrap_or(defaults.backlog_limit),
            held_bytes_limit,
            body_limit,
            drain: self.drain.unwrap_or(defaults.drain),
            max_requests: self.max_requests.or(defaults.max_requests),
            max_age: self.max_age.or(defaults.max_age),
            idle_timeout: self.idle_timeout.or(defaults.idle_timeout),
            max_memory: self.max_memory.or(defaults.max_memory),
            max_memory_hard: self.max_memory_hard.or(defaults.max_memory_hard),
            fresh: self.fresh,
            autoscale,
            spares,
            surge: self.surge.unwrap_or(defaults.surge),
            tell_ends: self.access_log,
            probe_timeout: self.probe.is_some().then(|| self.probe_timeout.unwrap_or(PROBE_TIMEOUT)),
            ..defaults
        })
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

/// A path that is not there is a typing mistake, most of the time.
fn watched(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    let found = |path: PathBuf| {
        let path = full_path(path)?;
        if path.exists() { Ok(path) } else { Err(ConfigError::NothingThere { option: "--reload-on", path }) }
    };
    paths.into_iter().map(found).collect()
}

/// The same path from every working directory.
pub(super) fn full_path(path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|_error| ConfigError::NoWorkingDirectory { path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings { processors: 6, user: Uid::from_raw(1000), environment: Environment::of([]) }
    }

    fn resolve(raw: RawConfig, ports: (&str, &str), argv: &[&str]) -> Result<Config, ConfigError> {
        let (frontend, backend) = (ports.0.parse().unwrap(), ports.1.parse().unwrap());
        raw.resolve((&frontend, &backend), argv.iter().map(OsString::from).collect(), &surroundings())
    }

    fn settings(raw: RawConfig) -> Result<Settings, ConfigError> {
        resolve(raw, ("6660", "6661"), &["worker"]).map(|config| config.core)
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
        let meant = RawConfig { insecure: true, ..http("*:9090") };
        assert_eq!(port(meant), Ok("0.0.0.0:9090".parse().ok()));
    }

    #[test]
    fn what_nobody_says_has_its_default() {
        let config = resolve(raw(), ("6660", "6661"), &[]).unwrap();
        assert_eq!(config.core, Settings { workers: 6, ..Settings::default() });
        assert_eq!((config.core.min, config.core.max), (1, MAX_WORKERS));
        assert_eq!(config.frontend.to_string(), "127.0.0.1:6660");
        assert_eq!(config.backend.to_string(), "127.0.0.1:6661");
        assert_eq!(config.program, ProgramKind::Echo);
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
            let config = resolve(RawConfig { insecure: true, ..raw() }, ports, &[]).unwrap();
            assert_eq!(config.external, External::Anybody);
        }
        assert_eq!(
            resolve(raw(), (":6660", "6661"), &[]).unwrap_err().to_string(),
            ":6660 is open to other machines, and whoever reaches it could ask and serve: listen on 127.0.0.1, \
             or add --insecure if that is meant"
        );
        let nobody = RawConfig { insecure: true, no_external: true, ..raw() };
        assert_eq!(resolve(nobody, ("1", "2"), &[]).unwrap().external, External::Nobody);
    }

    #[test]
    fn the_same_port_twice_is_refused_but_two_free_ones_are_fine() {
        let insecure = || RawConfig { insecure: true, ..raw() };
        let same = Err(ConfigError::SamePort { port: 6660 });
        assert_eq!(resolve(raw(), ("6660", "6660"), &[]), same);
        assert_eq!(resolve(insecure(), ("*:6660", "6660"), &[]), same);
        assert_eq!(resolve(insecure(), ("192.0.2.1:6660", "[::]:6660"), &[]), same);
        assert!(resolve(insecure(), ("192.0.2.1:6660", "6660"), &[]).is_ok());
        assert!(resolve(raw(), ("0", "0"), &[]).is_ok());
    }

    #[test]
    fn no_workers_and_no_program_can_never_become_workers() {
        let none = RawConfig { workers: Some(0), ..raw() };
        let config = resolve(none.clone(), ("6660", "6661"), &[]).unwrap();
        assert_eq!((config.program, config.core.max), (ProgramKind::None, 0));
        let grows = RawConfig { max: Some(3), ..none };
        assert_eq!(resolve(grows, ("6660", "6661"), &[]), Err(ConfigError::NoProgramToGrow));
    }

    #[test]
    fn a_program_is_what_the_switches_make_of_it() {
        let argv = || vec![OsString::from("tr"), OsString::from("a-z")];
        let kind = |raw, argv: &[&str]| resolve(raw, ("1", "2"), argv).map(|config| config.program);
        let each = RawConfig { each: true, ..raw() };
        let lines = RawConfig { lines: true, ..raw() };
        assert_eq!(kind(raw(), &["tr", "a-z"]), Ok(ProgramKind::Exec(argv())));
        assert_eq!(kind(each.clone(), &["tr", "a-z"]), Ok(ProgramKind::Each(argv())));
        assert_eq!(kind(lines.clone(), &["tr", "a-z"]), Ok(ProgramKind::Lines(argv())));
        assert_eq!(kind(each.clone(), &[]), Err(ConfigError::NoProgram { option: "--each" }));
        assert_eq!(kind(lines.clone(), &[]), Err(ConfigError::NoProgram { option: "--lines" }));
        assert_eq!(kind(each.overridden_by(lines), &["tr"]), Err(ConfigError::EachAndLines));
        assert_eq!(kind(raw(), &[""]), Err(ConfigError::EmptyProgram));
    }

    #[test]
    fn a_limit_of_zero_is_refused_where_it_would_serve_nobody() {
        let zero = Some(Duration::ZERO);
        for (raw, option) in [
            (RawConfig { attempts: Some(0), ..raw() }, "--attempts"),
            (RawConfig { timeout: zero, ..raw() }, "--timeout"),
            (RawConfig { boot_timeout: zero, ..raw() }, "--boot-timeout"),
            (RawConfig { max_requests: Some(0), ..raw() }, "--max-requests"),
            (RawConfig { max_body: Some(0), ..raw() }, "--max-body"),
            (RawConfig { surge: Some(0), ..raw() }, "--surge"),
            (RawConfig { probe_timeout: zero, ..raw() }, "--probe-timeout"),
        ] {
            assert_eq!(sentence(raw), format!("{option} must be more than 0"));
        }
        let quick = RawConfig { drain: zero, queue: Some(0), ..raw() };
        assert!(settings(quick).is_ok());
    }

    #[test]
    fn a_body_must_fit_into_the_queue() {
        let small = settings(RawConfig { queue_bytes: Some(1 << 20), ..raw() }).unwrap();
        assert_eq!(small.body_limit, 1 << 20);
        assert_eq!(
            sentence(RawConfig { max_body: Some(1 << 30), ..raw() }),
            "--max-body 1GiB is more than --queue-bytes 256MiB, so such a body would never be taken"
        );
        let endless = RawConfig { max_body: Some(u64::MAX), queue_bytes: Some(u64::MAX), ..raw() };
        assert_eq!(settings(endless), Err(ConfigError::BodyTooLarge));
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
    fn a_path_to_watch_must_be_there() {
        let raw = |path: &str| RawConfig { reload_on: Some(vec![path.into()]), ..raw() };
        assert_eq!(sentence(raw("/dev/no-such")), "--reload-on: there is no /dev/no-such");
        assert_eq!(
            resolve(raw("/dev/null"), ("1", "2"), &[]).unwrap().reload_on,
            [PathBuf::from("/dev/null")]
        );
    }

    #[test]
    fn a_directory_that_is_none_is_told_before_anything_starts() {
        let sentence = sentence(RawConfig { chdir: Some("/dev/null".into()), ..raw() });
        assert_eq!(sentence, "--chdir: /dev/null is not a directory");
    }
}
