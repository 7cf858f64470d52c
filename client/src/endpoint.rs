//! Where a broker is, as people write it, checked before libzmq sees it.
//!
//! libzmq takes `tcp://host:99999`, resolves names in silence later, and the
//! `zmq` crate panics on errors it does not list. So ports, names and paths
//! are judged here.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A path of a unix socket is at most as long as the kernel's address has room.
const IPC_PATH_LIMIT: usize = 107;

const LOOPBACK: &str = "127.0.0.1";

/// Where a broker's frontend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port of a host.
    Tcp {
        /// A name or an address; an IPv6 address stands without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Ipc {
        /// Its path; `@` in front means an abstract name.
        path: String,
    },
}

/// Why a text names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointError {
    /// Nothing is written there.
    Empty,
    /// No port follows the host.
    NoPort,
    /// The port is not a number from 1 to 65535.
    Port {
        /// What stands in its place.
        port: String,
    },
    /// The host is missing or holds a character that no host has.
    Host {
        /// What stands in its place.
        host: String,
    },
    /// Only `tcp://` and `ipc://` are spoken.
    Transport {
        /// What stands in its place.
        transport: String,
    },
    /// The path of the unix socket is empty, too long, or holds a NUL.
    Path {
        /// The path.
        path: String,
    },
    /// The host's name has no address.
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
}

/// The endpoint that `spelling` means to a client.
///
/// `6660`, `:6660` and `*:6660` are a port on loopback, `HOST:PORT` is TCP,
/// `tcp://HOST:PORT` and `ipc://PATH` are what they say. IPv6 addresses stand
/// in brackets: `[::1]:6660`.
///
/// # Errors
/// Says what is wrong with the spelling. Names are not resolved here.
pub fn endpoint(spelling: &str) -> Result<Endpoint, EndpointError> {
    spelling.parse()
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(spelling: &str) -> Result<Self, EndpointError> {
        match spelling.split_once("://") {
            _ if spelling.is_empty() => Err(EndpointError::Empty),
            Some(("tcp", address)) => parse_tcp(address),
            Some(("ipc", path)) => parse_ipc(path),
            Some((transport, _)) => Err(EndpointError::Transport { transport: transport.to_owned() }),
            None if spelling.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(Self::Tcp { host: LOOPBACK.to_owned(), port: parse_port(spelling)? })
            }
            None => parse_tcp(spelling),
        }
    }
}

fn parse_tcp(address: &str) -> Result<Endpoint, EndpointError> {
    let (host, port) = address.rsplit_once(':').ok_or(EndpointError::NoPort)?;
    let port = parse_port(port)?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match (host, bracketed) {
        ("" | "*", _) => LOOPBACK,
        (_, Some(address)) => address,
        // Without brackets nobody can tell the last part of the address from the port.
        (host, None) if host.contains(':') => return Err(EndpointError::Host { host: host.to_owned() }),
        (host, None) => host,
    };
    let fits = |letter: char| letter.is_alphanumeric() || ".-_:%".contains(letter);
    if host.is_empty() || !host.chars().all(fits) {
        return Err(EndpointError::Host { host: host.to_owned() });
    }
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn parse_port(port: &str) -> Result<u16, EndpointError> {
    let refused = || EndpointError::Port { port: port.to_owned() };
    // `u16::from_str` takes a plus sign.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    port.parse().ok().filter(|port| *port != 0).ok_or_else(refused)
}

fn parse_ipc(path: &str) -> Result<Endpoint, EndpointError> {
    let named = !matches!(path, "" | "*" | "@");
    if named && path.len() <= IPC_PATH_LIMIT && !path.contains('\0') {
        Ok(Endpoint::Ipc { path: path.to_owned() })
    } else {
        Err(EndpointError::Path { path: path.to_owned() })
    }
}

impl Endpoint {
    /// Where to connect now: numbers only, so that libzmq resolves nothing.
    pub(crate) fn resolve(&self) -> Result<Address, EndpointError> {
        let (host, port) = match self {
            Self::Ipc { .. } => return Ok(Address { text: self.to_string(), family: Family::Other }),
            Self::Tcp { host, port } => (host.as_str(), *port),
        };
        let unresolved = |why: String| EndpointError::Unresolved { host: host.to_owned(), why };
        let addresses: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map_err(|error| unresolved(error.to_string()))?.collect();
        // A broker on `localhost` listens on 127.0.0.1, and libzmq tries one address only.
        let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let chosen = chosen.ok_or_else(|| unresolved("it has no address".to_owned()))?;
        let family = if chosen.is_ipv6() { Family::Ipv6 } else { Family::Other };
        Ok(Address { text: format!("tcp://{chosen}"), family })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc { path } => write!(f, "ipc://{path}"),
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no endpoint is given"),
            Self::NoPort => f.write_str("a port must follow the host, as in HOST:6660"),
            Self::Port { port } => write!(f, "{port:?} is not a port from 1 to 65535"),
            Self::Host { host } => write!(f, "{host:?} is not a host; IPv6 addresses stand in brackets"),
            Self::Transport { transport } => {
                write!(f, "{transport:?} is not spoken here, only tcp:// and ipc:// are")
            }
            Self::Path { path } => {
                write!(f, "{path:?} is not the path of a unix socket of 1 to {IPC_PATH_LIMIT} bytes")
            }
            Self::Unresolved { host, why } => write!(f, "{host:?} has no address: {why}"),
        }
    }
}

