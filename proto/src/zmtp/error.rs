//! Why a connection is of no use any more.

use super::SocketType;

/// Why a connection is of no use any more: close it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZmtpError {
    /// The first bytes are not ZMTP's, or of its version 1, which had no signature.
    NotZmtp,
    /// The peer speaks a version that is too old.
    Version {
        /// Its major version.
        major: u8,
        /// The oldest that is spoken here.
        least: u8,
    },
    /// The peer wants another security mechanism than NULL.
    Mechanism {
        /// Its name.
        name: String,
    },
    /// The two kinds of sockets cannot be connected.
    SocketType {
        /// Ours.
        ours: SocketType,
        /// The peer's, as it calls it.
        theirs: String,
    },
    /// The peer wants a routing id that no peer can have.
    Identity {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The peer has refused the connection, and says why.
    Refused {
        /// Its words, cut to 255 bytes.
        reason: String,
    },
    /// A frame of a kind that there is not.
    Flags {
        /// The frame's first byte.
        flags: u8,
    },
    /// A command that cannot be read.
    Command {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A message came before the handshake was over.
    EarlyMessage,
    /// One frame has more bytes than is allowed.
    FrameTooLarge {
        /// What it claims to have.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// All frames of a message together have more bytes than is allowed.
    MessageTooLarge {
        /// What is allowed.
        limit: u64,
    },
    /// A message has so many frames that it may have no end.
    EndlessMessage {
        /// How many are read.
        limit: usize,
    },
}

impl std::fmt::Display for ZmtpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotZmtp => f.write_str("the peer does not speak ZeroMQ's protocol, or version 1 of it"),
            Self::Version { major, least } => {
                write!(f, "the peer speaks version {major} of ZeroMQ's protocol, and {least} is the least")
            }
            Self::Mechanism { name } => {
                write!(f, "the peer wants the security mechanism {name:?}, and here is NULL alone")
            }
            Self::SocketType { ours, theirs } => {
                write!(f, "the peer is a {theirs:?}, which a {} cannot talk to", ours.as_str())
            }
            Self::Identity { what } => write!(f, "the peer's identity (routing id) {what}"),
            Self::Refused { reason } => write!(f, "the peer refuses the connection: {reason}"),
            Self::Flags { flags } => {
                write!(f, "a frame begins with {flags:#04x}, which no frame of this version does")
            }
            Self::Command { what } => write!(f, "a command cannot be read: {what}"),
            Self::EarlyMessage => f.write_str("a message came before the end of the handshake"),
            Self::FrameTooLarge { size, limit } => {
                write!(f, "a frame has {size} bytes, and {limit} are allowed")
            }
            Self::MessageTooLarge { limit } => write!(f, "a message has more than {limit} bytes"),
            Self::EndlessMessage { limit } => write!(f, "a message has more than {limit} frames"),
        }
    }
}

impl std::error::Error for ZmtpError {}
