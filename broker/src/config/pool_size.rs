//! How large the pool may be, how large it is at the start, and what moves it.

use std::time::Duration;

use super::{ConfigError, ProgramKind, RawConfig};
use crate::core::{AutoscaleRules, MAX_WORKERS, SpareRules};

/// How many workers, and between which limits.
#[derive(Debug)]
pub(super) struct PoolSize {
    pub(super) workers: u32,
    pub(super) min: u32,
    pub(super) max: u32,
}

impl RawConfig {
    pub(super) fn resolve_pool(
        &self,
        program: &ProgramKind,
        processors: u32,
    ) -> Result<PoolSize, ConfigError> {
        for (option, value) in [("--workers", self.workers), ("--min", self.min), ("--max", self.max)] {
            if value.is_some_and(|value| MAX_WORKERS < value) {
                return Err(ConfigError::TooManyWorkers { option, limit: MAX_WORKERS });
            }
        }
        if self.workers == Some(0) {
            if *program == ProgramKind::None {
                return match self.min.or(self.max).unwrap_or(0) {
                    0 => Ok(PoolSize { workers: 0, min: 0, max: 0 }),
                    _ => Err(ConfigError::NoProgramToGrow),
                };
            }
        } else {
            for (option, value) in [("--min", self.min), ("--max", self.max)] {
                if value == Some(0) {
                    return Err(ConfigError::Zero { option });
                }
            }
        }
        // Net::Server's `min_servers` is its floor, and with spare workers the size is not the operator's.
        let spares = self.min_spare_servers.is_some() || self.max_spare_servers.is_some();
        let max = self.max.unwrap_or(MAX_WORKERS);
        let lowest = self.workers.map_or(1, |workers| workers.min(if spares { max } else { 1 }));
        let min = self.min.unwrap_or(lowest);
        if max < min {
            return Err(ConfigError::MinAboveMax { min, max });
        }
        let start = if self.autoscales() { min } else { processors.clamp(min, max) };
        let workers = self.workers.unwrap_or(start);
        if workers < min || max < workers {
            return Err(ConfigError::WorkersOutside { workers, min, max });
        }
        Ok(PoolSize { workers, min, max })
    }

    /// Whoever gives two limits wants the pool to move between them.
    fn autoscales(&self) -> bool {
        let limits = self.min.zip(self.max);
        // A process that has one request is idle at no time that could be measured.
        self.no_autoscale != Some(true)
            && self.fresh != Some(true)
            && limits.is_some_and(|(min, max)| min < max)
    }

    pub(super) fn resolve_autoscale(&self) -> Result<Option<AutoscaleRules>, ConfigError> {
        if self.autoscales() {
            return Ok(Some(AutoscaleRules {
                up_wait: self.scale_up_wait.unwrap_or(Duration::from_millis(50)),
                down_after: self.scale_down_after.unwrap_or(Duration::from_secs(10)),
            }));
        }
        let times = [("--scale-up-wait", self.scale_up_wait), ("--scale-down-after", self.scale_down_after)];
        match times.into_iter().find(|(_, time)| time.is_some()) {
            Some((option, _)) => Err(ConfigError::NotAutoscaling { option }),
            None => Ok(None),
        }
    }

