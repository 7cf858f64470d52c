//! The settings of a broker that is run for a moment, to see whether the real one would serve.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Config, Configured, ControlPlace, ServiceConfig};
use crate::logging::{Level, LogChoices, LogFormat};

impl Configured {
    /// One worker of that service as it would be, on free ports. What reaches beyond the
    /// broker is left out: hooks, files, and everything that a broker in use has already.
    #[must_use]
    pub fn rehearsal_of(&self, service: &ServiceConfig) -> Self {
        let Config { control, log, .. } = &self.config;
        let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut default = service.clone();
        (default.core.workers, default.core.min, default.core.max) = (1, 1, 1);
        (default.core.autoscale, default.core.spares) = (None, None);
        default.reload_on = Vec::new();
        // A crew's worker is asked here, and not by its brokers.
        default.core.lends_workers = false;
        let control = match control {
            ControlPlace::File(path) => {
                ControlPlace::File(path.with_extension(format!("check-{}", std::process::id())))
            }
            ControlPlace::Directory(_) | ControlPlace::Shared(_) => control.clone(),
        };
        let log = LogChoices { file: None, level: Level::Warn, format: LogFormat::Text, ..log.clone() };
        let config = Config {
            frontend: port,
            backend: port,
            crew: None,
            default,
            further: Vec::new(),
            hooks: Vec::new(),
            pid_file: None,
            control,
            log,
            ..self.config.clone()
        };
        Self { config, ..self.clone() }
    }
}
