//! What belongs to one service: its program, its pool, the limits of its requests, and
//! under what its workers run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::pool_size::PoolSize;
use super::resolve::full_path;
use super::{ConfigError, Framing, RawConfig, Surroundings, env};
use crate::core::Settings;
use crate::parent::Conditions;

/// The service of requests and workers that name none.
pub(super) const DEFAULT_SERVICE: &str = "default";

/// How long a worker may take to answer its probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// A probe is no load: it travels from parent to router in one packet, with all settings.
const PROBE_LIMIT: usize = 8 * 1024;

/// One service, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// What it is asked for by.
    pub name: String,
    /// The numbers that decisions depend on.
    pub core: Settings,
    /// What a worker is.
    pub program: ProgramKind,
    /// Whether the program is loaded once, in a mold, which forks the workers.
    pub molded: bool,
    /// What each worker of a reload is asked first.
    pub probe: Option<Vec<u8>>,
    /// Paths whose change is a reload.
    pub reload_on: Vec<PathBuf>,
    /// What workers alone run under.
    pub conditions: Conditions,
    /// The environment of workers, before what names each of them is added.
    pub worker_environment: Vec<(OsString, OsString)>,
    /// Where the programs of `--each` and `--lines` are looked for.
    pub search_path: OsString,
}

/// What a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramKind {
    /// A program that speaks the worker protocol.
    Exec(Vec<OsString>),
    /// A program that runs once for each request.
    Each(Vec<OsString>),
    /// A program that answers message for message.
    Lines {
        /// The program and its arguments.
        argv: Vec<OsString>,
        /// How the messages are told apart.
        framing: Framing,
    },
    /// The built-in worker that replies what it is sent.
    Echo,
    /// This broker starts no workers.
    None,
}

impl RawConfig {
    /// What its service keys mean for the service of that name.
    pub(super) fn resolve_service(
        &self,
        name: &str,
        argv: Vec<OsString>,
        surroundings: &Surroundings,
    ) -> Result<ServiceConfig, ConfigError> {
        let program = self.resolve_program(argv)?;
        let worker_environment = self.resolve_environment(surroundings.environment.for_workers())?;
        Ok(ServiceConfig {
            name: name.to_owned(),
            core: self.resolve_settings(&program, surroundings)?,
            molded: self.is_molded(&program)?,
            probe: self.resolve_probe()?,
            reload_on: watched(self.reload_on.clone().unwrap_or_default())?,
            conditions: self.resolve_conditions(),
            search_path: env::search_path(&worker_environment),
            worker_environment,
            program,
        })
    }

    fn resolve_probe(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        match &self.probe {
            Some(body) if PROBE_LIMIT < body.len() => {
                Err(ConfigError::ProbeTooLarge { limit: PROBE_LIMIT as u64 })
            }
            body => Ok(body.clone().map(String::into_bytes)),
        }
    }

    fn resolve_program(&self, argv: Vec<OsString>) -> Result<ProgramKind, ConfigError> {
        if argv.first().is_some_and(|name| name.is_empty()) {
            return Err(ConfigError::EmptyProgram);
        }
        let framing = self.framing.unwrap_or_default();
        match (self.each == Some(true), self.lines == Some(true)) {
            (_, false) if framing != Framing::Line => Err(ConfigError::FramingWithoutLines),
            (true, true) => Err(ConfigError::EachAndLines),
            (true, false) if argv.is_empty() => Err(ConfigError::NoProgram { option: "--each" }),
            (false, true) if argv.is_empty() => Err(ConfigError::NoProgram { option: "--lines" }),
            (true, false) => Ok(ProgramKind::Each(argv)),
            (false, true) => Ok(ProgramKind::Lines { argv, framing }),
            (false, false) if !argv.is_empty() => Ok(ProgramKind::Exec(argv)),
            // An echo that joins later would take the work of workers from elsewhere.
            (false, false) if self.workers == Some(0) => Ok(ProgramKind::None),
            (false, false) => Ok(ProgramKind::Echo),
        }
    }

    /// A program is a mold if its command line says so; what it does when it is started is
    /// found out too late.
    fn is_molded(&self, program: &ProgramKind) -> Result<bool, ConfigError> {
        let ProgramKind::Exec(argv) = program else {
            return if self.mold == Some(true) { Err(ConfigError::NothingToMold) } else { Ok(false) };
        };
        if self.no_mold == Some(true) {
            return Ok(false);
        }
        // Each process of `--fresh` is to run the code as it is by then.
        Ok(self.mold.unwrap_or_else(|| self.fresh != Some(true) && runs_our_module(argv)))
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
            (self.part_timeout.is_some_and(|time| time.is_zero()), "--part-timeout"),
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
            part_timeout: self.part_timeout.or(defaults.part_timeout),
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
            fresh: self.fresh == Some(true),
            autoscale,
            spares,
            surge: self.surge.unwrap_or(defaults.surge),
            affinity_wait: self.affinity_wait.unwrap_or(defaults.affinity_wait),
            prefetch: self.prefetch.or(defaults.prefetch).filter(|budget| !budget.is_zero()),
            client_backlog_limit: self.client_queue.or(defaults.client_backlog_limit),
            client_bytes_limit: self.client_queue_bytes.or(defaults.client_bytes_limit),
            cancel_on_disconnect: self.cancel_on_disconnect == Some(true),
            key_window: self.key_window.unwrap_or(defaults.key_window),
            keys_limit: self.keys.unwrap_or(defaults.keys_limit),
            key_bytes_limit: self.key_bytes.unwrap_or(defaults.key_bytes_limit),
            tell_ends: self.access_log == Some(true),
            probe_timeout: self.probe.is_some().then(|| self.probe_timeout.unwrap_or(PROBE_TIMEOUT)),
            ..defaults
        })
    }
}

