//! The file of `--config`, from text to a layer: keys are the options' long names, values
//! are checked where they stand, and every complaint names a line.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{FileError, FileProblem, line_at};
use super::keys::{self, Scope};
use super::reading::{Kind, OptionReader, Unread};
use super::service::DEFAULT_SERVICE;
use super::{Address, RawConfig};

/// Besides the default one.
const SERVICES_LIMIT: usize = 256;

const NAME_LIMIT: usize = 64;

/// The key of the tables that describe services.
const SERVICES: &str = "service";

/// The keys that are no options.
pub(super) const OTHERS: [&str; 4] = ["frontend", "backend", "program", SERVICES];

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileLayer {
    pub(super) frontend: Option<Address>,
    pub(super) backend: Option<Address>,
    /// What it says of the broker, and of the service that needs no name.
    pub(super) default: ServiceLayer,
    /// What it says of the others.
    pub(super) further: BTreeMap<String, ServiceLayer>,
}

/// What the file says of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ServiceLayer {
    pub(super) options: RawConfig,
    pub(super) program: Option<Vec<OsString>>,
    /// Where each key stands. The service itself stands under the empty key.
    pub(super) written: BTreeMap<String, Written>,
}

/// A key as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// From 1.
    pub(super) line: usize,
    /// Its value.
    pub(super) text: String,
}

/// Reads the text of the file that has this path.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn parse(path: &Path, text: &str) -> Result<FileLayer, FileError> {
    let located = |(at, problem): (usize, FileProblem)| FileError {
        path: path.to_owned(),
        line: Some(line_at(text.as_bytes(), at)),
        problem,
    };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let why = error.message().lines().collect::<Vec<_>>().join("; ");
        located((at, FileProblem::Syntax { why }))
    })?;
    let document = Document { text, reader: OptionReader::default() };
    document.read(table.get_ref()).map_err(located)
}

type Found<'a> = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

/// Where in the text, and what.
type Wrong = (usize, FileProblem);

struct Document<'a> {
    text: &'a str,
    reader: OptionReader,
}

