//! What a status word of `wait` means, and how it is said to a person.

use std::fmt;

use crate::link::ExitStatus;

use super::signals;

impl ExitStatus {
    /// Reads the status word of a process that has ended.
    pub(super) const fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exit code {code}"),
            Self::Signal(number) => write!(out, "signal {}", signals::name(*number)),
            Self::OutOfMemory => out.write_str("signal SIGKILL, because there was no memory left"),
            Self::NotExecuted { program, why } => write!(out, "{program} could not be executed: {why}"),
            Self::NotPrepared { why } => write!(out, "the process could not be prepared: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_word_is_a_code_or_a_signal() {
        assert_eq!(ExitStatus::from_wait(0), ExitStatus::Code(0));
        assert_eq!(ExitStatus::from_wait(3 << 8), ExitStatus::Code(3));
        assert_eq!(ExitStatus::from_wait(255 << 8), ExitStatus::Code(255));
        assert_eq!(ExitStatus::from_wait(9), ExitStatus::Signal(9));
        let core_dumped = 0x80;
        assert_eq!(ExitStatus::from_wait(core_dumped + 11), ExitStatus::Signal(11));
    }

    #[test]
    fn a_real_time_signal_is_an_ending_like_any_other() {
        let status = ExitStatus::from_wait(35);
        assert_eq!(status, ExitStatus::Signal(35));
        assert_eq!(status.to_string(), "signal 35");
    }

    #[test]
    fn endings_read_like_words() {
        assert_eq!(ExitStatus::Code(3).to_string(), "exit code 3");
        assert_eq!(ExitStatus::Signal(9).to_string(), "signal SIGKILL");
    }
}
