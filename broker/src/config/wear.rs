//! Checks of the limits that end a worker's time: age, idleness, memory.

use super::{ConfigError, RawConfig};

impl RawConfig {
    pub(super) fn check_wear(&self) -> Result<(), ConfigError> {
        let zeros = [
            (self.max_age.is_some_and(|time| time.is_zero()), "--max-age"),
            (self.idle_timeout.is_some_and(|time| time.is_zero()), "--idle-timeout"),
            (self.max_memory == Some(0), "--max-memory"),
            (self.max_memory_hard == Some(0), "--max-memory-hard"),
        ];
        if let Some((_, option)) = zeros.into_iter().find(|(wrong, _)| *wrong) {
            return Err(ConfigError::Zero { option });
        }
        match (self.max_memory, self.max_memory_hard) {
            (Some(soft), Some(hard)) if hard < soft => Err(ConfigError::SoftAboveHard { soft, hard }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_of_zero_is_refused() {
        let zero = Some(Duration::ZERO);
        let raw = RawConfig::default;
        for (raw, option) in [
            (RawConfig { max_age: zero, ..raw() }, "--max-age"),
            (RawConfig { idle_timeout: zero, ..raw() }, "--idle-timeout"),
            (RawConfig { max_memory: Some(0), ..raw() }, "--max-memory"),
            (RawConfig { max_memory_hard: Some(0), ..raw() }, "--max-memory-hard"),
        ] {
            assert_eq!(raw.check_wear(), Err(ConfigError::Zero { option }));
        }
        assert_eq!(raw().check_wear(), Ok(()));
    }

    #[test]
    fn the_soft_limit_of_memory_is_not_above_the_hard_one() {
        let check = |soft, hard| {
            let limits =
                RawConfig { max_memory: Some(soft), max_memory_hard: Some(hard), ..RawConfig::default() };
            limits.check_wear()
        };
        assert_eq!(check(2, 1), Err(ConfigError::SoftAboveHard { soft: 2, hard: 1 }));
        assert_eq!(check(2, 2), Ok(()));
    }
}
