//! Files whose change is a reload (`--reload-on`, for development): inotify, and a
//! moment of quiet before anything is done. What has changed in them is nobody's
//! business here; which names count is said by `is_of_no_account`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tracing::warn;

use crate::core::{ServiceId, Timestamp};

/// A deployment or an editor writes more than one file: so long nothing may change.
const QUIET: Duration = Duration::from_millis(200);

/// Directories watched at most, beside the kernel's own limit.
const WATCH_LIMIT: usize = 8192;

/// Events read in one turn; the rest of the kernel's answer that holds the last one too.
const BATCH: usize = 256;

/// An event with the longest name there is has 272 bytes.
const BUFFER_SIZE: usize = 4096;

/// The files of all services.
#[derive(Debug)]
pub(super) struct Watches(Vec<(ServiceId, Watch)>);

impl Watches {
    pub(super) fn new<'a>(roots: impl Iterator<Item = (ServiceId, &'a [PathBuf])>) -> Self {
        Self(roots.filter_map(|(service, roots)| Some((service, Watch::new(roots)?))).collect())
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_service, watch)| watch.inotify.as_fd())
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(|(_service, watch)| watch.next_deadline()).min()
    }

    /// Reads what the kernel has told.
    pub(super) fn read(&mut self, now: Timestamp) {
        self.0.iter_mut().for_each(|(_service, watch)| watch.read(now));
    }

    /// Whose files have changed, once they have been quiet for a while, and which.
    pub(super) fn take_change(&mut self, now: Timestamp) -> Option<(ServiceId, PathBuf)> {
        self.0.iter_mut().find_map(|(service, watch)| Some((*service, watch.take_change(now)?)))
    }
}

#[derive(Debug)]
struct Watch {
    inotify: OwnedFd,
    /// As they were given.
    roots: Vec<PathBuf>,
    directories: BTreeMap<i32, Directory>,
    /// What has changed last, and until when nothing else must.
    changed: Option<(PathBuf, Timestamp)>,
    /// That there are too many is said once.
    full: bool,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    scope: Scope,
}

/// Which of a directory's entries matter.
#[derive(Debug)]
enum Scope {
    /// All, in new directories inside it too.
    Everything,
    Only(BTreeSet<OsString>),
}

/// Something that the kernel has told.
#[derive(Debug)]
struct Told {
    watch: i32,
    what: ReadFlags,
    name: Option<OsString>,
}

