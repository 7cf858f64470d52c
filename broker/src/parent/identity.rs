//! Who router and workers are: user, groups, directories.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};

/// What a child changes to before it runs. `None` stays as the parent is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user id.
    pub user: Option<u32>,
    /// The group id.
    pub group: Option<u32>,
    /// The supplementary groups.
    pub supplementary_groups: Option<Vec<u32>>,
    /// The root directory.
    pub chroot: Option<PathBuf>,
    /// The working directory, inside the root directory.
    pub directory: Option<PathBuf>,
}

impl Identity {
    /// Becomes it. The order is the only one that works: the root directory needs the
    /// old user, the groups too, and the user is given up last.
    ///
    /// # Errors
    /// What was refused and why, as a sentence.
    pub(super) fn assume(&self) -> Result<(), String> {
        if let Some(root) = &self.chroot {
            chroot(root).map_err(|errno| refused(&format!("chroot to {}", root.display()), errno))?;
            chdir("/").map_err(|errno| refused("enter the new root directory", errno))?;
        }
        if let Some(directory) = &self.directory {
            chdir(directory)
                .map_err(|errno| refused(&format!("change to {}", directory.display()), errno))?;
        }
        if let Some(groups) = &self.supplementary_groups {
            let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
            setgroups(&groups).map_err(|errno| refused("set the supplementary groups", errno))?;
        }
        if let Some(group) = self.group {
            let gid = Gid::from_raw(group);
            setresgid(gid, gid, gid).map_err(|errno| refused(&format!("become group {group}"), errno))?;
        }
        if let Some(user) = self.user {
            let uid = Uid::from_raw(user);
            setresuid(uid, uid, uid).map_err(|errno| refused(&format!("become user {user}"), errno))?;
        }
        Ok(())
    }
}

fn refused(what: &str, errno: Errno) -> String {
    format!("cannot {what}: {}", errno.desc().to_lowercase())
}
