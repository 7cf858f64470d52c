//! Two machines with a cable between them, as far as the network goes: network namespaces and
//! a pair of virtual interfaces.
#![allow(clippy::disallowed_methods, reason = "this file makes networks")]

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::skipped::{NONE, skip};

/// The variable that says `none` where there are no network namespaces.
const NETWORK: &str = "HPTEST_NETWORKS";

/// The first machine's address.
pub const FIRST: &str = "10.199.0.1";

/// The second machine's.
pub const SECOND: &str = "10.199.0.2";

/// Both machines. They are gone when this is dropped.
#[derive(Debug)]
pub struct Network {
    names: [String; 2],
}

impl Network {
    /// `None` if the run was told to do without.
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if env::var_os(NETWORK).is_some_and(|word| word == NONE) {
            skip(NETWORK);
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let names = ["a", "b"].map(|side| format!("hptest-{}-{number}{side}", std::process::id()));
        let network = Self { names };
        for name in &network.names {
            ip(&["netns", "add", name]).unwrap_or_else(|why| {
                panic!("no network namespaces: {why}; say {NETWORK}={NONE} to do without")
            });
        }
        let [first, second] = &network.names;
        let link =
            ["-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second];
        ip(&link).unwrap();
        for (name, address) in network.names.iter().zip([FIRST, SECOND]) {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "cable"]).unwrap();
            ip(&["-n", name, "link", "set", "lo", "up"]).unwrap();
            ip(&["-n", name, "link", "set", "cable", "up"]).unwrap();
        }
        Some(network)
    }

    /// The words of a command that is to run on the first machine.
    pub fn on_first(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.names[0]]
    }

    /// The same on the second.
    pub fn on_second(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.names[1]]
    }

    /// From here on nothing comes through, and nobody is told.
    pub fn cut(&self) {
        ip(&["-n", &self.names[1], "link", "set", "cable", "down"]).unwrap();
    }

    /// The cable is whole again.
    pub fn mend(&self) {
        ip(&["-n", &self.names[1], "link", "set", "cable", "up"]).unwrap();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "delete", name]).ok();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    let why = || format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(why()) }
}
