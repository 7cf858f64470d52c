//! Where the control socket of a broker is: the same rule for the broker that
//! makes it and the operator who looks for it.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::Environment;
use crate::parent::Identity;

const ROOT_DIRECTORY: &str = "/run/hornpipe";
const LAST_RESORT: &str = "/tmp";

/// For the owner alone.
const PRIVATE: u32 = 0o700;

/// For others to pass through to what they are given by name; each socket in it
/// has an owner and is for that owner alone.
const PASSABLE: u32 = 0o711;

/// Where control sockets are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlPlace {
    /// Exactly here.
    File(PathBuf),
    /// In this directory, named after the frontend's port.
    Directory(PathBuf),
    /// The same, in a directory of the user's own among those of others.
    Shared(PathBuf),
}

/// Why a directory is not trusted with a socket.
#[derive(Debug)]
pub enum PlaceError {
    /// It cannot be made or looked at.
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else made it, or could change it.
    NotOurs {
        /// The directory.
        directory: PathBuf,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { directory, source } => {
                write!(
                    f,
                    "cannot use {} for the control socket: {source}; use --control PATH",
                    directory.display()
                )
            }
            Self::NotOurs { directory } => write!(
                f,
                "{} is not a directory of this user alone, so its sockets cannot be trusted; use --control PATH",
                directory.display()
            ),
        }
    }
}

impl std::error::Error for PlaceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unusable { source, .. } => Some(source),
            Self::NotOurs { .. } => None,
        }
    }
}

impl ControlPlace {
    /// Where this user's control sockets are: `control` if it is named, else in
    /// the user's runtime directory, else in `/run` for root, else in `/tmp`.
    pub fn choose(control: Option<PathBuf>, environment: &Environment, user: Uid) -> Self {
        if let Some(path) = control {
            return Self::File(path);
        }
        // After `su` it may be another user's, or not there at all.
        let is_own = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user.as_raw())
        };
        let runtime = environment.runtime_directory().filter(|path| path.is_absolute()).filter(is_own);
        match runtime {
            Some(runtime) => Self::Directory(runtime.join("hornpipe")),
            None if user.is_root() => Self::of_root(),
            None => Self::Shared(PathBuf::from(format!("{LAST_RESORT}/hornpipe-{user}"))),
        }
    }

    /// The control socket of the broker with that frontend port, or of the crew of that name.
    pub fn socket(&self, name: impl fmt::Display) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Directory(directory) | Self::Shared(directory) => directory.join(format!("{name}.sock")),
        }
    }

    /// The private socket of that broker's crew, to which workers of this identity connect.
    ///
    /// With a root directory of their own they see nothing outside of it, so it is
    /// in there: the parent binds this path, and the workers connect to what is
    /// left of it without that directory. Another user may be locked out of the
    /// place of the control socket; it is then where root's are. Else it is beside.
    pub fn crew_for(&self, name: impl fmt::Display, workers: &Identity) -> PathBuf {
        match (&workers.chroot, workers.user) {
            (Some(_), _) => self.crew(name, workers.chroot.as_deref()),
            (None, Some(_)) => Self::of_root().crew(name, None),
            (None, None) => self.crew(name, None),
        }
    }

    /// The same for workers of this user.
    pub fn crew(&self, name: impl fmt::Display, chroot: Option<&Path>) -> PathBuf {
        match (chroot, self) {
            (Some(root), _) => root.join(format!("hornpipe-{name}.crew")),
            (None, Self::File(path)) => {
                let mut path = path.clone().into_os_string();
                path.push(".crew");
                path.into()
            }
            (None, Self::Directory(directory) | Self::Shared(directory)) => {
                directory.join(format!("{name}.crew"))
            }
        }
    }

    /// Where root's control sockets are, if root has no runtime directory.
    pub fn of_root() -> Self {
        Self::Directory(PathBuf::from(ROOT_DIRECTORY))
    }

    /// Makes the directory where that takes care: among those of others nobody
    /// else may have made it, and through root's own the workers of another user
    /// must pass. Other places are the binder's business.
    ///
    /// # Errors
    /// If it cannot be made, or is not ours alone.
    pub fn prepare(&self) -> Result<(), PlaceError> {
        match self {
            Self::Shared(directory) => {
                make_directory(directory, PRIVATE)?;
                self.check()
            }
            Self::Directory(directory) if *self == Self::of_root() => {
                make_directory(directory, PASSABLE)?;
                let unusable = |source| PlaceError::Unusable { directory: directory.clone(), source };
                // The umask, or an earlier version, may have closed it.
                std::fs::set_permissions(directory, PermissionsExt::from_mode(PASSABLE)).map_err(unusable)
            }
            Self::File(_) | Self::Directory(_) => Ok(()),
        }
    }

    /// Checks that a directory among those of others is ours alone. One that is
    /// not there is.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(&self) -> Result<(), PlaceError> {
        let Self::Shared(directory) = self else { return Ok(()) };
        match directory.symlink_metadata() {
            Ok(found) if is_private(&found) => Ok(()),
            Ok(_) => Err(PlaceError::NotOurs { directory: directory.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(PlaceError::Unusable { directory: directory.clone(), source }),
        }
    }
}

