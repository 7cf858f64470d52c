//! A worker program that can be broken and mended while its broker runs.

use std::ffi::OsString;
use std::fs;

use super::folder::Folder;
use super::programs::hornpipe;

/// The demo worker, which ends at once for as long as it is broken.
#[derive(Debug, Default)]
pub struct Breakable(Folder);

const SCRIPT: &str =
    r#"if [ -e "$1" ]; then echo "the database is not there"; exit 3; fi; exec "$2" worker demo"#;

impl Breakable {
    /// One that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// What stands after `--`.
    pub fn program(&self) -> [OsString; 6] {
        let flag = self.0.file("broken").into_os_string();
        ["sh".into(), "-c".into(), SCRIPT.into(), "sh".into(), flag, hornpipe().into_os_string()]
    }

    /// Whoever starts from here on ends at once, with the exit code 3.
    pub fn break_it(&self) {
        fs::write(self.0.file("broken"), "").unwrap();
    }

    /// Whoever starts from here on works.
    pub fn mend(&self) {
        fs::remove_file(self.0.file("broken")).unwrap();
    }
}
