//! Everything that was said, place by place, and what it means together: the command line
//! goes before the environment, that before the file, and the file before the defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::crew::CrewOptions;
use super::document::{self, FileLayer, ServiceLayer};
use super::env::EnvironmentLayer;
use super::file::{self, FileError, FileProblem};
use super::resolve::Places;
use super::service::DEFAULT_SERVICE;
use super::{Address, Config, ConfigError, RawConfig, Surroundings};
use crate::parent::errand::Errand;
use crate::parent::inheritance;

/// What the command line says, or a program that is a broker itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// FRONTEND.
    pub frontend: Option<Address>,
    /// BACKEND.
    pub backend: Option<Address>,
    /// The ports of a broker for which nobody names any.
    pub default_ports: Option<(Address, Address)>,
    /// What stands after `--`; nothing is not mentioned.
    pub program: Vec<OsString>,
    /// `--config`; the environment may name one too.
    pub file: Option<PathBuf>,
    /// All options.
    pub options: RawConfig,
    /// What makes it a crew.
    pub crew: Option<CrewOptions>,
}

impl CommandLine {
    /// The file that is to be read, if any.
    fn file_in(&self, surroundings: &Surroundings) -> Option<PathBuf> {
        self.file.clone().or_else(|| surroundings.environment.config_file())
    }
}

/// A configuration, and all that it was made of: it can be read again.
#[derive(Debug, Clone)]
pub struct Configured {
    /// What it means.
    pub config: Config,
    /// Why the file as it is now was passed over, if it was: by a program that takes over from
    /// another, which has left what it had read.
    pub passed_over: Option<ConfigError>,
    pub(super) layers: Layers,
    pub(super) surroundings: Surroundings,
}

/// What was said, from the highest layer to the lowest.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) command_line: CommandLine,
    pub(super) environment: EnvironmentLayer,
    pub(super) file: FileLayer,
    pub(super) path: Option<PathBuf>,
    /// What stands in the file.
    pub(super) text: Option<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    CommandLine,
    /// This variable.
    Variable(String),
    /// This line of the file.
    File(PathBuf, usize),
    /// Nobody has said anything.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Configured {
    /// What the command line, the environment and the file mean together.
    ///
    /// # Errors
    /// The first thing that cannot be, and what to write instead.
    pub fn read(command_line: CommandLine, surroundings: Surroundings) -> Result<Self, ConfigError> {
        let read = Layers::read(command_line.clone(), &surroundings)
            .and_then(|layers| Self::of(layers, surroundings.clone()));
        match read {
            Err(error) if error.is_of_file() => {
                // Workers must not die because a file has changed since the program was tried.
                let Some(text) = text_of_before(&surroundings) else { return Err(error) };
                let layers = Layers::of(command_line, &surroundings, Some(text))?;
                Ok(Self { passed_over: Some(error), ..Self::of(layers, surroundings)? })
            }
            read => read,
        }
    }

    fn of(layers: Layers, surroundings: Surroundings) -> Result<Self, ConfigError> {
        let nowhere = Address::anywhere();
        let (frontend, backend) = match layers.command_line.crew {
            Some(_) => (Some(&nowhere), Some(&nowhere)),
            None => layers.ports(),
        };
        let argument = |argument| move || ConfigError::NoAddress { argument };
        let frontend = frontend.ok_or_else(argument("FRONTEND"))?;
        let backend = backend.ok_or_else(argument("BACKEND"))?;
        let merged = layers.merged();
        let places = merged.resolve_places((frontend, backend), &surroundings);
        let places = places.map_err(|error| layers.blame(error, DEFAULT_SERVICE))?;
        let mut config = layers.resolve(places, &surroundings)?;
        if let Some(options) = &layers.command_line.crew {
            options.apply(&mut config)?;
        }
        Ok(Self { config, passed_over: None, layers, surroundings })
    }

    /// The file as it is now, under the same command line and environment. Names of hosts
    /// and users are not looked up again: that may take long, and what listens and who runs
    /// cannot be changed any more.
    ///
    /// # Errors
    /// As [`Configured::read`].
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        let layers = Layers::read(self.layers.command_line.clone(), &self.surroundings)?;
        let mut config = layers.resolve(Places::of(&self.config), &self.surroundings)?;
        if let Some(options) = &layers.command_line.crew {
            options.apply(&mut config)?;
        }
        Ok(Self { config, passed_over: None, layers, surroundings: self.surroundings.clone() })
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.layers.path.as_deref()
    }

    /// What stands in it.
    pub fn text(&self) -> Option<String> {
        self.layers.text.clone()
    }

    /// Where a key's value comes from.
    pub(super) fn origin(&self, service: &str, key: &str) -> Origin {
        self.layers.origin(service, key)
    }
}