    pub(super) fn resolve_spares(&self) -> Result<Option<SpareRules>, ConfigError> {
        if self.min_spare_servers.is_none() && self.max_spare_servers.is_none() {
            return Ok(None);
        }
        if self.fresh == Some(true) {
            return Err(ConfigError::SparesWithFresh);
        }
        let (min, max) = (self.min_spare_servers.unwrap_or(0), self.max_spare_servers.unwrap_or(u32::MAX));
        if MAX_WORKERS < min {
            return Err(ConfigError::TooManyWorkers { option: "--min-spare-servers", limit: MAX_WORKERS });
        }
        if max < min {
            return Err(ConfigError::SparesCrossed { min, max });
        }
        if min > 0 && self.max.is_none() {
            return Err(ConfigError::SparesWithoutMax);
        }
        Ok(Some(SpareRules { min, max, check: self.check_for_waiting.unwrap_or(Duration::from_secs(10)) }))
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Uid;

    use super::*;
    use crate::config::{Environment, Surroundings};
    use crate::core::Settings;

    /// On a machine with six processors.
    fn settings(raw: RawConfig) -> Result<Settings, ConfigError> {
        let user = Uid::from_raw(1000);
        let surroundings = Surroundings { processors: 6, user, environment: Environment::of([]) };
        let ports = ("6660".parse().unwrap(), "6661".parse().unwrap());
        let config = raw.resolve((&ports.0, &ports.1), vec!["worker".into()], &surroundings);
        config.map(|config| config.default.core)
    }

    fn raw() -> RawConfig {
        RawConfig::default()
    }

    #[test]
    fn a_pool_starts_within_its_limits() {
        let size = |workers, min, max| {
            let settings = settings(RawConfig { workers, min, max, ..raw() });
            settings.map(|settings| (settings.workers, settings.min, settings.max))
        };
        assert_eq!(size(Some(4), None, None), Ok((4, 1, MAX_WORKERS)));
        assert_eq!(size(Some(0), None, None), Ok((0, 0, MAX_WORKERS)));
        assert_eq!(size(None, None, Some(3)), Ok((3, 1, 3)));
        assert_eq!(size(None, Some(8), None), Ok((8, 8, MAX_WORKERS)));
        assert_eq!(size(Some(4), Some(2), Some(4)), Ok((4, 2, 4)));
        assert_eq!(size(None, Some(3), Some(2)), Err(ConfigError::MinAboveMax { min: 3, max: 2 }));
        assert_eq!(
            size(Some(5), None, Some(4)),
            Err(ConfigError::WorkersOutside { workers: 5, min: 1, max: 4 })
        );
        assert_eq!(size(None, Some(0), None), Err(ConfigError::Zero { option: "--min" }));
        let limit = MAX_WORKERS;
        let option = "--workers";
        assert_eq!(size(Some(limit + 1), None, None), Err(ConfigError::TooManyWorkers { option, limit }));
    }

    #[test]
    fn two_limits_mean_a_pool_that_moves_between_them() {
        let limits = || RawConfig { min: Some(2), max: Some(8), ..raw() };
        let moving = settings(limits()).unwrap();
        let rules =
            AutoscaleRules { up_wait: Duration::from_millis(50), down_after: Duration::from_secs(10) };
        assert_eq!((moving.workers, moving.autoscale), (2, Some(rules)));
        assert_eq!(settings(RawConfig { workers: Some(4), ..limits() }).unwrap().workers, 4);
        let fixed = RawConfig { no_autoscale: Some(true), ..limits() };
        assert_eq!(settings(fixed.clone()).map(|fixed| (fixed.workers, fixed.autoscale)), Ok((6, None)));
        let one = RawConfig { min: Some(8), max: Some(8), ..raw() };
        assert_eq!(settings(one).unwrap().autoscale, None);
        let useless = RawConfig { scale_up_wait: Some(Duration::from_secs(1)), ..fixed };
        assert_eq!(settings(useless), Err(ConfigError::NotAutoscaling { option: "--scale-up-wait" }));
    }

    #[test]
    fn spare_workers_are_kept_between_the_limits() {
        let spares = |min, max| RawConfig {
            workers: Some(3),
            max: Some(9),
            min_spare_servers: min,
            max_spare_servers: max,
            ..raw()
        };
        let check = Duration::from_secs(10);
        let kept = settings(spares(Some(2), Some(4))).unwrap();
        assert_eq!((kept.workers, kept.min, kept.max), (3, 3, 9));
        assert_eq!((kept.spares, kept.autoscale), (Some(SpareRules { min: 2, max: 4, check }), None));
        let only_most = settings(RawConfig { max: None, ..spares(None, Some(4)) }).unwrap();
        assert_eq!(only_most.spares, Some(SpareRules { min: 0, max: 4, check }));
        let crossed = settings(spares(Some(5), Some(4)));
        assert_eq!(crossed, Err(ConfigError::SparesCrossed { min: 5, max: 4 }));
        let endless = settings(RawConfig { max: None, ..spares(Some(5), None) });
        assert_eq!(endless, Err(ConfigError::SparesWithoutMax));
    }
}
