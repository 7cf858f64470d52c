//! What a server's `INFO` says, by name. No I/O.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub(crate) struct Info(BTreeMap<String, String>);

impl Info {
    /// Reads lines of `name:value`; anything else is a heading.
    pub(crate) fn parse(text: &str) -> Self {
        let fields =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn seconds(&self, name: &str) -> Option<Duration> {
        self.get(name)?.parse().ok().map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_and_rubbish_is_none() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:12\r\n\r\nno field\r\nx:-1\r\n",
        );
        assert_eq!(info.get("redis_version"), Some("7.0.15"));
        assert_eq!(info.seconds("uptime_in_seconds"), Some(Duration::from_secs(12)));
        assert_eq!((info.seconds("x"), info.get("y")), (None, None));
    }
}