impl Document<'_> {
    fn read(&self, table: &DeTable<'_>) -> Result<FileLayer, Wrong> {
        let mut layer = FileLayer::default();
        let (services, keys): (Vec<_>, Vec<_>) =
            in_order(table).into_iter().partition(|(key, _)| key.get_ref() == SERVICES);
        for found in keys {
            self.read_key(found, Scope::Broker, &mut layer, DEFAULT_SERVICE)?;
        }
        for (key, value) in services {
            let Some(tables) = value.get_ref().as_table() else {
                let problem = wrong_type(key.get_ref(), "tables, as in [service.resize]", value.get_ref());
                return Err((value.span().start, problem));
            };
            for (name, service) in in_order(tables) {
                self.read_service(name, service, &mut layer)?;
            }
        }
        Ok(layer)
    }

    fn read_service(
        &self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        table: &Spanned<DeValue<'_>>,
        layer: &mut FileLayer,
    ) -> Result<(), Wrong> {
        let at = name.span().start;
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        let fits = !name.get_ref().is_empty() && name.get_ref().len() <= NAME_LIMIT;
        if !fits || !name.get_ref().chars().all(allowed) {
            return Err((at, FileProblem::ServiceName { name: name.get_ref().to_string() }));
        }
        let Some(keys) = table.get_ref().as_table() else {
            let problem = wrong_type(name.get_ref(), "a table, as in [service.resize]", table.get_ref());
            return Err((table.span().start, problem));
        };
        if name.get_ref() != DEFAULT_SERVICE {
            let service = layer.further.entry(name.get_ref().to_string()).or_default();
            service.written.insert(String::new(), Written { line: self.line(at), text: String::new() });
            if SERVICES_LIMIT < layer.further.len() {
                return Err((at, FileProblem::TooManyServices { limit: SERVICES_LIMIT }));
            }
        }
        in_order(keys)
            .into_iter()
            .try_for_each(|found| self.read_key(found, Scope::Service, layer, name.get_ref()))
    }

    /// A key of the whole file, or of a service's table.
    fn read_key(
        &self,
        (key, value): Found<'_>,
        scope: Scope,
        layer: &mut FileLayer,
        service: &str,
    ) -> Result<(), Wrong> {
        let at = key.span().start;
        let written = key.get_ref().replace('_', "-");
        let name = self.reader.long(&written).unwrap_or(&written).to_owned();
        let Some(known) = keys::find(&name) else {
            let nearest = self.reader.nearest(&written, &OTHERS);
            return Err((at, FileProblem::UnknownKey { key: key.get_ref().to_string(), nearest }));
        };
        if scope == Scope::Service && known.scope == Scope::Broker {
            return Err((at, FileProblem::NotOfAService { key: name }));
        }
        let wrong = |problem| (value.span().start, problem);
        let target = match service {
            DEFAULT_SERVICE => &mut layer.default,
            other => layer.further.entry(other.to_owned()).or_default(),
        };
        let text = self.text.get(value.span()).unwrap_or_default().to_owned();
        let written = Written { line: self.line(at), text };
        if let Some(first) = target.written.insert(name.clone(), written) {
            return Err((at, FileProblem::Twice { key: name, first: first.line }));
        }
        match name.as_str() {
            "frontend" => layer.frontend = Some(address(&name, value.get_ref()).map_err(wrong)?),
            "backend" => layer.backend = Some(address(&name, value.get_ref()).map_err(wrong)?),
            "program" => target.program = Some(program(&name, value.get_ref()).map_err(wrong)?),
            _ => {
                let said = self.option(&name, value.get_ref()).map_err(wrong)?;
                target.options = std::mem::take(&mut target.options).overridden_by(said);
            }
        }
        Ok(())
    }

    fn option(&self, name: &str, value: &DeValue<'_>) -> Result<RawConfig, FileProblem> {
        let kind = self.reader.kind(name).unwrap_or(Kind::Text);
        let texts = texts(name, kind, value)?;
        let values: Vec<&OsStr> = texts.iter().map(OsStr::new).collect();
        self.reader.read(name, &values).map(|(_long, said)| said).map_err(|unread| match unread {
            Unread::Unknown { nearest } => FileProblem::UnknownKey { key: name.to_owned(), nearest },
            Unread::Bad { why } => FileProblem::Value { key: name.to_owned(), value: texts.join(", "), why },
        })
    }

    fn line(&self, at: usize) -> usize {
        line_at(self.text.as_bytes(), at)
    }
}

/// As it stands in the file, so that the first complaint is about the first line.
fn in_order<'a>(
    table: &'a DeTable<'_>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)> {
    let mut found: Vec<_> = table.iter().collect();
    found.sort_by_key(|(key, _)| key.span().start);
    found
}

/// The value as it would stand on the command line, a text for each time it is given.
fn texts(key: &str, kind: Kind, value: &DeValue<'_>) -> Result<Vec<String>, FileProblem> {
    let other = || wrong_type(key, example(kind), value);
    let text = match (kind, value) {
        (Kind::Switch, DeValue::Boolean(value)) => value.to_string(),
        (Kind::Number, DeValue::Integer(_)) => integer(value).ok_or_else(other)?,
        (Kind::Duration | Kind::Size | Kind::Text | Kind::Choice, DeValue::String(text)) => {
            without_nul(key, text)?
        }
        (Kind::List, DeValue::Array(_)) => return list(key, example(kind), value),
        _ => return Err(other()),
    };
    Ok(vec![text])
}

const fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "true or false",
        Kind::Number => "a whole number, without quotes",
        Kind::Duration => "a time with its unit in quotes, as in \"30s\" or \"250ms\"",
        Kind::Size => "a size with its unit in quotes, as in \"64MiB\"",
        Kind::Text | Kind::Choice => "a text in quotes",
        Kind::List => "a list of texts, as in [\"one\", \"two\"]",
    }
}

