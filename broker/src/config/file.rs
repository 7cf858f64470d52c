//! The file of `--config`, from the disk to text. What it says is read in `document.rs`.
//!
//! The parent reads it too, at HUP, and must not wait: a pipe or a device of that name is
//! refused instead of read, and a file has a largest size.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::ConfigError;

/// More than anybody writes.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// Where something stands, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// As it was named.
    pub path: PathBuf,
    /// From 1; `None` if it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: FileProblem,
}

/// What can be wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileProblem {
    /// The kernel does not let us read it.
    Unreadable {
        /// What it said.
        why: String,
    },
    /// It is a directory, a pipe or a device.
    NotAFile,
    /// It is larger than what is read.
    TooLarge,
    /// It is not text.
    NotUtf8,
    /// It is no TOML.
    Syntax {
        /// What the parser said.
        why: String,
    },
    /// There is no such key.
    UnknownKey {
        /// As it was written.
        key: String,
        /// The nearest there is.
        nearest: Option<String>,
    },
    /// The key belongs to the broker, and stands in a service.
    NotOfAService {
        /// The key.
        key: String,
    },
    /// A name that no service can have.
    ServiceName {
        /// As it was written.
        name: String,
    },
    /// More services than there can be.
    TooManyServices {
        /// So many.
        limit: usize,
    },
    /// The value is of another type.
    Type {
        /// The key.
        key: String,
        /// What is expected, with an example.
        expected: String,
        /// What it is.
        found: &'static str,
    },
    /// The value is of the type, and cannot be meant.
    Value {
        /// The key.
        key: String,
        /// As it was written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key has been given its value before.
    Twice {
        /// The key.
        key: String,
        /// In which line.
        first: usize,
    },
    /// It can be read, and cannot be: with the rest of what was said.
    Meaning(Box<ConfigError>),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { why } => write!(f, "cannot be read: {why}"),
            Self::NotAFile => f.write_str("is not a file"),
            Self::TooLarge => write!(f, "is larger than {} KiB", SIZE_LIMIT / 1024),
            Self::NotUtf8 => f.write_str("this is not UTF-8, as TOML must be"),
            Self::Syntax { why } => write!(f, "this is not TOML: {why}"),
            Self::UnknownKey { key, nearest: None } => {
                write!(f, "there is no key {key:?}: `hornpipe config show` lists all there are")
            }
            Self::UnknownKey { key, nearest: Some(nearest) } => {
                write!(f, "there is no key {key:?}: did you mean {nearest}?")
            }
            Self::NotOfAService { key } => {
                write!(f, "{key} is one for all services: write it at the top of the file")
            }
            Self::ServiceName { name } => write!(
                f,
                "a service cannot be called {name:?}: letters, digits, dashes, dots and underscores are allowed, \
                 at most 64 of them"
            ),
            Self::TooManyServices { limit } => write!(f, "there can be {limit} services and no more"),
            Self::Type { key, expected, found } => write!(f, "{key} is {found}: write {expected}"),
            Self::Value { key, value, why } => write!(f, "{key} is {value:?}: {why}"),
            Self::Twice { key, first } => write!(f, "{key} stands in line {first} already"),
            Self::Meaning(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            FileProblem::Meaning(error) => Some(error),
            _ => None,
        }
    }
}

/// What stands in the file.
///
/// # Errors
/// If it cannot be read, or is no text.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    let wrong = |line, problem| FileError { path: path.to_owned(), line, problem };
    let bytes = read_bytes(path).map_err(|problem| wrong(None, problem))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = line_at(error.as_bytes(), valid);
        wrong(Some(line), FileProblem::NotUtf8)
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let unreadable = |error: io::Error| FileProblem::Unreadable { why: error.to_string() };
    // Opening a pipe would wait for who writes to it.
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FileProblem::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    match u64::try_from(bytes.len()) {
        Ok(size) if size <= SIZE_LIMIT => Ok(bytes),
        _ => Err(FileProblem::TooLarge),
    }
}

/// The line, from 1, of the byte at that place.
pub(super) fn line_at(bytes: &[u8], at: usize) -> usize {
    bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hornpipe-{}-{name}", std::process::id()));
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    fn sentence(path: &Path) -> String {
        let told = read(path).unwrap_err().to_string();
        told.replace(&path.display().to_string(), "F")
    }

    #[test]
    fn what_is_no_file_is_told_and_not_waited_for() {
        assert_eq!(
            sentence(Path::new("/dev/no-such")),
            "F: cannot be read: No such file or directory (os error 2)"
        );
        assert_eq!(sentence(Path::new("/dev")), "F: is not a file");
        assert_eq!(sentence(Path::new("/dev/zero")), "F: is not a file");
        let pipe = std::env::temp_dir().join(format!("hornpipe-{}-pipe", std::process::id()));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(sentence(&pipe), "F: is not a file");
        std::fs::remove_file(pipe).unwrap();
    }

    #[test]
    fn a_file_is_text_of_a_bearable_size() {
        let text = file("text", b"workers = 3\n");
        assert_eq!(read(&text).unwrap(), "workers = 3\n");
        let binary = file("binary", b"a = 1\nb = \"\xff\"\n");
        assert_eq!(sentence(&binary), "F:2: this is not UTF-8, as TOML must be");
        let large = file("large", &vec![b'#'; 1024 * 1024 + 1]);
        assert_eq!(sentence(&large), "F: is larger than 1024 KiB");
        for path in [text, binary, large] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
