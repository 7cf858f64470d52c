//! What an operator writes of the conditions under which workers run: limits,
//! umask, and variables of their environment.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::units::{UnitError, duration, size};
use super::{ConfigError, RawConfig};
use crate::parent::{Conditions, Limit, RESOURCES, Resource, UNLIMITED, Unit};

/// Names with this beginning are the broker's own.
const OWN_PREFIX: &[u8] = b"HORNPIPE_";

/// Why a text is no limit, or no umask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConditionError {
    /// There is no `=`.
    NoValue,
    /// No resource of that name is limited here.
    UnknownResource {
        /// As it was written.
        name: String,
    },
    /// Its value cannot be read.
    BadQuantity {
        /// What is wrong with it.
        source: UnitError,
    },
    /// A number is expected.
    NoNumber,
    /// Seconds, and a part of one.
    NoWholeSeconds,
    /// The soft limit lies above the hard one.
    SoftAboveHard,
    /// Not three octal digits.
    BadUmask,
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue => f.write_str("write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096"),
            Self::UnknownResource { name } => {
                let known: Vec<&str> = RESOURCES.iter().map(|resource| resource.name).collect();
                write!(f, "there is no limit {name:?} here; there are {}", known.join(", "))
            }
            Self::BadQuantity { source } => write!(f, "{source}, or write unlimited"),
            Self::NoNumber => f.write_str("a whole number or unlimited is expected"),
            Self::NoWholeSeconds => f.write_str("whole seconds are counted here"),
            Self::SoftAboveHard => {
                f.write_str("the soft limit, which comes first, is more than the hard one")
            }
            Self::BadUmask => f.write_str("a umask is octal, from 000 to 777"),
        }
    }
}

impl std::error::Error for ConditionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::BadQuantity { source } => Some(source),
            Self::NoValue
            | Self::UnknownResource { .. }
            | Self::NoNumber
            | Self::NoWholeSeconds
            | Self::SoftAboveHard
            | Self::BadUmask => None,
        }
    }
}

/// A limit: `nofile=1024`, `as=512MiB:1GiB`, `cpu=60s`, `core=unlimited`. One value is both.
///
/// # Errors
/// Says what is missing.
pub(super) fn limit(text: &str) -> Result<Limit, ConditionError> {
    let (name, values) = text.split_once('=').ok_or(ConditionError::NoValue)?;
    let known = RESOURCES.iter().find(|resource| resource.name == name);
    let resource = *known.ok_or_else(|| ConditionError::UnknownResource { name: name.to_owned() })?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (quantity(resource, soft)?, quantity(resource, hard)?);
    if hard < soft {
        return Err(ConditionError::SoftAboveHard);
    }
    Ok(Limit { resource, soft, hard })
}

fn quantity(resource: Resource, text: &str) -> Result<u64, ConditionError> {
    if text == "unlimited" {
        return Ok(UNLIMITED);
    }
    let bad = |source| ConditionError::BadQuantity { source };
    match resource.unit {
        // That nothing may be written needs no unit.
        Unit::Bytes | Unit::Seconds if text == "0" => Ok(0),
        Unit::Bytes => size(text).map_err(bad),
        Unit::Seconds => {
            let time = duration(text).map_err(bad)?;
            if time.subsec_nanos() == 0 { Ok(time.as_secs()) } else { Err(ConditionError::NoWholeSeconds) }
        }
        Unit::Pieces => text.parse().map_err(|_error| ConditionError::NoNumber),
    }
}

/// A umask: `027`.
///
/// # Errors
/// If it is none.
pub(super) fn umask(text: &str) -> Result<u32, ConditionError> {
    let mask = u32::from_str_radix(text, 8).ok().filter(|mask| *mask <= 0o777);
    mask.filter(|_mask| !text.starts_with('+')).ok_or(ConditionError::BadUmask)
}

impl RawConfig {
    /// Under what workers run.
    pub(super) fn resolve_conditions(&self) -> Conditions {
        Conditions { limits: self.rlimit.clone().unwrap_or_default(), niceness: self.nice, umask: self.umask }
    }