fn address(key: &str, value: &DeValue<'_>) -> Result<Address, FileProblem> {
    let expected = "a port, as in 6660, or an address in quotes, as in \"*:6660\"";
    let text = match value {
        DeValue::Integer(_) => integer(value).ok_or_else(|| wrong_type(key, expected, value))?,
        DeValue::String(text) => text.to_string(),
        _ => return Err(wrong_type(key, expected, value)),
    };
    let bad = |error: super::AddressError| FileProblem::Value {
        key: key.to_owned(),
        value: text.clone(),
        why: error.to_string(),
    };
    text.parse().map_err(bad)
}

fn program(key: &str, value: &DeValue<'_>) -> Result<Vec<OsString>, FileProblem> {
    let expected = "a list of words, as in [\"python3\", \"worker.py\"]";
    Ok(list(key, expected, value)?.into_iter().map(OsString::from).collect())
}

fn list(key: &str, expected: &str, value: &DeValue<'_>) -> Result<Vec<String>, FileProblem> {
    let Some(array) = value.as_array() else { return Err(wrong_type(key, expected, value)) };
    if array.is_empty() {
        let why = format!("write {expected}, or leave the key out");
        return Err(FileProblem::Value { key: key.to_owned(), value: String::new(), why });
    }
    let texts = array.iter().map(|item| match item.get_ref() {
        DeValue::String(text) => without_nul(key, text),
        other => Err(wrong_type(&format!("an item of {key}"), "each item in quotes", other)),
    });
    texts.collect()
}

fn integer(value: &DeValue<'_>) -> Option<String> {
    let DeValue::Integer(integer) = value else { return None };
    i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
}

/// Nothing that is given to a program may hold one, and nothing else needs one.
fn without_nul(key: &str, text: &str) -> Result<String, FileProblem> {
    if text.contains('\0') {
        let why = "a NUL byte can be in no value".to_owned();
        return Err(FileProblem::Value { key: key.to_owned(), value: text.to_owned(), why });
    }
    Ok(text.to_owned())
}

