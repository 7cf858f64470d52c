//! What a program is to do that its predecessor has started: told by one variable of the
//! environment, which counts only for the process it names.

use std::ffi::OsStr;
use std::os::fd::RawFd;

/// Its name. It is no setting, and nothing that a worker is given.
pub const VARIABLE: &str = "HORNPIPE_UPGRADE";

/// What is asked of a program that starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Nothing but to serve.
    None,
    /// Say whether you could take over what this descriptor describes.
    Try {
        /// The description.
        inheritance: RawFd,
        /// Where to say it.
        verdict: RawFd,
    },
    /// Take it over.
    Take {
        /// The description.
        inheritance: RawFd,
    },
}

impl Errand {
    /// Reads the variable. One that is meant for another process is not for this one:
    /// whatever a pool's parent starts inherits its environment.
    pub fn read(value: Option<&OsStr>) -> Self {
        value.and_then(OsStr::to_str).and_then(|text| Self::parse(text, own_pid())).unwrap_or(Self::None)
    }

    fn parse(text: &str, own_pid: i32) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()?.parse() != Ok(own_pid) {
            return None;
        }
        let verb = words.next()?;
        let mut number = || words.next()?.parse().ok();
        match verb {
            "try" => Some(Self::Try { inheritance: number()?, verdict: number()? }),
            "take" => Some(Self::Take { inheritance: number()? }),
            _ => None,
        }
    }

    /// What to set the variable to, for this process after the program has changed.
    pub(super) fn to_text(self) -> String {
        let pid = own_pid();
        match self {
            Self::None => String::new(),
            Self::Try { inheritance, verdict } => format!("{pid} try {inheritance} {verdict}"),
            Self::Take { inheritance } => format!("{pid} take {inheritance}"),
        }
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_is_read_as_it_was_written_and_only_by_its_process() {
        for errand in [Errand::Try { inheritance: 7, verdict: 9 }, Errand::Take { inheritance: 12 }] {
            assert_eq!(Errand::read(Some(OsStr::new(&errand.to_text()))), errand);
            assert_eq!(Errand::parse(&errand.to_text(), own_pid() + 1), None);
        }
        for text in ["", "1", "x take 3", "1 give 3", "1 take", "1 try 3"] {
            assert_eq!(Errand::parse(text, 1), None, "{text:?}");
        }
    }
}