fn make_directory(directory: &Path, mode: u32) -> Result<(), PlaceError> {
    match std::fs::DirBuilder::new().mode(mode).create(directory) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(PlaceError::Unusable { directory: directory.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A directory of this user, into which nobody else may even look.
fn is_private(found: &Metadata) -> bool {
    let closed = found.mode().trailing_zeros() >= 6;
    found.is_dir() && found.uid() == Uid::effective().as_raw() && closed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(variables: [(&str, &str); 1], user: u32) -> ControlPlace {
        ControlPlace::choose(None, &Environment::of(variables), Uid::from_raw(user))
    }

    #[test]
    fn a_named_socket_is_the_one() {
        let place = ControlPlace::choose(
            Some("/x/y".into()),
            &Environment::of([("XDG_RUNTIME_DIR", "/tmp")]),
            Uid::current(),
        );
        assert_eq!(place.socket(6660), Path::new("/x/y"));
    }

    #[test]
    fn the_runtime_directory_is_used_if_it_is_ours() {
        let own = std::env::temp_dir().join(format!("hornpipe-place-{}", std::process::id()));
        std::fs::create_dir_all(&own).unwrap();
        let own = own.to_str().unwrap();
        let user = Uid::effective().as_raw();
        let place = choose([("XDG_RUNTIME_DIR", own)], user);
        assert_eq!(place.socket(6660), Path::new(own).join("hornpipe/6660.sock"));
        for other in
            [choose([("XDG_RUNTIME_DIR", own)], user + 1), choose([("XDG_RUNTIME_DIR", "/none")], user + 1)]
        {
            assert_eq!(other.socket(6660), PathBuf::from(format!("/tmp/hornpipe-{}/6660.sock", user + 1)));
        }
        std::fs::remove_dir(own).unwrap();
        assert_eq!(choose([("X", "")], 0).socket(1), Path::new("/run/hornpipe/1.sock"));
    }

    #[test]
    fn a_directory_among_those_of_others_is_ours_alone_or_refused() {
        let path = std::env::temp_dir().join(format!("hornpipe-shared-{}", std::process::id()));
        let place = ControlPlace::Shared(path.clone());
        place.check().unwrap();
        place.prepare().unwrap();
        place.prepare().unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(matches!(place.prepare(), Err(PlaceError::NotOurs { .. })));
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        assert!(matches!(place.prepare(), Err(PlaceError::NotOurs { .. })));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_crew_is_where_its_workers_can_connect() {
        let place = ControlPlace::Directory("/run/h".into());
        assert_eq!(place.crew(6660, None), Path::new("/run/h/6660.crew"));
        assert_eq!(place.crew(1, Some(Path::new("/jail"))), Path::new("/jail/hornpipe-1.crew"));
        assert_eq!(ControlPlace::File("/x".into()).crew(6660, None), Path::new("/x.crew"));
        let nobody = Identity { user: Some(65534), ..Identity::default() };
        assert_eq!(place.crew_for(1, &Identity::default()), Path::new("/run/h/1.crew"));
        assert_eq!(place.crew_for(1, &nobody), Path::new("/run/hornpipe/1.crew"));
        let jailed = Identity { chroot: Some("/jail".into()), ..nobody };
        assert_eq!(place.crew_for(1, &jailed), Path::new("/jail/hornpipe-1.crew"));
    }
}