fn wrong_type(key: &str, expected: &str, value: &DeValue<'_>) -> FileProblem {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    FileProblem::Type { key: key.to_owned(), expected: expected.to_owned(), found }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<FileLayer, FileError> {
        super::parse(Path::new("F"), text)
    }

    fn sentence(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn keys_are_options_and_values_are_theirs() {
        let layer = parse(
            "frontend = 6660\nbackend = '*:6661'\nprogram = ['python3', 'worker.py']\nworkers = 4\n\
             max_body = '10MiB'\nmin-servers = 3\n",
        );
        assert_eq!(layer.unwrap_err().to_string(), "F:6: workers stands in line 4 already");
        let layer = parse(
            "frontend = 6660\nbackend = '*:6661'\nprogram = ['python3', 'worker.py']\nmin-servers = 4\n\
             max_body = '10MiB'\ntimeout = '1.5s'\nfresh = false\nrlimit = ['nofile=10', 'cpu=1s']\nnice = -5\n",
        )
        .unwrap();
        assert_eq!(layer.frontend.as_ref().map(ToString::to_string).as_deref(), Some("6660"));
        assert_eq!(layer.default.program, Some(vec!["python3".into(), "worker.py".into()]));
        let options = layer.default.options;
        assert_eq!((options.workers, options.max_body), (Some(4), Some(10 << 20)));
        assert_eq!((options.timeout, options.fresh), (Some(Duration::from_millis(1500)), Some(false)));
        assert_eq!((options.rlimit.map(|limits| limits.len()), options.nice), (Some(2), Some(-5)));
        assert_eq!(layer.default.written["workers"].line, 4);
    }

    #[test]
    fn services_have_tables() {
        let layer = parse(
            "workers = 2\n[service.resize]\nprogram = ['resize']\nworkers = 8\n[service.default]\ntimeout = '1s'\n",
        )
        .unwrap();
        assert_eq!(layer.default.options.workers, Some(2));
        assert_eq!(layer.default.options.timeout, Some(Duration::from_secs(1)));
        let resize = layer.further.get("resize").unwrap();
        assert_eq!((resize.options.workers, resize.written["workers"].line), (Some(8), 4));
        for (text, told) in [
            ("workers = 2\n[service.default]\nworkers = 3", "F:3: workers stands in line 1 already"),
            (
                "[service.resize]\nlog-level = 'info'",
                "F:2: log-level is one for all services: write it at the top of the file",
            ),
            ("[service.resize]\nwrokers = 1", "F:2: there is no key \"wrokers\": did you mean workers?"),
            ("service = 3", "F:1: service is a number: write tables, as in [service.resize]"),
            ("[service]\nresize = 1", "F:2: resize is a number: write a table, as in [service.resize]"),
        ] {
            assert_eq!(sentence(text), told, "{text}");
        }
        assert!(sentence("[service.'a b']").contains("cannot be called \"a b\""));
        let many: Vec<String> = (0..257).map(|number| format!("[service.s{number}]")).collect();
        assert_eq!(sentence(&many.join("\n")), "F:257: there can be 256 services and no more");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_write() {
        for (text, told) in [
            ("\n\nwrokers = 3", "F:3: there is no key \"wrokers\": did you mean workers?"),
            ("[services.a]", "F:1: there is no key \"services\": did you mean service?"),
            ("fronted = 3", "F:1: there is no key \"fronted\": did you mean frontend?"),
            ("zzz = 3", "F:1: there is no key \"zzz\": `hornpipe config show` lists all there are"),
            ("workers = '3'", "F:1: workers is a text: write a whole number, without quotes"),
            ("workers = 3.5", "F:1: workers is a number with a point: write a whole number, without quotes"),
            ("workers = -1", "F:1: workers is \"-1\": -1 is not in 0..=4294967295"),
            (
                "timeout = 30",
                "F:1: timeout is a number: write a time with its unit in quotes, as in \"30s\" or \"250ms\"",
            ),
            ("timeout = '30'", "F:1: timeout is \"30\": add a unit: 30s or 30ms"),
            (
                "max-body = 1",
                "F:1: max-body is a number: write a size with its unit in quotes, as in \"64MiB\"",
            ),
            ("fresh = 1", "F:1: fresh is a number: write true or false"),
            ("plain-errors = 'loud'", "F:1: plain-errors is \"loud\": write text or silent"),
            ("frontend = 70000", "F:1: frontend is \"70000\": \"70000\" is not a port from 0 to 65535"),
            (
                "program = 'a b'",
                "F:1: program is a text: write a list of words, as in [\"python3\", \"worker.py\"]",
            ),
            ("program = ['a', 1]", "F:1: an item of program is a number: write each item in quotes"),
            ("env = [\"A=\\u0000\"]", "F:1: env is \"A=\\0\": a NUL byte can be in no value"),
            ("hook = ['x=y']", "F:1: hook is \"x=y\": there is no event \"x\""),
            ("workers = 3\nworkers = 4", "F:2: this is not TOML: duplicate key"),
            ("workers = ", "F:1: this is not TOML: "),
        ] {
            let found = sentence(text);
            assert!(found.starts_with(told), "{text}: {found}");
        }
    }

    #[test]
    fn rubbish_is_refused_and_nothing_worse() {
        let deep = "a = ".to_owned() + &"[".repeat(100_000);
        let dotted = vec!["a"; 10_000].join(".") + " = 1";
        for text in [
            deep.as_str(),
            &dotted,
            "\u{0}",
            "[[service]]\n",
            "= = =",
            "\u{feff}[",
            "[service.a]\n[service.a]\n",
        ] {
            assert!(parse(text).is_err(), "{text:.20}");
        }
        assert_eq!(parse(""), Ok(FileLayer::default()));
    }
}
