//! Users and groups, by name or by number.

use nix::unistd::{Gid, Group, Uid, User};

use super::ConfigError;

/// An entry in the system's list of users, as far as there is one.
pub(super) struct Account {
    pub(super) user: Uid,
    pub(super) group: Option<Gid>,
    pub(super) supplementary: Option<Vec<Gid>>,
}

impl Account {
    pub(super) fn of(name: &str) -> Result<Self, ConfigError> {
        let unknown = || ConfigError::UnknownAccount { kind: "user", name: name.to_owned() };
        let found = match name.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(name),
        };
        match (found.map_err(|_errno| unknown())?, name.parse()) {
            (Some(user), _) => {
                let name = std::ffi::CString::new(user.name).map_err(|_nul| unknown())?;
                let groups = nix::unistd::getgrouplist(&name, user.gid).ok();
                Ok(Self { user: user.uid, group: Some(user.gid), supplementary: groups })
            }
            (None, Ok(number)) => Ok(Self { user: Uid::from_raw(number), group: None, supplementary: None }),
            (None, Err(_)) => Err(unknown()),
        }
    }
}

pub(super) fn find_group(name: &str) -> Result<Gid, ConfigError> {
    let unknown = || ConfigError::UnknownAccount { kind: "group", name: name.to_owned() };
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).map_err(|_errno| unknown())?;
    found.map(|group| group.gid).ok_or_else(unknown)
}