impl std::error::Error for EndpointError {}

/// An endpoint as libzmq is told it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) text: String,
    pub(crate) family: Family,
}

/// libzmq must be told before it may use IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Ipv6,
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(spelling: &str) -> String {
        endpoint(spelling).unwrap().to_string()
    }

    #[test]
    fn a_bare_port_is_loopback() {
        for spelling in ["6660", ":6660", "*:6660", "tcp://*:6660", "127.0.0.1:6660"] {
            assert_eq!(spelled(spelling), "tcp://127.0.0.1:6660", "{spelling}");
        }
    }

    #[test]
    fn hosts_addresses_and_paths_are_what_they_say() {
        assert_eq!(spelled("queue.example:1"), "tcp://queue.example:1");
        assert_eq!(spelled("tcp://localhost:65535"), "tcp://localhost:65535");
        assert_eq!(spelled("[::1]:6660"), "tcp://[::1]:6660");
        assert_eq!(spelled("ipc:///run/hornpipe.sock"), "ipc:///run/hornpipe.sock");
        assert_eq!(spelled("ipc://@abstract"), "ipc://@abstract");
    }

    #[test]
    fn what_names_no_endpoint_says_why() {
        let port = |port: &str| EndpointError::Port { port: port.into() };
        for (spelling, error) in [
            ("", EndpointError::Empty),
            ("localhost", EndpointError::NoPort),
            ("0", port("0")),
            ("65536", port("65536")),
            ("host:+80", port("+80")),
            ("tcp://host:80x", port("80x")),
            ("host:", port("")),
            ("::1:80", EndpointError::Host { host: "::1".into() }),
            ("a b:80", EndpointError::Host { host: "a b".into() }),
            ("a\0b:80", EndpointError::Host { host: "a\0b".into() }),
            ("eth0;host:80", EndpointError::Host { host: "eth0;host".into() }),
            ("udp://host:80", EndpointError::Transport { transport: "udp".into() }),
            ("ipc://", EndpointError::Path { path: String::new() }),
            ("ipc://a\0b", EndpointError::Path { path: "a\0b".into() }),
        ] {
            assert_eq!(endpoint(spelling), Err(error), "{spelling:?}");
        }
        let long = format!("ipc:///{}", "x".repeat(IPC_PATH_LIMIT));
        assert!(matches!(endpoint(&long), Err(EndpointError::Path { .. })));
    }

    #[test]
    fn a_name_is_resolved_to_numbers_and_to_ipv4_first() {
        let address = endpoint("localhost:6660").unwrap().resolve().unwrap();
        assert_eq!(address.text, "tcp://127.0.0.1:6660");
        let address = endpoint("[::1]:6660").unwrap().resolve().unwrap();
        assert_eq!((address.text.as_str(), address.family), ("tcp://[::1]:6660", Family::Ipv6));
        // `.invalid` is reserved never to resolve.
        let error = endpoint("hornpipe.invalid:6660").unwrap().resolve().unwrap_err();
        assert!(matches!(error, EndpointError::Unresolved { .. }), "{error}");
    }
}
