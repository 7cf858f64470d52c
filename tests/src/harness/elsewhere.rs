//! Another machine, as far as the network can tell: a network namespace behind a link that
//! can be cut and mended.
#![allow(clippy::disallowed_methods, reason = "this file knows what the machine has")]

use std::env;
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};

use super::process::Process;
use super::skipped::{NONE, skip};
use super::wait::{DEADLINE, until};

/// The variable that says `none` where no such namespace can be made.
const NETWORKS: &str = "HPTEST_NETWORKS";

/// Networks for measurements (RFC 2544), which nobody has at home: 198.18.0.0/15.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// Addresses of a link: network, both ends, broadcast.
const ADDRESSES: u32 = 4;

/// So many links fit into those networks.
const LINKS: u32 = (1 << 17) / ADDRESSES;

/// What the end of the link is called over there.
const DEVICE: &str = "hptest";

static MADE: AtomicU16 = AtomicU16::new(0);

/// The other machine. Its processes are killed and its link is gone when this is dropped.
#[derive(Debug)]
pub struct Elsewhere {
    // Nothing but what holds the namespace, which ends with its last process.
    holder: Process,
    here: Ipv4Addr,
}

impl Elsewhere {
    /// A new one, with its link up; `None` if the run was told to do without.
    pub fn new() -> Option<Self> {
        if env::var_os(NETWORKS).is_some_and(|word| word == NONE) {
            skip(NETWORKS);
            return None;
        }
        let holder = Process::start("unshare", &["--net", "sleep", "1d"]);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let place = (std::process::id().wrapping_mul(16) + u32::from(number)) % LINKS * ADDRESSES;
        let [here, there] = [1, 2].map(|end| Ipv4Addr::from(u32::from(FIRST) + place + end));
        let elsewhere = Self { holder, here };
        let pid = elsewhere.holder.pid().to_string();
        let device = format!("hpt{}n{number}", std::process::id());
        // `unshare` has a namespace of its own a moment after it has a pid.
        let own = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        until("it has a network of its own", DEADLINE, || (own(&pid)? != own("self")?).then_some(()));
        ip(&["link", "add", &device, "type", "veth", "peer", "name", DEVICE, "netns", &pid]);
        ip(&["addr", "add", &format!("{here}/30"), "dev", &device]);
        ip(&["link", "set", &device, "up"]);
        elsewhere.ip(&["link", "set", "lo", "up"]);
        elsewhere.ip(&["addr", "add", &format!("{there}/30"), "dev", DEVICE]);
        elsewhere.mend();
        Some(elsewhere)
    }

    /// The address of this machine on the link.
    pub fn here(&self) -> Ipv4Addr {
        self.here
    }

    /// Starts a program over there.
    pub fn start(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Process {
        let namespace = self.namespace();
        let program = program.as_ref().to_str().unwrap();
        Process::start("nsenter", &[&[namespace.as_str(), program], arguments].concat())
    }

    /// From now on nothing that either side sends arrives, and neither is told.
    pub fn cut(&self) {
        // At the far end: a device that is down here would have its packets go another way.
        self.ip(&["link", "set", DEVICE, "down"]);
    }

    /// What is sent arrives again.
    pub fn mend(&self) {
        self.ip(&["link", "set", DEVICE, "up"]);
    }

    /// From now on so many of a hundred packets are lost on their way here, and on their way there.
    pub fn lose(&self, percent: u32) {
        let loss = format!("numgen random mod 100 < {percent} drop");
        self.nft("add table inet hptest");
        for (chain, device) in [("input", "iifname"), ("postrouting", "oifname")] {
            self.nft(&format!("add chain inet hptest {chain} {{ type filter hook {chain} priority 0; }}"));
            self.nft(&format!("add rule inet hptest {chain} {device} {DEVICE} {loss}"));
        }
    }

    fn namespace(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.pid())
    }

    fn ip(&self, words: &[&str]) {
        let namespace = self.namespace();
        run("nsenter", &[&[namespace.as_str(), "ip"], words].concat());
    }

    fn nft(&self, command: &str) {
        run("nsenter", &[&self.namespace(), "nft", command]);
    }
}

fn ip(words: &[&str]) {
    run("ip", words);
}

fn run(program: &str, words: &[&str]) {
    let ended = Process::run(program, words);
    assert_eq!(
        ended.code(),
        Some(0),
        "{program} {}: {}; root, iproute2 and nftables can, or say {NETWORKS}={NONE} to do without",
        words.join(" "),
        ended.stderr
    );
}
