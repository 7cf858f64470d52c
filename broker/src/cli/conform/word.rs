//! The word in which a worker claims its jobs before it begins them: PROTOCOL.md, "Jobs ahead of
//! their time". It is read and written as a file here, which is enough while the worker is at rest.

use std::fs::{File, OpenOptions, read_link};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use hornpipe_proto::claim;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};

use super::bench::Failed;

#[derive(Debug)]
pub(super) struct Word {
    file: File,
    /// The number of the last job that was sent.
    last: u32,
}

impl Word {
    /// The file that one of these processes has under this descriptor.
    pub(super) fn find(processes: &[i32], descriptor: u32) -> Result<Self, Failed> {
        let name = format!("/memfd:{} (deleted)", claim::FILE_NAME);
        let mut paths = processes.iter().map(|pid| format!("/proc/{pid}/fd/{descriptor}"));
        let path = paths.find(|path| read_link(path).is_ok_and(|file| file.as_os_str() == name.as_str()));
        let path = path.ok_or_else(|| {
            format!(
                "it announces `claims` {descriptor}, and has no memfd {:?} under that descriptor",
                claim::FILE_NAME
            )
        })?;
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        let file = file.map_err(|error| format!("its word cannot be opened: {error}"))?;
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|error| error.to_string())?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size < 8 {
            return Err(format!("the file of its word has {size} bytes, and should have 8"));
        }
        if seals & SealFlag::F_SEAL_SHRINK.bits() == 0 {
            return Err("the file of its word is not sealed with F_SEAL_SHRINK, so no broker maps it".into());
        }
        let mut word = Self { file, last: 0 };
        word.last = word.begun()?;
        Ok(word)
    }

    /// A number for the next job.
    pub(super) fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    /// The number of the last job that was begun.
    pub(super) fn begun(&self) -> Result<u32, Failed> {
        let mut bytes = [0; 8];
        self.file
            .read_exact_at(&mut bytes, 0)
            .map_err(|error| format!("its word cannot be read: {error}"))?;
        Ok(u32::try_from(u64::from_ne_bytes(bytes) >> 32).unwrap_or_default())
    }

    /// Takes back all jobs up to this number. Only while the worker has none: nobody else may
    /// change the word in between.
    pub(super) fn withdraw(&self, last: u32) -> Result<(), Failed> {
        let word = u64::from(self.begun()?) << 32 | u64::from(last);
        let written = self.file.write_all_at(&word.to_ne_bytes(), 0);
        written.map_err(|error| format!("its word cannot be written: {error}"))
    }
}
