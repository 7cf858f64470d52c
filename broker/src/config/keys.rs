//! Every key of the file: whose it is, and what a change of it needs.

/// Whose value a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// One for all services.
    Broker,
    /// Each service has its own.
    Service,
}

/// When a change of the key is in force, if HUP brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// As soon as it is read; what workers are, for those that are started from then on.
    AtOnce,
    /// With the next router.
    Upgrade,
    /// With the next parent.
    Restart,
}

/// A key of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The option's long name.
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    pub(super) change: Change,
}

const fn service(name: &'static str, change: Change) -> Key {
    Key { name, scope: Scope::Service, change }
}

const fn broker(name: &'static str, change: Change) -> Key {
    Key { name, scope: Scope::Broker, change }
}

/// In the order of `--help`.
pub(super) const KEYS: &[Key] = &[
    broker("frontend", Change::Restart),
    broker("backend", Change::Restart),
    service("program", Change::AtOnce),
    service("each", Change::AtOnce),
    service("lines", Change::AtOnce),
    service("framing", Change::AtOnce),
    service("workers", Change::AtOnce),
    service("min", Change::AtOnce),
    service("max", Change::AtOnce),
    service("boot-timeout", Change::AtOnce),
    service("max-requests", Change::AtOnce),
    service("max-age", Change::AtOnce),
    service("idle-timeout", Change::AtOnce),
    service("max-memory", Change::AtOnce),
    service("max-memory-hard", Change::AtOnce),
    // Processes that have one request each are counted otherwise from the first one on.
    service("fresh", Change::Upgrade),
    service("mold", Change::AtOnce),
    service("no-mold", Change::AtOnce),
    broker("check-for-dead", Change::AtOnce),
    service("surge", Change::AtOnce),
    service("probe", Change::AtOnce),
    service("probe-timeout", Change::AtOnce),
    service("reload-on", Change::Upgrade),
    broker("no-external", Change::Upgrade),
    service("no-autoscale", Change::AtOnce),
    service("scale-up-wait", Change::AtOnce),
    service("scale-down-after", Change::AtOnce),
    service("min-spare-servers", Change::AtOnce),
    service("max-spare-servers", Change::AtOnce),
    service("check-for-waiting", Change::AtOnce),
    service("timeout", Change::AtOnce),
    service("queue-timeout", Change::AtOnce),
    service("part-timeout", Change::AtOnce),
    service("affinity-wait", Change::AtOnce),
    service("prefetch", Change::AtOnce),
    service("cancel-grace", Change::AtOnce),
    service("cancel-on-disconnect", Change::AtOnce),
    service("term-grace", Change::AtOnce),
    service("attempts", Change::AtOnce),
    service("queue", Change::AtOnce),
    service("queue-bytes", Change::AtOnce),
    service("client-queue", Change::AtOnce),
    service("client-queue-bytes", Change::AtOnce),
    service("key-window", Change::AtOnce),
    service("keys", Change::AtOnce),
    service("key-bytes", Change::AtOnce),
    // libzmq gives the largest message to a listener when it is made.
    service("max-body", Change::Upgrade),
    broker("plain-errors", Change::AtOnce),
    broker("drain", Change::AtOnce),
    broker("log-file", Change::Upgrade),
    broker("log-format", Change::Upgrade),
    broker("log-level", Change::AtOnce),
    service("access-log", Change::AtOnce),
    broker("control", Change::Restart),
    broker("control-read", Change::Restart),
    broker("control-group", Change::Restart),
    broker("http", Change::Restart),
    broker("hook", Change::AtOnce),
    broker("insecure", Change::Upgrade),
    broker("user", Change::Restart),
    broker("group", Change::Restart),
    broker("chroot", Change::Restart),
    broker("chdir", Change::Restart),
    service("rlimit", Change::AtOnce),
    service("nice", Change::AtOnce),
    service("umask", Change::AtOnce),
    service("env", Change::AtOnce),
    broker("pid-file", Change::Restart),
];

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::document::OTHERS;
    use crate::config::reading::OptionReader;

    #[test]
    fn every_option_is_a_key_and_every_key_an_option() {
        let reader = OptionReader::default();
        let options: BTreeSet<&str> = reader.names().chain(OTHERS).filter(|key| *key != "service").collect();
        let keys: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(keys, options);
        assert_eq!(keys.len(), KEYS.len(), "each once");
    }
}
