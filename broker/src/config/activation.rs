//! Sockets that this process was started with: sd_listen_fds(3). Which descriptor is which
//! is read here; whether it is of any use, `parent/listeners.rs` finds out.

use std::os::fd::RawFd;

use super::ConfigError;

/// The number of the first.
const FIRST: RawFd = 3;

/// Names that are known and not taken: hornpipe makes these sockets itself.
const RESERVED: &[&str] = &["control", "http"];

/// The descriptors of what is listened on already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activation {
    /// Where clients connect.
    pub frontend: Option<RawFd>,
    /// Where workers connect that this broker does not start.
    pub backend: Option<RawFd>,
}

impl Activation {
    /// Reads `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` as the process `own_pid`. What
    /// is meant for another process is nothing: whoever starts one may forget to remove it.
    pub(super) fn read(words: [Option<String>; 3], own_pid: u32) -> Result<Self, ConfigError> {
        let [Some(pid), Some(count), names] = words else { return Ok(Self::default()) };
        let number = |name: &str, text: &str| {
            let why = "it must be a number".to_owned();
            let bad = |_error| ConfigError::BadVariable { name: name.into(), value: text.into(), why };
            text.parse::<u32>().map_err(bad)
        };
        if number("LISTEN_PID", &pid)? != own_pid {
            return Ok(Self::default());
        }
        let count = number("LISTEN_FDS", &count)? as usize;
        let names: Vec<&str> = names.as_deref().map(|names| names.split(':').collect()).unwrap_or_default();
        if !names.is_empty() && names.len() != count {
            return Err(refused(format!("LISTEN_FDS says {count} and LISTEN_FDNAMES names {}", names.len())));
        }
        if names.iter().any(|name| is_ours(name)) { by_name(&names) } else { by_order(count) }
    }
}

fn is_ours(name: &str) -> bool {
    matches!(name, "frontend" | "backend") || RESERVED.contains(&name)
}

fn by_name(names: &[&str]) -> Result<Activation, ConfigError> {
    let mut found = Activation::default();
    for (descriptor, name) in (FIRST..).zip(names) {
        let place = match *name {
            "frontend" => &mut found.frontend,
            "backend" => &mut found.backend,
            name if RESERVED.contains(&name) => {
                return Err(refused(format!("one is named {name:?}, and that socket hornpipe makes itself")));
            }
            name => return Err(refused(format!("one is named {name:?}, which says nothing"))),
        };
        if place.replace(descriptor).is_some() {
            return Err(refused(format!("two are named {name:?}")));
        }
    }
    Ok(found)
}

/// Without a name of ours: the unit file lists first the frontend, then the backend.
fn by_order(count: usize) -> Result<Activation, ConfigError> {
    match count {
        0 => Ok(Activation::default()),
        1 => Ok(Activation { frontend: Some(FIRST), backend: None }),
        2 => Ok(Activation { frontend: Some(FIRST), backend: Some(FIRST + 1) }),
        more => Err(refused(format!("there are {more}"))),
    }
}

fn refused(why: String) -> ConfigError {
    ConfigError::Activation { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pid: &str, count: &str, names: Option<&str>) -> Result<(Option<RawFd>, Option<RawFd>), String> {
        let words = [Some(pid.to_owned()), Some(count.to_owned()), names.map(ToOwned::to_owned)];
        let found = Activation::read(words, 42).map_err(|error| error.to_string())?;
        Ok((found.frontend, found.backend))
    }

    #[test]
    fn sockets_are_known_by_their_names_or_else_by_their_order() {
        let named = |names| read("42", &names_len(names).to_string(), Some(names));
        assert_eq!(named("frontend"), Ok((Some(3), None)));
        assert_eq!(named("backend"), Ok((None, Some(3))));
        assert_eq!(named("backend:frontend"), Ok((Some(4), Some(3))));
        // What systemd calls those whose unit file names none.
        assert_eq!(named("hornpipe@6660.socket"), Ok((Some(3), None)));
        assert_eq!(named("hornpipe@6660.socket:hornpipe@6660.socket"), Ok((Some(3), Some(4))));
        assert_eq!(named("unknown:unknown"), Ok((Some(3), Some(4))));
        assert_eq!(read("42", "2", None), Ok((Some(3), Some(4))));
        assert_eq!(read("42", "0", None), Ok((None, None)));
    }

    fn names_len(names: &str) -> usize {
        names.split(':').count()
    }

    #[test]
    fn what_is_meant_for_another_process_is_nothing() {
        assert_eq!(read("41", "2", Some("frontend:backend")), Ok((None, None)));
        assert_eq!(read("41", "rubbish", Some("x")), Ok((None, None)));
        assert_eq!(Activation::read([None, Some("2".into()), None], 42), Ok(Activation::default()));
        assert_eq!(Activation::read([Some("42".into()), None, None], 42), Ok(Activation::default()));
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_and_not_a_guess() {
        for (pid, count, names, why) in [
            ("x", "1", None, "the environment variable LISTEN_PID is \"x\": it must be a number"),
            ("42", "-1", None, "the environment variable LISTEN_FDS is \"-1\": it must be a number"),
            ("42", "99999999999", None, "the environment variable LISTEN_FDS is \"99999999999\""),
            ("42", "3", None, "there are 3"),
            ("42", "4000000000", None, "there are 4000000000"),
            ("42", "1", Some("frontend:backend"), "LISTEN_FDS says 1 and LISTEN_FDNAMES names 2"),
            ("42", "2", Some("frontend"), "LISTEN_FDS says 2 and LISTEN_FDNAMES names 1"),
            ("42", "2", Some("frontend:frontend"), "two are named \"frontend\""),
            ("42", "2", Some("frontend:bakcend"), "one is named \"bakcend\", which says nothing"),
            ("42", "2", Some("frontend:"), "one is named \"\", which says nothing"),
            ("42", "1", Some("control"), "one is named \"control\", and that socket hornpipe makes itself"),
            (
                "42",
                "2",
                Some("frontend:http"),
                "one is named \"http\", and that socket hornpipe makes itself",
            ),
        ] {
            let error = read(pid, count, names).unwrap_err();
            assert!(error.contains(why), "{pid} {count} {names:?}: {error}");
        }
    }
}
