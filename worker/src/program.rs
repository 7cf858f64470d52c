//! The one door through which an adapter starts programs.
#![expect(clippy::disallowed_methods, reason = "this file starts the programs of adapters")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::{ServeError, Settings, ffi, pipe};

/// A program that was found, with its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
    environment: Option<Vec<(OsString, OsString)>>,
}

impl Program {
    /// Finds the program that a shell with the search path of `settings` would execute.
    pub(crate) fn find(argv: &[OsString], settings: &Settings) -> Result<Self, ServeError> {
        let refuse = |name: &OsStr, why: String| ServeError::NotExecutable {
            program: name.to_string_lossy().into_owned(),
            why,
        };
        let [name, arguments @ ..] = argv else {
            return Err(refuse(OsStr::new(""), "no program is named".to_owned()));
        };
        let path = locate(name, &settings.search_path).map_err(|why| refuse(name, why.desc().to_owned()))?;
        Ok(Self {
            path,
            name: name.clone(),
            arguments: arguments.to_vec(),
            environment: settings.environment.clone(),
        })
    }

    /// The name it was called by.
    pub(crate) fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }

    /// Starts it in this process's group, with pipes that do not block us. It
    /// dies with us and has default signals. `None` removes a variable.
    pub(crate) fn start(&self, variables: &[(&str, Option<String>)], stderr: Stdio) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.arg0(&self.name).args(&self.arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        if let Some(environment) = &self.environment {
            command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
        }
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        ffi::prepare_in_child(&mut command);
        let child = command.spawn()?;
        child.stdin.as_ref().map_or(Ok(()), pipe::set_nonblocking)?;
        child.stdout.as_ref().map_or(Ok(()), pipe::set_nonblocking)?;
        child.stderr.as_ref().map_or(Ok(()), pipe::set_nonblocking)?;
        Ok(child)
    }
}

fn locate(name: &OsStr, search_path: &OsStr) -> Result<PathBuf, Errno> {
    if name.as_encoded_bytes().contains(&b'/') {
        return executable(name.into());
    }
    let mut why = Errno::ENOENT;
    for folder in std::env::split_paths(search_path) {
        // An empty entry is the current folder, and a name without any folder
        // would be searched for once more.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        match executable(folder.join(name)) {
            Ok(path) => return Ok(path),
            Err(Errno::EACCES) => why = Errno::EACCES,
            Err(_) => (),
        }
    }
    Err(why)
}

fn executable(path: PathBuf) -> Result<PathBuf, Errno> {
    access(&path, AccessFlags::X_OK)?;
    // Folders count as executable too.
    if path.is_file() { Ok(path) } else { Err(Errno::EACCES) }
}
