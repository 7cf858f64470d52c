//! What keys mean, and the orders that some of them give.

use hornpipe_proto::control::{ControlRequest, Scale};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    More,
    Less,
    Recycle,
    Reload,
    Pause,
    Help,
    Yes,
    Quit,
    Other,
}

impl From<KeyEvent> for Key {
    fn from(event: KeyEvent) -> Self {
        match event.code {
            // The terminal makes no signal of it any more.
            KeyCode::Char('c') if event.modifiers.contains(KeyModifiers::CONTROL) => Self::Quit,
            KeyCode::Up | KeyCode::Char('k') => Self::Up,
            KeyCode::Down | KeyCode::Char('j') => Self::Down,
            KeyCode::Char('+') => Self::More,
            KeyCode::Char('-') => Self::Less,
            KeyCode::Char('r') => Self::Recycle,
            KeyCode::Char('R') => Self::Reload,
            KeyCode::Char('p') => Self::Pause,
            KeyCode::Char('?') => Self::Help,
            KeyCode::Char('y') => Self::Yes,
            KeyCode::Char('q') => Self::Quit,
            _ => Self::Other,
        }
    }
}

/// What is about to be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Scale(i32),
    Recycle(u32),
    Reload,
    Pause,
    Resume,
}

impl Order {
    pub(super) fn request(self) -> ControlRequest {
        match self {
            Self::Scale(change) => ControlRequest::Scale(Scale::By(change)),
            Self::Recycle(slot) => ControlRequest::Recycle { slot, wait: false },
            Self::Reload => ControlRequest::Reload { surge: None, wait: false },
            Self::Pause => ControlRequest::Pause { refuse: false },
            Self::Resume => ControlRequest::Resume,
        }
    }

    /// The question before it.
    pub(super) fn question(self) -> String {
        match self {
            Self::Scale(change) if change < 0 => "One worker less?".into(),
            Self::Scale(_) => "One worker more?".into(),
            Self::Recycle(slot) => format!("Another process for slot {slot}?"),
            Self::Reload => "Reload: fresh workers for all slots?".into(),
            Self::Pause => "Pause: hand out no request?".into(),
            Self::Resume => "Resume: hand out requests again?".into(),
        }
    }
}