/// `python3 -m hornpipe app.py`, whatever stands around it.
fn runs_our_module(argv: &[OsString]) -> bool {
    argv.windows(2).any(|pair| matches!(pair, [option, module] if option == "-m" && module == "hornpipe"))
}

/// A path that is not there is a typing mistake, most of the time.
fn watched(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    let found = |path: PathBuf| {
        let path = full_path(path)?;
        if path.exists() { Ok(path) } else { Err(ConfigError::NothingThere { option: "--reload-on", path }) }
    };
    paths.into_iter().map(found).collect()
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;
    use crate::config::Environment;

    #[expect(clippy::needless_pass_by_value, reason = "a test makes one and is done with it")]
    fn resolve(raw: RawConfig, argv: &[&str]) -> Result<ServiceConfig, ConfigError> {
        let user = Uid::from_raw(1000);
        let surroundings = Surroundings { processors: 6, user, environment: Environment::of([]) };
        raw.resolve_service("resize", argv.iter().map(OsString::from).collect(), &surroundings)
    }

    fn settings(raw: RawConfig) -> Result<Settings, ConfigError> {
        resolve(raw, &["worker"]).map(|service| service.core)
    }

    fn sentence(raw: RawConfig) -> String {
        resolve(raw, &[]).unwrap_err().to_string()
    }

    fn raw() -> RawConfig {
        RawConfig::default()
    }

    #[test]
    fn a_program_is_a_mold_by_its_command_line_or_by_the_operators_word() {
        let ours = ["poetry", "run", "python3", "-m", "hornpipe", "app.py"];
        let is_molded = |raw: RawConfig, argv: &[&str]| resolve(raw, argv).map(|service| service.molded);
        let (mold, no_mold) = (Some(true), Some(true));
        assert_eq!(is_molded(raw(), &ours), Ok(true));
        assert_eq!(is_molded(raw(), &["python3", "hornpipe", "-m"]), Ok(false));
        assert_eq!(is_molded(RawConfig { no_mold, ..raw() }, &ours), Ok(false));
        assert_eq!(is_molded(RawConfig { fresh: Some(true), ..raw() }, &ours), Ok(false));
        assert_eq!(is_molded(RawConfig { fresh: Some(true), mold, ..raw() }, &ours), Ok(true));
        assert_eq!(is_molded(RawConfig { mold, ..raw() }, &["./mold"]), Ok(true));
        assert_eq!(is_molded(RawConfig { mold, ..raw() }, &[]), Err(ConfigError::NothingToMold));
        let each = RawConfig { mold, each: Some(true), ..raw() };
        assert_eq!(is_molded(each, &["cat"]), Err(ConfigError::NothingToMold));
    }

    #[test]
    fn no_workers_and_no_program_can_never_become_workers() {
        let none = RawConfig { workers: Some(0), ..raw() };
        let config = resolve(none.clone(), &[]).unwrap();
        assert_eq!((config.program, config.core.max), (ProgramKind::None, 0));
        let grows = RawConfig { max: Some(3), ..none };
        assert_eq!(resolve(grows, &[]), Err(ConfigError::NoProgramToGrow));
    }

    #[test]
    fn a_program_is_what_the_switches_make_of_it() {
        let argv = || vec![OsString::from("tr"), OsString::from("a-z")];
        let kind = |raw, argv: &[&str]| resolve(raw, argv).map(|config| config.program);
        let each = RawConfig { each: Some(true), ..raw() };
        let lines = RawConfig { lines: Some(true), ..raw() };
        assert_eq!(kind(raw(), &["tr", "a-z"]), Ok(ProgramKind::Exec(argv())));
        assert_eq!(kind(each.clone(), &["tr", "a-z"]), Ok(ProgramKind::Each(argv())));
        let of_lines = |framing| Ok(ProgramKind::Lines { argv: argv(), framing });
        assert_eq!(kind(lines.clone(), &["tr", "a-z"]), of_lines(Framing::Line));
        let netstrings = RawConfig { framing: Some(Framing::Netstring), ..lines.clone() };
        assert_eq!(kind(netstrings, &["tr", "a-z"]), of_lines(Framing::Netstring));
        for other in [raw(), each.clone()] {
            let framed = |framing| RawConfig { framing: Some(framing), ..other.clone() };
            assert_eq!(kind(framed(Framing::Length), &["tr"]), Err(ConfigError::FramingWithoutLines));
            assert!(kind(framed(Framing::Line), &["tr"]).is_ok(), "the default may be written down");
        }
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
    fn a_path_to_watch_must_be_there() {
        let raw = |path: &str| RawConfig { reload_on: Some(vec![path.into()]), ..raw() };
        assert_eq!(sentence(raw("/dev/no-such")), "--reload-on: there is no /dev/no-such");
        assert_eq!(resolve(raw("/dev/null"), &[]).unwrap().reload_on, [PathBuf::from("/dev/null")]);
    }
}
