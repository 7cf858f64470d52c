//! The programs that tests run: the binary under test, Python, and C.
//!
//! Cargo tells a test nothing of another package's binary, so the test command builds
//! it first (`cargo build -p hornpipe`) and it is found beside the test executable.
#![allow(clippy::disallowed_methods, reason = "this file knows where programs are")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::folder::Folder;

/// The variable that names a Python with pyzmq; `python3` unless set.
const PYTHON: &str = "HPTEST_PYTHON";

/// The variable that names a Python with pyzmq and gunicorn, for the comparison with it.
const GUNICORN: &str = "HPTEST_GUNICORN";

/// The binary under test, built with the profile of the tests.
pub fn hornpipe() -> PathBuf {
    beside("hornpipe")
}

/// A binary of the workspace, built with the profile of the tests.
pub(super) fn beside(name: &str) -> PathBuf {
    // target/<profile>/deps/e2e-0123 and target/<profile>/soak both lie under <profile>.
    let test = env::current_exe().unwrap();
    let found = test.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("there is no {name} beside {}: run `cargo build --workspace --bins` first", test.display())
    })
}

/// A Python interpreter with pyzmq.
pub fn python() -> PathBuf {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let find = || {
        let python = PathBuf::from(env::var_os(PYTHON).unwrap_or_else(|| "python3".into()));
        let output = Command::new(&python).args(["-c", "import zmq"]).output();
        match output {
            Ok(output) if output.status.success() => Ok(python),
            Ok(output) => Err(format!(
                "{} has no pyzmq: run `python3 -m pip install pyzmq`, or name a Python that has it in {PYTHON}\n{}",
                python.display(),
                String::from_utf8_lossy(&output.stderr)
            )),
            Err(error) => {
                Err(format!("cannot run {}: {error}; name a Python with pyzmq in {PYTHON}", python.display()))
            }
        }
    };
    FOUND.get_or_init(find).clone().unwrap_or_else(|why| panic!("{why}"))
}

/// A Python interpreter with pyzmq and a gunicorn that has dirty workers.
pub fn python_with_gunicorn() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let python = env::var_os(GUNICORN).map_or_else(python, PathBuf::from);
        let output = Command::new(&python).args(["-c", "import zmq, gunicorn.dirty"]).output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "{} has no pyzmq and gunicorn 25 or later; name a Python that has them in {GUNICORN}: {output:?}",
            python.display()
        );
        python
    };
    FOUND.get_or_init(find).clone()
}

/// A Python interpreter with the parser that Prometheus publishes.
pub fn python_with_prometheus_client() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let python = python();
        let output = Command::new(&python).args(["-c", "import prometheus_client"]).output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "{} has no prometheus-client: run `python3 -m pip install prometheus-client`, or name a Python that has \
             it and pyzmq in {PYTHON}: {output:?}",
            python.display()
        );
        python
    };
    FOUND.get_or_init(find).clone()
}

/// A Python interpreter with an implementation of Majordomo 0.2 that is not ours.
pub fn python_with_majortomo() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        let python = python();
        let output = Command::new(&python).args(["-c", "import majortomo"]).output();
        assert!(
            output.as_ref().is_ok_and(|output| output.status.success()),
            "{} has no majortomo: run `python3 -m pip install majortomo`, or name a Python that has it and pyzmq in \
             {PYTHON}: {output:?}",
            python.display()
        );
        python
    };
    FOUND.get_or_init(find).clone()
}

/// A script of `tests/python`.
pub fn script(name: &str) -> PathBuf {
    let path = source("python").join(name);
    assert!(path.is_file(), "there is no script {}", path.display());
    path
}

/// A program of `tests/c`, compiled against the system's libzmq into this folder.
pub fn c_program(name: &str, folder: &Folder) -> PathBuf {
    compiled(&source("c").join(format!("{name}.c")), folder)
}

/// One of the workers that need no library of ours.
pub fn worker_example(name: &str) -> PathBuf {
    let path = source("../worker/examples").join(name);
    assert!(path.is_file(), "there is no example {}", path.display());
    path
}

/// That of them which is written in C, compiled into this folder.
pub fn compiled_example(name: &str, folder: &Folder) -> PathBuf {
    compiled(&worker_example(name), folder)
}

fn compiled(file: &Path, folder: &Folder) -> PathBuf {
    let name = file.file_stem().unwrap().to_str().unwrap();
    let program = folder.file(name);
    let output = Command::new("cc")
        .arg("-o")
        .arg(&program)
        .arg(file)
        .arg("-lzmq")
        .output()
        .expect("the tests need a C compiler called cc");
    assert!(
        output.status.success(),
        "cannot compile {name}.c; it needs the system's libzmq (Debian: libzmq3-dev):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

/// A folder of this package, or beside it.
pub fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}