/// What the program had read that this one takes over from.
fn text_of_before(surroundings: &Surroundings) -> Option<String> {
    match surroundings.environment.errand() {
        Errand::Take { inheritance } => inheritance::settings_text(inheritance),
        Errand::None | Errand::Try { .. } => None,
    }
}

impl Layers {
    fn read(command_line: CommandLine, surroundings: &Surroundings) -> Result<Self, ConfigError> {
        let text = command_line.file_in(surroundings).map(|path| file::read(&path)).transpose();
        let text = text.map_err(|error| ConfigError::File(Box::new(error)))?;
        Self::of(command_line, surroundings, text)
    }

    fn of(
        command_line: CommandLine,
        surroundings: &Surroundings,
        text: Option<String>,
    ) -> Result<Self, ConfigError> {
        let environment = surroundings.environment.layer()?;
        let path = command_line.file_in(surroundings);
        let file = match (&path, &text) {
            (Some(path), Some(text)) => document::parse(path, text),
            _ => Ok(FileLayer::default()),
        };
        let file = file.map_err(|error| ConfigError::File(Box::new(error)))?;
        Ok(Self { command_line, environment, file, path, text })
    }

    pub(super) fn ports(&self) -> (Option<&Address>, Option<&Address>) {
        let Self { command_line, file, .. } = self;
        let (frontend, backend) =
            command_line.default_ports.as_ref().map(|(front, back)| (front, back)).unzip();
        (
            command_line.frontend.as_ref().or(file.frontend.as_ref()).or(frontend),
            command_line.backend.as_ref().or(file.backend.as_ref()).or(backend),
        )
    }

    /// The options of the broker and its default service.
    pub(super) fn merged(&self) -> RawConfig {
        let file = self.file.default.options.clone();
        file.overridden_by(self.environment.options.clone()).overridden_by(self.command_line.options.clone())
    }

    /// Those of another service, which only the file can have.
    pub(super) fn merged_for(&self, service: &ServiceLayer) -> RawConfig {
        // A stop has one time for all, and whoever wants to see requests wants to see all.
        let RawConfig { drain, access_log, .. } = self.merged();
        let access_log = service.options.access_log.or(access_log);
        RawConfig { drain, access_log, ..service.options.clone() }
    }

    fn program(&self) -> Vec<OsString> {
        if self.command_line.program.is_empty() {
            self.file.default.program.clone().unwrap_or_default()
        } else {
            self.command_line.program.clone()
        }
    }

    fn resolve(&self, places: Places, surroundings: &Surroundings) -> Result<Config, ConfigError> {
        let config = self.merged().resolve_in(places, self.program(), surroundings);
        let mut config = config.map_err(|error| self.blame(error, DEFAULT_SERVICE))?;
        for (name, service) in &self.file.further {
            let argv = service.program.clone().unwrap_or_default();
            let resolved = self.merged_for(service).resolve_service(name, argv, surroundings);
            config.further.push(resolved.map_err(|error| self.blame(error, name))?);
        }
        Ok(config)
    }

    /// If it was the file that said it, the file and the line are to be named.
    fn blame(&self, error: ConfigError, service: &str) -> ConfigError {
        let lines = self.file_layer(service).map(|layer| &layer.written);
        let counts = |key: &&str| service != DEFAULT_SERVICE || !self.is_overridden(key);
        let line = lines.and_then(|lines| {
            let named = error.keys().into_iter().filter(counts).find_map(|key| lines.get(key));
            // What is missing in a service stands in none of its lines.
            named.or_else(|| lines.get("")).map(|written| written.line)
        });
        match (line, &self.path) {
            (Some(line), Some(path)) => ConfigError::File(Box::new(FileError {
                path: path.clone(),
                line: Some(line),
                problem: FileProblem::Meaning(Box::new(error)),
            })),
            _ => error,
        }
    }

    /// What the file says of a service.
    pub(super) fn file_layer(&self, service: &str) -> Option<&ServiceLayer> {
        match service {
            DEFAULT_SERVICE => Some(&self.file.default),
            other => self.file.further.get(other),
        }
    }

    /// Whether what the file says of a key of the default service does not count.
    pub(super) fn is_overridden(&self, key: &str) -> bool {
        !matches!(self.origin_above_file(key), Origin::Default)
    }

    fn origin_above_file(&self, key: &str) -> Origin {
        let Self { command_line, environment, .. } = self;
        let on_command_line = match key {
            "frontend" => command_line.frontend.is_some(),
            "backend" => command_line.backend.is_some(),
            "program" => !command_line.program.is_empty(),
            _ => command_line.options.mentioned().contains(key),
        };
        match environment.variables.get(key) {
            _ if on_command_line => Origin::CommandLine,
            Some(variable) => Origin::Variable(variable.clone()),
            None => Origin::Default,
        }
    }

