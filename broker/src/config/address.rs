//! Where to listen, as operators write it.
//!
//! A bare port is loopback: nothing listens to other machines unless that is
//! written out, and then `resolve.rs` asks for more than a spelling.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// Where to listen, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    spelling: String,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Number(IpAddr),
    Name(String),
}

/// Why a text is no place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressError {
    /// The port is not a number from 0 to 65535.
    Port {
        /// What stands in its place.
        port: String,
    },
    /// No port follows the host.
    NoPort,
    /// The host holds a character that no host has, or an IPv6 address lacks its brackets.
    Host {
        /// What stands in its place.
        host: String,
    },
    /// Only TCP ports are listened on.
    Transport {
        /// What stands in its place.
        transport: String,
    },
    /// The host's name has no address.
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { port } => write!(f, "{port:?} is not a port from 0 to 65535"),
            Self::NoPort => f.write_str("a port must follow the host, as in 127.0.0.1:6660"),
            Self::Host { host } => write!(f, "{host:?} is not a host; IPv6 addresses stand in brackets"),
            Self::Transport { transport } => write!(f, "{transport}:// is not listened on, only tcp:// is"),
            Self::Unresolved { host, why } => write!(f, "{host:?} has no address: {why}"),
        }
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads `6660` (loopback), `0` (a free port), `:6660`, `*:6660` (every
    /// IPv4 address), `HOST:PORT`, `[IPV6]:PORT`, and each with `tcp://` in front.
    fn from_str(spelling: &str) -> Result<Self, AddressError> {
        let place = match spelling.split_once("://") {
            None => spelling,
            Some(("tcp", place)) => place,
            Some((transport, _)) => return Err(AddressError::Transport { transport: transport.to_owned() }),
        };
        let address = |host, port| Ok(Self { spelling: spelling.to_owned(), host, port: parse_port(port)? });
        if place == spelling && !place.contains(':') {
            return if place.starts_with(|letter: char| letter.is_alphabetic()) {
                Err(AddressError::NoPort)
            } else {
                address(Host::Number(Ipv4Addr::LOCALHOST.into()), place)
            };
        }
        let (host, port) = place.rsplit_once(':').ok_or(AddressError::NoPort)?;
        address(parse_host(host)?, port)
    }
}

fn parse_port(port: &str) -> Result<u16, AddressError> {
    let refused = || AddressError::Port { port: port.to_owned() };
    // `u16::from_str` takes a plus sign.
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits { port.parse().map_err(|_beyond| refused()) } else { Err(refused()) }
}

fn parse_host(host: &str) -> Result<Host, AddressError> {
    let refused = || AddressError::Host { host: host.to_owned() };
    if matches!(host, "" | "*") {
        return Ok(Host::Number(Ipv4Addr::UNSPECIFIED.into()));
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner
            .parse::<Ipv6Addr>()
            .map(|address| Host::Number(address.into()))
            .map_err(|_bad| refused());
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Number(address.into()));
    }
    let fits = |letter: char| letter.is_alphanumeric() || ".-_".contains(letter);
    if host.chars().all(fits) { Ok(Host::Name(host.to_owned())) } else { Err(refused()) }
}

impl Address {
    /// Any free port of this machine.
    pub(super) fn anywhere() -> Self {
        Self { spelling: "0".to_owned(), host: Host::Number(Ipv4Addr::LOCALHOST.into()), port: 0 }
    }

    /// Whether only this machine can be meant.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Number(address) => address.is_loopback(),
            Host::Name(name) => name == "localhost",
        }
    }

    /// Whether it names one machine, and a port of it.
    pub(super) fn is_a_place(&self) -> bool {
        let names_all = matches!(&self.host, Host::Number(address) if address.is_unspecified());
        !names_all && self.port != 0
    }

    /// As libzmq wants it. A name is looked up at each connection.
    pub fn endpoint(&self) -> String {
        match &self.host {
            Host::Number(address) => format!("tcp://{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => format!("tcp://{name}:{}", self.port),
        }
    }

    /// The port; 0 asks for a free one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address in numbers.
    ///
    /// # Errors
    /// If a name has no address.
    pub fn resolve(&self) -> Result<SocketAddr, AddressError> {
        let name = match &self.host {
            Host::Number(address) => return Ok(SocketAddr::new(*address, self.port)),
            Host::Name(name) => name,
        };
        let unresolved = |why: String| AddressError::Unresolved { host: name.clone(), why };
        let addresses: Vec<SocketAddr> = (name.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| unresolved(error.to_string()))?
            .collect();
        // `localhost` has two addresses, and clients in the world try 127.0.0.1 first.
        let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        chosen.copied().ok_or_else(|| unresolved("it has none".to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(spelling: &str) -> String {
        spelling.parse::<Address>().unwrap().resolve().unwrap().to_string()
    }

    #[test]
    fn a_bare_port_is_loopback() {
        assert_eq!(means("6660"), "127.0.0.1:6660");
        assert_eq!(means("0"), "127.0.0.1:0");
        assert_eq!(means("65535"), "127.0.0.1:65535");
        assert_eq!(means("localhost:6660"), "127.0.0.1:6660");
    }

    #[test]
    fn every_interface_is_written_out() {
        for spelling in [":6660", "*:6660", "0.0.0.0:6660", "tcp://*:6660"] {
            assert_eq!(means(spelling), "0.0.0.0:6660", "{spelling}");
        }
        assert_eq!(means("[::]:6660"), "[::]:6660");
    }

    #[test]
    fn hosts_are_what_they_say() {
        assert_eq!(means("192.0.2.1:80"), "192.0.2.1:80");
        assert_eq!(means("tcp://[::1]:80"), "[::1]:80");
    }

    #[test]
    fn what_names_no_place_says_why() {
        let port = |port: &str| AddressError::Port { port: port.into() };
        let host = |host: &str| AddressError::Host { host: host.into() };
        for (spelling, error) in [
            ("", port("")),
            ("65536", port("65536")),
            ("-1", port("-1")),
            ("+80", port("+80")),
            ("66x", port("66x")),
            ("127.0.0.1", port("127.0.0.1")),
            ("host:", port("")),
            ("host:99999", port("99999")),
            ("localhost", AddressError::NoPort),
            ("tcp://6660", AddressError::NoPort),
            ("::1:80", host("::1")),
            ("[fe80]:80", host("[fe80]")),
            ("a b:80", host("a b")),
            ("a\0b:80", host("a\0b")),
            ("ipc:///run/x", AddressError::Transport { transport: "ipc".into() }),
        ] {
            assert_eq!(spelling.parse::<Address>(), Err(error), "{spelling:?}");
        }
        // `.invalid` is reserved never to resolve.
        let error = "hornpipe.invalid:1".parse::<Address>().unwrap().resolve().unwrap_err();
        assert!(matches!(error, AddressError::Unresolved { .. }), "{error}");
    }
}
