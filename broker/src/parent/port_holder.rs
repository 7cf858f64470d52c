//! Who holds a TCP port: the table of sockets, then the descriptors of every process.
//! Read from /proc, so only as far as this user may look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The process that holds `address`, and its name. `None` if it cannot be found out.
pub(super) fn find(address: SocketAddr) -> Option<(i32, String)> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let entries: Vec<Entry> = tables.iter().flat_map(|table| table.lines().filter_map(parse_entry)).collect();
    // A socket that only passes through the port matters where nobody listens.
    let clashing = |entry: &&Entry| entry.clashes_with(address);
    let entry = entries
        .iter()
        .filter(clashing)
        .find(|entry| entry.listening)
        .or_else(|| entries.iter().find(clashing))?;
    process_with_socket(entry.inode)
}

/// One line of /proc/net/tcp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    listening: bool,
    inode: u64,
}

impl Entry {
    fn clashes_with(&self, address: SocketAddr) -> bool {
        let either_is_everywhere = self.local.ip().is_unspecified() || address.ip().is_unspecified();
        self.local.port() == address.port() && (either_is_everywhere || self.local.ip() == address.ip())
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let local = parse_address(fields.nth(1)?)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Entry { local, listening: state == "0A", inode })
}

/// An address as the kernel prints it: each 32 bits as a number of this machine, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            ip.to_canonical()
        }
        _unknown => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn process_with_socket(inode: u64) -> Option<(i32, String)> {
    let socket = format!("socket:[{inode}]");
    let has_socket = |process: &Path| {
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .map(|descriptor| std::fs::read_link(descriptor.path()))
            .any(|target| target.is_ok_and(|target| target.as_os_str() == socket.as_str()))
    };
    let mut processes: Vec<i32> = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // Where several processes share the socket, the eldest is the one to talk to.
    processes.sort_unstable();
    let pid = processes.into_iter().find(|pid| has_socket(Path::new(&format!("/proc/{pid}"))))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENING: &str = "   0: 0100007F:1A04 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        \
                             0 12345 1 0000000000000000 100 0 0 10 0";

    #[test]
    fn a_line_of_the_table_is_read() {
        let entry = parse_entry(LISTENING).unwrap();
        assert_eq!(entry, Entry { local: "127.0.0.1:6660".parse().unwrap(), listening: true, inode: 12345 });
    }

    #[test]
    fn the_heading_is_no_socket() {
        assert_eq!(
            parse_entry("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"),
            None
        );
    }

    #[test]
    fn six_is_read_like_four() {
        assert_eq!(parse_address("00000000000000000000000001000000:1A04"), "[::1]:6660".parse().ok());
        let mapped = parse_address("0000000000000000FFFF00000100007F:1A04");
        assert_eq!(mapped, "127.0.0.1:6660".parse().ok());
    }

    #[test]
    fn everywhere_clashes_with_each_address_of_the_same_port() {
        let entry = parse_entry(LISTENING).unwrap();
        assert!(entry.clashes_with("0.0.0.0:6660".parse().unwrap()));
        assert!(entry.clashes_with("127.0.0.1:6660".parse().unwrap()));
        assert!(!entry.clashes_with("127.0.0.2:6660".parse().unwrap()));
        assert!(!entry.clashes_with("0.0.0.0:6661".parse().unwrap()));
    }
}
