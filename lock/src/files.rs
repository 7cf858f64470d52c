//! Locks of one machine: files, locked by open file description (OFD locks). The kernel
//! releases them when their holder ends, however it ends, so nothing is left over.
//!
//! A file holds its greatest token and its latest holder. It stays when it is released:
//! removing it would let two hold locks on two files of one name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::backend::{Backend, Claim, Inspected, Lease};
use crate::clock::Clock;
use crate::doctor::Examined;
use crate::error::LockError;
use crate::server::Seen;
use crate::token;
use crate::validity::{DriftFactor, validity};

/// More is no record of ours.
const RECORD_LIMIT: u64 = 1024;

/// What a file may be called, with all that is spelled differently.
const NAME_LIMIT: usize = 255;

#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    drift: DriftFactor,
    /// By resource. An open file is a lock.
    held: Mutex<BTreeMap<String, Holder>>,
}

#[derive(Debug)]
struct Holder {
    value: String,
    file: File,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Record {
    fence: u64,
    /// The latest holder, who may have left.
    value: String,
}

/// Whether somebody holds it.
#[derive(Debug, PartialEq, Eq)]
enum Lock {
    Free,
    Held,
}

impl Files {
    pub(crate) fn new(folder: PathBuf, clock: Arc<dyn Clock>, drift: DriftFactor) -> Self {
        Self { folder, clock, drift, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Holder>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, resource: &str) -> Result<PathBuf, LockError> {
        let name = file_name(resource);
        if name.len() > NAME_LIMIT {
            let why = "spelled as a file's name it is longer than 255 bytes";
            return Err(LockError::Name { resource: resource.to_owned(), why });
        }
        Ok(self.folder.join(name))
    }

    /// Tries to lock it. An error of this is the file's.
    fn try_take(&self, path: &Path, value: &str) -> io::Result<Option<(File, u64)>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o660)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)?;
        if !set_lock(&file, libc::F_WRLCK)? {
            return Ok(None);
        }
        let record = read(&mut file)?;
        let Some(token) = token::next([record.fence], self.clock.unix_ms()) else {
            return Err(io::Error::other("it holds the greatest token there can be"));
        };
        write(&file, &Record { fence: token, value: value.to_owned() })?;
        Ok(Some((file, token)))
    }

    fn try_look(path: &Path) -> io::Result<Seen> {
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Seen { value: None, life: None, fence: 0 });
            }
            file => file?,
        };
        let lock = lock_of(&file)?;
        let record = read(&mut file)?;
        let value = (lock == Lock::Held).then_some(record.value);
        Ok(Seen { value, life: None, fence: record.fence })
    }

    fn lease(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        let until = |validity| Lease { validity, until: self.clock.now() + validity };
        validity(claim.ttl, Duration::ZERO, self.drift)
            .map(until)
            .ok_or_else(|| LockError::Expired { resource: claim.resource.to_owned() })
    }
}

impl Backend for Files {
    fn take(&self, claim: Claim<'_>) -> Result<(Lease, u64), LockError> {
        let path = self.path(claim.resource)?;
        let lease = self.lease(claim)?;
        let mut held = self.held();
        if held.get(claim.resource).is_some_and(|holder| holder.value == claim.value) {
            held.remove(claim.resource);
        }
        match self.try_take(&path, claim.value) {
            Ok(Some((file, token))) => {
                held.insert(claim.resource.to_owned(), Holder { value: claim.value.to_owned(), file });
                Ok((lease, token))
            }
            Ok(None) => Err(LockError::Busy { resource: claim.resource.to_owned(), free_in: None }),
            Err(source) => Err(LockError::File { path, source }),
        }
    }

    fn extend(&self, claim: Claim<'_>) -> Result<Lease, LockError> {
        match self.held().get(claim.resource) {
            Some(holder) if holder.value == claim.value => self.lease(claim),
            _ => Err(LockError::Expired { resource: claim.resource.to_owned() }),
        }
    }

    fn release(&self, resource: &str, value: &str) -> Result<(), LockError> {
        let mut held = self.held();
        if held.get(resource).is_some_and(|holder| holder.value == value) {
            let holder = held.remove(resource);
            // A child that was forked meanwhile has a copy of the descriptor, which would
            // keep the lock if this were left to its being closed.
            holder
                .map_or(Ok(true), |holder| set_lock(&holder.file, libc::F_UNLCK))
                .map_err(|source| LockError::File { path: self.folder.join(file_name(resource)), source })?;
        }
        Ok(())
    }