    pub(super) fn origin(&self, service: &str, key: &str) -> Origin {
        let above = match service {
            DEFAULT_SERVICE => self.origin_above_file(key),
            _ => Origin::Default,
        };
        let written = self.file_layer(service).and_then(|layer| layer.written.get(key));
        match (above, written, &self.path) {
            (Origin::Default, Some(written), Some(path)) => Origin::File(path.clone(), written.line),
            (above, _, _) => above,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;
    use crate::config::{Environment, ProgramKind};

    fn file(text: &str) -> PathBuf {
        let name = format!("hornpipe-layers-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read<const N: usize>(
        text: &str,
        variables: [(&str, &str); N],
        mut command_line: CommandLine,
    ) -> Result<Configured, ConfigError> {
        let path = file(text);
        command_line.file = Some(path.clone());
        let environment = Environment::of(variables);
        let surroundings = Surroundings { processors: 6, user: Uid::from_raw(1000), environment };
        let configured = Configured::read(command_line, surroundings);
        std::fs::remove_file(path).unwrap();
        configured
    }

    fn told(error: &ConfigError) -> String {
        let told = error.to_string();
        told.rsplit_once('/').map_or(told.clone(), |(_, rest)| rest.split_once(':').unwrap().1.to_owned())
    }

    const PORTS: &str = "frontend = 6660\nbackend = 6661\n";

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
        let text = format!("{PORTS}workers = 1\nattempts = 1\nqueue = 1\nprogram = ['file']\nfresh = true\n");
        let variables = [("HORNPIPE_WORKERS", "2"), ("HORNPIPE_ATTEMPTS", "2"), ("HORNPIPE_FRESH", "0")];
        let options = RawConfig { workers: Some(3), ..RawConfig::default() };
        let backend = "7777".parse().ok();
        let command_line = CommandLine { backend, options, ..CommandLine::default() };
        let configured = read(&text, variables, command_line.clone()).unwrap();
        let Config { default, frontend, backend, .. } = &configured.config;
        assert_eq!((default.core.workers, default.core.attempts, default.core.backlog_limit), (3, 2, 1));
        assert_eq!((default.core.fresh, frontend.port(), backend.port()), (false, 6660, 7777));
        assert_eq!(default.program, ProgramKind::Exec(vec!["file".into()]));
        let origin = |key| configured.origin(DEFAULT_SERVICE, key).to_string();
        assert_eq!(origin("workers"), "command line");
        assert_eq!(origin("backend"), "command line");
        assert_eq!(origin("attempts"), "HORNPIPE_ATTEMPTS");
        assert!(origin("queue").ends_with(":5"), "{}", origin("queue"));
        assert_eq!(origin("timeout"), "default");
        let program = vec!["words".into()];
        let configured = read(&text, variables, CommandLine { program, ..command_line }).unwrap();
        assert_eq!(configured.config.default.program, ProgramKind::Exec(vec!["words".into()]));
    }

    #[test]
    fn what_the_file_asks_for_and_cannot_be_is_told_with_its_line() {
        let refused = |text: &str| told(&read(text, [], CommandLine::default()).unwrap_err());
        assert_eq!(refused(&format!("{PORTS}min = 3\nmax = 2\n")), "3: --min 3 is more than --max 2");
        assert_eq!(refused(&format!("{PORTS}attempts = 0\n")), "3: --attempts must be more than 0");
        let open = "frontend = '*:6660'\nbackend = 6661\n";
        assert!(refused(open).starts_with("1: *:6660 is open"), "{}", refused(open));
        let service = format!("{PORTS}[service.resize]\neach = true\n");
        assert!(refused(&service).starts_with("4: --each needs a program"), "{}", refused(&service));
        assert!(refused("backend = 6661\n").starts_with("FRONTEND is missing"), "{}", refused("backend = 1"));
    }

    #[test]
    fn what_the_command_line_asks_for_is_not_the_files_fault() {
        let options = RawConfig { attempts: Some(0), ..RawConfig::default() };
        let command_line = CommandLine { options, ..CommandLine::default() };
        let error = read(&format!("{PORTS}attempts = 3\n"), [], command_line).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.is_of_file()),
            ("--attempts must be more than 0", false)
        );
    }

    #[test]
    fn a_service_begins_with_the_defaults_and_not_with_those_of_the_top() {
        let text = format!("{PORTS}workers = 2\ndrain = '3s'\n[service.resize]\nprogram = ['resize']\n");
        let configured = read(&text, [("HORNPIPE_ATTEMPTS", "9")], CommandLine::default()).unwrap();
        let [resize] = configured.config.further.as_slice() else { panic!("one service") };
        assert_eq!((resize.name.as_str(), resize.core.workers, resize.core.attempts), ("resize", 6, 2));
        assert_eq!(resize.core.drain, std::time::Duration::from_secs(3));
    }
}
