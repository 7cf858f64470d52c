//! Reads a value as the option of its name, so that the environment and the file take the
//! same values as the command line, and complain in the same words.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};

use super::RawConfig;

/// All options, by their names.
#[derive(Debug)]
pub(super) struct OptionReader {
    options: Command,
}

/// What kind of value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Number,
    Duration,
    Size,
    Text,
    /// One of a few words.
    Choice,
    /// Several texts.
    List,
}

/// Why nothing was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unread {
    /// There is no such option.
    Unknown { nearest: Option<String> },
    /// There is, and the value is not one of its.
    Bad { why: String },
}

impl Default for OptionReader {
    fn default() -> Self {
        let command = Command::new("options").no_binary_name(true).disable_help_flag(true);
        Self { options: RawConfig::augment_args(command) }
    }
}

impl OptionReader {
    /// Every option, by its long name.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.options.get_arguments().filter_map(Arg::get_long)
    }

    /// The option of this name or this other name.
    pub(super) fn find(&self, name: &str) -> Option<&Arg> {
        self.options.get_arguments().find(|option| {
            option.get_long() == Some(name) || option.get_all_aliases().unwrap_or_default().contains(&name)
        })
    }

    /// The long name of the option that is also called so.
    pub(super) fn long(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(Arg::get_long)
    }

    pub(super) fn kind(&self, name: &str) -> Option<Kind> {
        self.find(name).map(kind_of)
    }

    /// The long name of the option, and what these values of it say.
    pub(super) fn read(&self, name: &str, values: &[&OsStr]) -> Result<(String, RawConfig), Unread> {
        let Some(long) = self.long(name) else {
            return Err(Unread::Unknown { nearest: self.nearest(name, &[]) });
        };
        let arguments = values.iter().map(|value| {
            let mut argument = OsString::from(format!("--{long}="));
            argument.push(value);
            argument
        });
        let found = self.options.clone().try_get_matches_from(arguments);
        let read = found.and_then(|found| RawConfig::from_arg_matches(&found));
        read.map(|read| (long.to_owned(), read)).map_err(|error| Unread::Bad { why: reason(&error) })
    }

    /// The option that may have been meant, or the one of these other names.
    pub(super) fn nearest(&self, name: &str, others: &[&'static str]) -> Option<String> {
        let keys = others.iter().fold(self.options.clone(), |keys, key| keys.arg(Arg::new(*key).long(*key)));
        let error = keys.try_get_matches_from([format!("--{name}")]).err()?;
        if error.kind() != ErrorKind::UnknownArgument {
            return None;
        }
        let Some(ContextValue::String(option)) = error.get(ContextKind::SuggestedArg) else { return None };
        option.strip_prefix("--").map(ToOwned::to_owned)
    }
}

fn kind_of(option: &Arg) -> Kind {
    let unit = option.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str());
    match unit {
        _ if matches!(option.get_action(), ArgAction::Append) => Kind::List,
        "BOOL" => Kind::Switch,
        "N" | "K" => Kind::Number,
        "TIME" => Kind::Duration,
        "SIZE" => Kind::Size,
        _ if !option.get_possible_values().is_empty() => Kind::Choice,
        _ => Kind::Text,
    }
}

/// What is wrong with a value, without clap's talk of options.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("write {}", values.join(" or ")),
        _ => "it cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: [&str; 1] = ["frontend"];

    #[test]
    fn what_an_option_takes_is_read_off_the_command_line() {
        let reader = OptionReader::default();
        for (name, kind) in [
            ("fresh", Kind::Switch),
            ("workers", Kind::Number),
            ("surge", Kind::Number),
            ("nice", Kind::Number),
            ("timeout", Kind::Duration),
            ("max-body", Kind::Size),
            ("plain-errors", Kind::Choice),
            ("log-format", Kind::Choice),
            ("log-level", Kind::Text),
            ("umask", Kind::Text),
            ("rlimit", Kind::List),
            ("reload-on", Kind::List),
        ] {
            assert_eq!(reader.kind(name), Some(kind), "{name}");
        }
        assert_eq!(reader.long("min-servers"), Some("workers"));
    }

    #[test]
    fn what_is_no_option_has_a_neighbour() {
        let reader = OptionReader::default();
        assert_eq!(reader.nearest("wrokers", &OTHERS).as_deref(), Some("workers"));
        assert_eq!(reader.nearest("fronted", &OTHERS).as_deref(), Some("frontend"));
        assert_eq!(reader.nearest("fronted", &[]), None);
        assert_eq!(reader.nearest("zzz", &OTHERS), None);
    }
}