    fn free(&self, resource: &str) -> Result<(), LockError> {
        let mut held = self.held();
        if held.remove(resource).is_some() {
            return Ok(());
        }
        let path = self.path(resource)?;
        match Self::try_look(&path) {
            Ok(Seen { value: Some(value), .. }) => {
                let why = format!("its holder is {value}, and only the end of that process releases it");
                Err(LockError::File { path, source: io::Error::other(why) })
            }
            Ok(_free) => Ok(()),
            Err(source) => Err(LockError::File { path, source }),
        }
    }

    fn look(&self, resource: &str) -> Vec<Inspected> {
        let seen = self.path(resource).map_err(|error| error.to_string()).and_then(|path| {
            Self::try_look(&path).map_err(|source| LockError::File { path, source }.to_string())
        });
        vec![(self.describe(), seen)]
    }

    fn life(&self, resource: &str, value: Option<&str>) -> Result<Option<Duration>, LockError> {
        let path = self.path(resource)?;
        let seen = Self::try_look(&path).map_err(|source| LockError::File { path, source })?;
        let holder = seen.value.filter(|holder| value.is_none_or(|value| value == holder));
        Ok(holder.map(|_as_long_as_it_lives| Duration::MAX))
    }

    fn examine(&self) -> Vec<Examined> {
        Vec::new()
    }

    fn describe(&self) -> String {
        format!("file:{}", self.folder.display())
    }
}

/// The name of a resource as that of a file: letters, digits, `-`, `_` and inner dots stay.
fn file_name(resource: &str) -> String {
    let mut name = String::new();
    for (at, byte) in resource.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => {
                // Writing to a string cannot fail.
                write!(name, "%{byte:02X}").ok();
            }
        }
    }
    name + ".lock"
}

fn range(kind: i32) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// False if somebody else has it.
fn set_lock(file: &File, kind: i32) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn lock_of(file: &File) -> io::Result<Lock> {
    let mut found = range(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(if i32::from(found.l_type) == libc::F_UNLCK { Lock::Free } else { Lock::Held })
}

fn read(file: &mut File) -> io::Result<Record> {
    let mut text = String::new();
    file.take(RECORD_LIMIT).read_to_string(&mut text)?;
    let no_record =
        || io::Error::new(ErrorKind::InvalidData, "it is no lock file of hornpipe's; name another folder");
    parse(&text).ok_or_else(no_record)
}

fn parse(text: &str) -> Option<Record> {
    if text.is_empty() {
        return Some(Record::default());
    }
    let (fence, value) = text.strip_prefix(MAGIC)?.strip_suffix('\n')?.split_once(' ')?;
    let fence = match fence.trim_start_matches('0') {
        "" => 0,
        digits => token::parse(digits)?,
    };
    Some(Record { fence, value: value.to_owned() })
}

const MAGIC: &str = "hornpipe-lock 1 ";

/// In one write, and longer than any before or cut to its length afterwards.
fn write(file: &File, record: &Record) -> io::Result<()> {
    let text = format!("{MAGIC}{:020} {}\n", record.fence, record.value);
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_in_the_folder_whatever_it_is() {
        assert_eq!(file_name("nightly-report_2.1"), "nightly-report_2.1.lock");
        assert_eq!(file_name("../x"), "%2E.%2Fx.lock");
        assert_eq!(file_name("a%b c"), "a%25b%20c.lock");
    }

    #[test]
    fn names_that_differ_are_files_that_differ() {
        let names = ["a/b", "a%2Fb", "a.b", ".a.b", "A/B", "ä", "a\0b"];
        let files: std::collections::BTreeSet<String> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_rubbish_is_none() {
        assert_eq!(parse(""), Some(Record::default()));
        let record = parse("hornpipe-lock 1 00000000000000000017 host/12/ab\n").unwrap();
        assert_eq!(record, Record { fence: 17, value: "host/12/ab".to_owned() });
        assert_eq!(
            ["x\n", "hornpipe-lock 1 5", "hornpipe-lock 2 5 x\n", "hornpipe-lock 1 -5 x\n"].map(parse),
            [None, None, None, None]
        );
    }
}
