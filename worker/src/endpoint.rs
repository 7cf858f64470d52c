//! Where a broker is, in ZeroMQ's words: `ipc://PATH`, `ipc://@NAME`, `tcp://HOST:PORT`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, UnixAddr};

/// Where a broker is.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    Unix(UnixAddr),
    /// Looked up anew each time, for a broker may move.
    Tcp {
        host: String,
        port: u16,
    },
}

/// What to connect to.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Unix(UnixAddr),
    Tcp(SockaddrStorage),
}

impl Address {
    pub(crate) fn family(&self) -> AddressFamily {
        let family = match self {
            Self::Unix(address) => address.family(),
            Self::Tcp(address) => address.family(),
        };
        family.unwrap_or(AddressFamily::Unspec)
    }

    pub(crate) fn as_sockaddr(&self) -> &dyn SockaddrLike {
        match self {
            Self::Unix(address) => address,
            Self::Tcp(address) => address,
        }
    }
}

impl Endpoint {
    /// What the text means, or why it means nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix("ipc://") {
            let address = match path.strip_prefix('@') {
                Some(name) if !name.is_empty() => UnixAddr::new_abstract(name.as_bytes()),
                Some(_) | None if path.len() < 2 => return Err("ipc:// needs a path behind it"),
                Some(_) | None => UnixAddr::new(path),
            };
            return address.map(Self::Unix).map_err(|_errno| "the path is too long for a unix socket");
        }
        let Some(address) = text.strip_prefix("tcp://") else {
            return Err("it begins neither with ipc:// nor with tcp://");
        };
        let wrong = "tcp:// needs HOST:PORT behind it";
        let (host, port) = address.rsplit_once(':').ok_or(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match port.parse() {
            Ok(port) if port != 0 && !host.is_empty() && host != "*" => {
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            _ => Err(wrong),
        }
    }

    /// An address to try. A name with several addresses has another one for each attempt.
    pub(crate) fn resolve(&self, attempt: usize) -> io::Result<Address> {
        match self {
            Self::Unix(address) => Ok(Address::Unix(*address)),
            Self::Tcp { host, port } => {
                let all: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs()?.collect();
                let chosen = attempt.checked_rem(all.len()).and_then(|place| all.get(place));
                let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                chosen.map(|address| Address::Tcp((*address).into())).ok_or_else(nowhere)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_what_zeromq_calls_so() {
        for text in ["ipc:///run/crew", "ipc://@crew", "ipc://relative", "tcp://broker:6661", "tcp://[::1]:1"]
        {
            assert!(Endpoint::parse(text).is_ok(), "{text}");
        }
        let long = format!("ipc:///{}", "x".repeat(200));
        for text in [
            "",
            "broker:6661",
            "ipc://",
            "ipc://@",
            "tcp://broker",
            "tcp://*:1",
            "tcp://:1",
            "tcp://h:0",
            "tcp://h:x",
            "tcp://h:70000",
            "udp://h:1",
            &long,
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_looked_up() {
        let endpoint = Endpoint::parse("tcp://localhost:6661").unwrap();
        for attempt in 0..4 {
            let family = endpoint.resolve(attempt).unwrap().family();
            assert!([AddressFamily::Inet, AddressFamily::Inet6].contains(&family));
        }
    }
}