impl Watch {
    /// Of nothing, if there are no paths, or the kernel does not watch for us.
    fn new(roots: &[PathBuf]) -> Option<Self> {
        if roots.is_empty() {
            return None;
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .inspect_err(|error| warn!(%error, "cannot watch files: no change of them is a reload"))
            .ok()?;
        let roots = roots.to_vec();
        let mut watch = Self { inotify, roots, directories: BTreeMap::new(), changed: None, full: false };
        watch.watch_everything();
        Some(watch)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.changed.as_ref().map(|(_path, quiet)| *quiet)
    }

    /// What has changed, once everything has been quiet for a while.
    fn take_change(&mut self, now: Timestamp) -> Option<PathBuf> {
        let (path, _quiet) = self.changed.take_if(|(_path, quiet)| *quiet <= now)?;
        // A path may have come back as another directory, and events may have been lost.
        self.watch_everything();
        Some(path)
    }

    /// Reads what the kernel has told.
    fn read(&mut self, now: Timestamp) {
        for told in self.receive() {
            if let Some(path) = self.understand(told) {
                self.changed = Some((path, now.after(QUIET)));
            }
        }
    }

    fn receive(&self) -> Vec<Told> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_SIZE];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        while all.len() < BATCH || !reader.is_buffer_empty() {
            // Nothing more at present, mostly.
            let Ok(event) = reader.next() else { break };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
            all.push(Told { watch: event.wd(), what: event.events(), name });
        }
        all
    }

    /// The path that has changed, if it matters.
    fn understand(&mut self, Told { watch, what, name }: Told) -> Option<PathBuf> {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            warn!("too many files change at once: some changes are not known by name");
            return self.roots.first().cloned();
        }
        if what.contains(ReadFlags::IGNORED) {
            self.directories.remove(&watch);
            return None;
        }
        let Directory { path, scope } = self.directories.get(&watch)?;
        let Some(name) = name else {
            let matters = matches!(scope, Scope::Everything);
            return matters.then(|| path.clone());
        };
        let path = path.join(&name);
        match scope {
            Scope::Only(names) => names.contains(&name).then_some(path),
            Scope::Everything if is_of_no_account(&name) => None,
            Scope::Everything => {
                if what.contains(ReadFlags::ISDIR) {
                    self.directory_moved(&path, what);
                }
                Some(path)
            }
        }
    }

    fn directory_moved(&mut self, path: &Path, what: ReadFlags) {
        if what.contains(ReadFlags::MOVED_FROM) {
            let left: Vec<i32> = self
                .directories
                .iter()
                .filter(|(_, directory)| directory.path.starts_with(path))
                .map(|(watch, _)| *watch)
                .collect();
            for watch in left {
                self.directories.remove(&watch);
                // It may be gone already.
                inotify::remove_watch(&self.inotify, watch).ok();
            }
        } else if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.watch_tree(path);
        }
    }

    fn watch_everything(&mut self) {
        for root in self.roots.clone() {
            // The directory that it is in: an editor replaces a file by another, a
            // deployment a directory or a link.
            if let (Some(parent), Some(name)) = (root.parent(), root.file_name()) {
                self.add(parent, Scope::Only([name.to_owned()].into()));
            }
            if root.is_dir() {
                self.watch_tree(&root);
            }
        }
    }

    /// Links inside are not followed.
    fn watch_tree(&mut self, top: &Path) {
        let mut left = vec![top.to_owned()];
        while let Some(path) = left.pop() {
            // Watched first: what appears while its entries are read is told.
            self.add(&path, Scope::Everything);
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let count = directories.filter(|entry| !is_of_no_account(&entry.file_name()));
            left.extend(count.map(|entry| entry.path()).take(WATCH_LIMIT.saturating_sub(left.len())));
            if self.full {
                return;
            }
        }
    }

    fn add(&mut self, path: &Path, scope: Scope) {
        let known = self.directories.values().any(|directory| directory.path == path);
        if self.directories.len() >= WATCH_LIMIT && !known {
            if !std::mem::replace(&mut self.full, true) {
                warn!(limit = WATCH_LIMIT, path = %path.display(), "too many directories: not all are watched");
            }
            return;
        }
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, path, what) {
            Ok(watch) => {
                let earlier = self.directories.remove(&watch).map(|directory| directory.scope);
                let scope = scope.and(earlier);
                self.directories.insert(watch, Directory { path: path.to_owned(), scope });
            }
            // Gone since it was found.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => (),
            Err(error) => warn!(%error, path = %path.display(), "cannot watch this directory"),
        }
    }
}

impl Scope {
    /// The same directory may be watched for two reasons.
    fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (one, None) => one,
            (Self::Only(mut names), Some(Self::Only(others))) => {
                names.extend(others);
                Self::Only(names)
            }
            (Self::Everything, Some(_)) | (Self::Only(_), Some(Self::Everything)) => Self::Everything,
        }
    }
}

/// Hidden files, what editors leave beside a file while they write it, and what an
/// interpreter keeps for itself.
fn is_of_no_account(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let begins = [&b"."[..], b"#"].iter().any(|head| name.starts_with(head));
    let ends =
        [&b"~"[..], b".swp", b".swo", b".swx", b".tmp", b".pyc"].iter().any(|tail| name.ends_with(tail));
    // The file by which Vim finds out whether it may write.
    begins || ends || name == b"4913" || name == b"__pycache__"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_and_interpreters_leave_does_not_count() {
        for name in [".git", ".worker.py.swp", "worker.py~", "#worker.py#", "4913", "__pycache__", "a.pyc"] {
            assert!(is_of_no_account(name.as_ref()), "{name}");
        }
        for name in ["worker.py", "worker", "swp", "4914", "pycache", "worker.new"] {
            assert!(!is_of_no_account(name.as_ref()), "{name}");
        }
    }
}