    /// What workers and their programs find in their environment: what was inherited, and
    /// what the operator says in its place.
    pub(super) fn resolve_environment(
        &self,
        inherited: Vec<(OsString, OsString)>,
    ) -> Result<Vec<(OsString, OsString)>, ConfigError> {
        let mut environment = inherited;
        for text in self.env.iter().flatten() {
            let (name, value) = variable(text)?;
            environment.retain(|(other, _value)| *other != name);
            environment.push((name, value));
        }
        Ok(environment)
    }
}

fn variable(text: &OsStr) -> Result<(OsString, OsString), ConfigError> {
    let bytes = text.as_bytes();
    let equals = bytes.iter().position(|byte| *byte == b'=').filter(|at| 0 < *at);
    let Some((name, value)) = equals.and_then(|at| Some((bytes.get(..at)?, bytes.get(at + 1..)?))) else {
        return Err(ConfigError::NoVariable { text: text.to_string_lossy().into_owned() });
    };
    if name.starts_with(OWN_PREFIX) {
        return Err(ConfigError::OwnVariable { name: String::from_utf8_lossy(name).into_owned() });
    }
    Ok((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> (&'static str, u64, u64) {
        let Limit { resource, soft, hard } = limit(text).unwrap();
        (resource.name, soft, hard)
    }

    #[test]
    fn a_limit_is_written_in_the_unit_of_what_it_limits() {
        assert_eq!(values("nofile=1024"), ("nofile", 1024, 1024));
        assert_eq!(values("nofile=1024:4096"), ("nofile", 1024, 4096));
        assert_eq!(values("as=512MiB:1GiB"), ("as", 512 << 20, 1 << 30));
        assert_eq!(values("cpu=2m:unlimited"), ("cpu", 120, UNLIMITED));
        assert_eq!(values("core=0"), ("core", 0, 0));
    }

    #[test]
    fn what_is_no_limit_is_told() {
        let told = |text: &str| limit(text).unwrap_err().to_string();
        assert!(told("files=3").starts_with("there is no limit \"files\" here; there are as, core, cpu"));
        assert_eq!(told("as=512"), "add a unit: 512MiB or 512B, or write unlimited");
        assert_eq!(told("cpu=10"), "add a unit: 10s or 10ms, or write unlimited");
        assert_eq!(told("cpu=1500ms"), "whole seconds are counted here");
        assert_eq!(told("nofile=2k"), "a whole number or unlimited is expected");
        assert_eq!(told("nofile=10:5"), "the soft limit, which comes first, is more than the hard one");
        assert_eq!(told("nofile"), "write NAME=SOFT or NAME=SOFT:HARD, as in nofile=1024:4096");
        for text in ["", "=", "nofile=", "nofile=1:", "nofile=:1", "nofile=1:2:3", "nofile=-1"] {
            assert!(limit(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_umask_is_octal() {
        assert_eq!((umask("027"), umask("0"), umask("0777")), (Ok(0o27), Ok(0), Ok(0o777)));
        for text in ["", "8", "1000", "-1", "+7", "u=rwx"] {
            assert_eq!(umask(text), Err(ConditionError::BadUmask), "{text:?}");
        }
    }

    #[test]
    fn a_variable_takes_the_place_of_an_inherited_one() {
        let raw =
            RawConfig { env: Some(vec!["A=1".into(), "B=x=y".into(), "A=".into()]), ..RawConfig::default() };
        let inherited = vec![("A".into(), "0".into()), ("C".into(), "c".into())];
        let environment = raw.resolve_environment(inherited).unwrap();
        assert_eq!(environment, [("C", "c"), ("B", "x=y"), ("A", "")].map(|(a, b)| (a.into(), b.into())));
    }

    #[test]
    fn our_own_variables_and_what_is_none_are_refused() {
        let told = |text: &str| {
            let raw = RawConfig { env: Some(vec![text.into()]), ..RawConfig::default() };
            raw.resolve_environment(Vec::new()).unwrap_err().to_string()
        };
        assert!(told("HORNPIPE_SLOT=3").starts_with("--env HORNPIPE_SLOT: "), "{}", told("HORNPIPE_SLOT=3"));
        assert_eq!(told("PLAIN"), "--env PLAIN: write NAME=VALUE");
        assert_eq!(told("=x"), "--env =x: write NAME=VALUE");
    }
}
