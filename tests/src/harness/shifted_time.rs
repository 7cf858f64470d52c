//! Another time of day for some processes, changed while they run.
#![allow(clippy::disallowed_methods, reason = "this file compiles a library of the tests' own")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use super::folder::Folder;
use super::programs::source;

/// A library for LD_PRELOAD, and the file that tells it the time. libfaketime is no good
/// here: redis-server does not start with it.
#[derive(Debug)]
pub struct ShiftedTime {
    library: PathBuf,
    shift: PathBuf,
    _folder: Folder,
}

impl ShiftedTime {
    /// Compiled, and with the true time at first.
    pub fn new() -> Self {
        let folder = Folder::new();
        let (library, shift) = (folder.file("shifted_time.so"), folder.file("shift"));
        let source = source("c").join("shifted_time.c");
        let output = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output();
        let output = output.expect("the tests need a C compiler called cc");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&shift, 0_i64.to_ne_bytes()).unwrap();
        Self { library, shift, _folder: folder }
    }

    /// What a process has to have in its environment.
    pub fn variables(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", self.library.to_str().unwrap()), ("SHIFTED_TIME", self.shift.to_str().unwrap())]
    }

    /// From now on the clocks are ahead by so many seconds, or behind.
    pub fn set(&self, seconds: i64) {
        let file = File::options().write(true).open(&self.shift).unwrap();
        file.write_all_at(&(seconds * 1_000_000).to_ne_bytes(), 0).unwrap();
    }
}

impl Default for ShiftedTime {
    fn default() -> Self {
        Self::new()
    }
}
