//! How a worker's process has ended, told by whoever was its parent.

use serde::{Deserialize, Serialize};

/// How a process has ended that nobody told to leave. One of these is set; none of them is
/// an end of a kind that this version does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// With this exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// By this signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// By the kernel, because there was no memory left.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
}
