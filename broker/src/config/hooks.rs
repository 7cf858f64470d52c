//! What an operator writes of hooks: an event, and what is to be run.

use std::fmt;

use crate::parent::{Hook, HookEvent};

/// Why a text is no hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookError {
    /// There is no `=`, or nothing behind it.
    NoCommand,
    /// Nothing of that name happens here.
    UnknownEvent {
        /// As it was written.
        name: String,
    },
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => {
                f.write_str("write EVENT=COMMAND, as in worker_exit='logger a worker has left'")
            }
            Self::UnknownEvent { name } => {
                let known = HookEvent::ALL.map(HookEvent::as_str).join(", ");
                write!(f, "there is no event {name:?}; there are {known}")
            }
        }
    }
}

impl std::error::Error for HookError {}

/// A hook: `worker_exit=logger a worker has left`.
///
/// # Errors
/// Says what is missing.
pub(super) fn hook(text: &str) -> Result<Hook, HookError> {
    let (name, command) = text.split_once('=').ok_or(HookError::NoCommand)?;
    let known = HookEvent::ALL.into_iter().find(|event| event.as_str() == name);
    let event = known.ok_or_else(|| HookError::UnknownEvent { name: name.to_owned() })?;
    if command.trim().is_empty() {
        return Err(HookError::NoCommand);
    }
    Ok(Hook { event, command: command.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_an_event_and_a_command() {
        let expected = Hook { event: HookEvent::WorkerExit, command: "a=b; c \"$d\"".into() };
        assert_eq!(hook("worker_exit=a=b; c \"$d\""), Ok(expected));
    }

    #[test]
    fn what_is_no_hook_is_told() {
        let told = |text: &str| hook(text).unwrap_err().to_string();
        assert_eq!(
            told("worker_died=x"),
            "there is no event \"worker_died\"; there are worker_start, worker_exit, reload_failed, degraded"
        );
        for text in ["worker_exit", "worker_exit=", "worker_exit=  "] {
            assert_eq!(hook(text), Err(HookError::NoCommand), "{text:?}");
        }
    }
}
