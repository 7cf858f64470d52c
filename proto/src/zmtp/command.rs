//! Commands: what the two libraries say to each other, and programs never see.

use super::{SocketType, ZmtpError};

/// What a PING may bring along, to come back in its PONG.
const CONTEXT_LIMIT: usize = 16;

/// A command's meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ready {
        /// As the peer calls its kind of socket.
        socket: &'a [u8],
        identity: &'a [u8],
    },
    Error {
        reason: &'a [u8],
    },
    Ping {
        /// Tenths of a second without traffic after which the sender wants to be given up.
        ttl: u16,
        context: &'a [u8],
    },
    Pong {
        context: &'a [u8],
    },
    /// Of a later version, or for other kinds of sockets.
    Unknown,
}

impl<'a> Command<'a> {
    /// The command that READY is, for this socket.
    pub(super) fn ready(socket: SocketType) -> Self {
        Self::Ready { socket: socket.as_str().as_bytes(), identity: &[] }
    }

    /// The bytes of the command's frame. What is too long for its field is cut.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready { socket, identity } => {
                let properties = [property(b"Socket-Type", socket), property(b"Identity", identity)];
                [named(b"READY"), properties.concat()].concat()
            }
            Self::Error { reason } => {
                let reason = reason.get(..255).unwrap_or(reason);
                [named(b"ERROR"), short(reason)].concat()
            }
            Self::Ping { ttl, context } => {
                [named(b"PING"), ttl.to_be_bytes().to_vec(), cut(context).to_vec()].concat()
            }
            Self::Pong { context } => [named(b"PONG"), cut(context).to_vec()].concat(),
            Self::Unknown => Vec::new(),
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, ZmtpError> {
        let wrong = |what| ZmtpError::Command { what };
        let (name, data) = take_short(bytes).ok_or(wrong("it has no name"))?;
        match name {
            b"READY" => ready(data),
            b"ERROR" => {
                let (reason, _rest) = take_short(data).ok_or(wrong("an ERROR without a reason"))?;
                Ok(Self::Error { reason })
            }
            b"PING" => {
                let (ttl, context) = data.split_first_chunk().ok_or(wrong("a PING without a time"))?;
                if CONTEXT_LIMIT < context.len() {
                    return Err(wrong("a PING with more than 16 bytes of context"));
                }
                Ok(Self::Ping { ttl: u16::from_be_bytes(*ttl), context })
            }
            b"PONG" => Ok(Self::Pong { context: cut(data) }),
            _ => Ok(Self::Unknown),
        }
    }
}

/// Properties in any order, each once for us: the last one counts.
fn ready(mut data: &[u8]) -> Result<Command<'_>, ZmtpError> {
    let wrong = |what| ZmtpError::Command { what };
    let (mut socket, mut identity): (Option<&[u8]>, &[u8]) = (None, &[]);
    while !data.is_empty() {
        let (name, rest) = take_short(data).ok_or(wrong("a property's name is cut off"))?;
        let (value, rest) = take_long(rest).ok_or(wrong("a property's value is cut off"))?;
        if name.is_empty() {
            return Err(wrong("a property without a name"));
        }
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            socket = Some(value);
        } else if name.eq_ignore_ascii_case(b"Identity") {
            identity = value;
        }
        data = rest;
    }
    let socket = socket.ok_or(wrong("a READY without a Socket-Type"))?;
    Ok(Command::Ready { socket, identity })
}

fn named(name: &[u8]) -> Vec<u8> {
    short(name)
}

fn property(name: &[u8], value: &[u8]) -> Vec<u8> {
    let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
    [&*short(name), &size.to_be_bytes(), value].concat()
}

/// A length of one byte, and so many bytes.
fn short(bytes: &[u8]) -> Vec<u8> {
    let size = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[size], bytes].concat()
}

fn cut(context: &[u8]) -> &[u8] {
    context.get(..CONTEXT_LIMIT).unwrap_or(context)
}

fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*size))
}

fn take_long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*size)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_written() {
        for command in [
            Command::ready(SocketType::Dealer),
            Command::Ready { socket: b"ROUTER", identity: b"me" },
            Command::Error { reason: b"no such socket" },
            Command::Ping { ttl: 300, context: b"abc" },
            Command::Pong { context: b"abc" },
        ] {
            let bytes = command.encode();
            assert_eq!(Command::decode(&bytes), Ok(command));
        }
        assert_eq!(Command::decode(b"\x09SUBSCRIBEtopic"), Ok(Command::Unknown));
    }

    #[test]
    fn properties_come_in_any_order_and_case_and_others_are_passed_over() {
        let bytes = [
            named(b"READY"),
            property(b"X-Later", &[1; 300]),
            property(b"identity", b"me"),
            property(b"SOCKET-TYPE", b"REQ"),
        ]
        .concat();
        assert_eq!(Command::decode(&bytes), Ok(Command::Ready { socket: b"REQ", identity: b"me" }));
    }

    #[test]
    fn what_is_cut_off_or_missing_is_an_error() {
        let ready = Command::ready(SocketType::Dealer).encode();
        // Where one property ends, the rest is still a whole READY.
        let whole = named(b"READY").len() + property(b"Socket-Type", b"DEALER").len();
        for end in (0..ready.len()).filter(|end| *end != whole) {
            assert!(Command::decode(&ready[..end]).is_err(), "{end}");
        }
        for bytes in
            [&b"\x05READY\x00\0\0\0\0"[..], b"\x04PING\0", b"\x04PING\0\x0112345678901234567", b"\x05ERROR"]
        {
            assert!(Command::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
