//! Who may ask a broker, and who may order something.

use std::path::PathBuf;

use nix::unistd::{Gid, Uid};

use super::account::find_group;
use super::resolve::full_path;
use super::{ConfigError, RawConfig};
use crate::parent::Identity;

/// A control socket that answers questions and takes no orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSocket {
    /// Its file.
    pub path: PathBuf,
    /// Whose members may connect, besides the user who starts the broker.
    pub group: Option<u32>,
}

impl RawConfig {
    pub(super) fn resolve_control_read(&self) -> Result<Option<ReadSocket>, ConfigError> {
        let group = self.control_group.as_deref().map(find_group).transpose()?.map(Gid::as_raw);
        match &self.control_read {
            Some(path) => Ok(Some(ReadSocket { path: full_path(path.clone())?, group })),
            None if group.is_some() => Err(ConfigError::GroupWithoutSocket),
            None => Ok(None),
        }
    }
}

/// Root, who starts it, and whom it becomes.
pub(super) fn operators(user: Uid, identity: &Identity) -> Vec<u32> {
    let mut users = vec![0, user.as_raw()];
    users.extend(identity.user);
    users.sort_unstable();
    users.dedup();
    users
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_group_needs_a_socket_and_a_socket_no_group() {
        let none = RawConfig::default();
        assert_eq!(none.resolve_control_read(), Ok(None));
        let path = Some("/run/h.read".into());
        let own = RawConfig { control_read: path.clone(), ..RawConfig::default() };
        assert_eq!(own.resolve_control_read().unwrap().unwrap().group, None);
        let shared = RawConfig { control_group: Some("12".into()), ..own };
        let socket = shared.resolve_control_read().unwrap().unwrap();
        assert_eq!((socket.path.as_path(), socket.group), (Path::new("/run/h.read"), Some(12)));
        let lonely = RawConfig { control_read: None, ..shared };
        assert_eq!(lonely.resolve_control_read(), Err(ConfigError::GroupWithoutSocket));
    }

    #[test]
    fn operators_are_root_the_starter_and_the_user_it_runs_as() {
        let nobody = Identity { user: Some(65534), ..Identity::default() };
        assert_eq!(operators(Uid::from_raw(1000), &nobody), [0, 1000, 65534]);
        assert_eq!(operators(Uid::from_raw(0), &Identity::default()), [0]);
    }
}
