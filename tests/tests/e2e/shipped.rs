//! What lies in `docs/` for others to use, tried as far as that goes without systemd and without
//! a container engine: the unit files, and the image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hornpipe_tests::harness::{Folder, Process, eventually, has, hornpipe, python, script, send, status_of};
use nix::sys::signal::Signal::SIGTERM;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The settings of a unit file, the last of each name.
fn unit(path: &str) -> BTreeMap<String, String> {
    let text = read(path);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.into(), value.into())).collect()
}

fn variables(path: &str) -> BTreeMap<String, String> {
    unit(path)
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap()
}

#[test]
fn the_command_of_the_unit_file_runs_with_the_settings_of_its_example() {
    let (unit, variables) = (unit("docs/systemd/hornpipe@.service"), variables("docs/systemd/hornpipe.env"));
    let folder = Folder::new();
    let control = folder.file("control.sock").display().to_string();
    let worker = format!("{} {}", python().display(), script("plain_worker.py").display());
    assert!(!variables["PROGRAM"].is_empty());
    let words: Vec<String> = unit["ExecStart"]
        .split_whitespace()
        .map(|word| {
            word.replace("%i", "0").replace("${BACKEND}", "0").replace("/run/hornpipe/0.sock", &control)
        })
        .flat_map(|word| match word.as_str() {
            "$PROGRAM" => worker.split(' ').map(str::to_owned).collect(),
            _ => vec![word],
        })
        .collect();
    assert_eq!(words[0], "/usr/local/bin/hornpipe");
    assert!(words.contains(&control) && !words.iter().any(|word| word.contains(['$', '%'])), "{words:?}");
    let mut settings: Vec<String> = variables
        .iter()
        .filter(|(name, _)| name.starts_with("HORNPIPE_"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    settings.push(hornpipe().display().to_string());
    settings.extend(words[1..].iter().cloned());
    let arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut process = Process::start("env", &arguments);
    let status = || status_of(Path::new(&control));
    let wanted: usize = variables["HORNPIPE_WORKERS"].parse().unwrap();
    eventually("it serves", || status().is_some_and(|report| report.pool.ready as usize == wanted));
    send(process.pid(), SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
}

#[test]
fn the_times_of_the_unit_file_fit_those_of_the_broker() {
    let (unit, variables) = (unit("docs/systemd/hornpipe@.service"), variables("docs/systemd/hornpipe.env"));
    let stop = seconds(&unit["TimeoutStopSec"]);
    // The drain, the router's own end, and what is killed.
    assert!(seconds(&variables["HORNPIPE_DRAIN"]) + 5 + 5 < stop, "{stop}");
    assert_eq!((unit["Type"].as_str(), unit["KillMode"].as_str()), ("notify-reload", "mixed"));
    let socket = self::unit("docs/systemd/hornpipe@.socket");
    assert_eq!(
        (socket["ListenStream"].as_str(), socket["FileDescriptorName"].as_str()),
        ("127.0.0.1:%i", "frontend")
    );
    assert!(unit["RestrictAddressFamilies"].contains("AF_NETLINK"), "libzmq ends the process without it");
}

#[test]
fn systemd_understands_the_unit_files_and_finds_the_service_locked_up() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = Folder::new();
    let version = Process::run("systemd-analyze", &["--version"]).stdout;
    let version: u32 = version.split_whitespace().nth(1).unwrap().split('.').next().unwrap().parse().unwrap();
    let mut service = read("docs/systemd/hornpipe@.service");
    service = service.replace("/usr/local/bin/hornpipe", &hornpipe().display().to_string());
    if version < 253 {
        service =
            service.replace("\nType=notify-reload\n", "\nType=notify\nExecReload=/bin/kill -HUP $MAINPID\n");
    }
    let files = [folder.file("hornpipe@6660.service"), folder.file("hornpipe@6660.socket")];
    fs::write(&files[0], service).unwrap();
    fs::write(&files[1], read("docs/systemd/hornpipe@.socket")).unwrap();
    let files = files.map(|file| file.display().to_string());
    // It looks for the pages that a unit names.
    let pages = folder.file("man");
    let man1 = pages.join("man1").display().to_string();
    assert_eq!(Process::run(hornpipe(), &["man", &man1]).code(), Some(0));
    let manual = format!("MANPATH={}", pages.display());
    let mut words = vec![manual.as_str(), "systemd-analyze", "verify"];
    if !has("man") {
        words.push("--man=no");
    }
    words.extend(files.iter().map(String::as_str));
    let verified = Process::run("env", &words);
    assert_eq!((verified.code(), verified.stderr.as_str()), (Some(0), ""));
    if 250 <= version {
        let words = ["security", "--offline=true", "--threshold=20", "--no-pager", &files[0]];
        let judged = Process::run("systemd-analyze", &words);
        assert_eq!(judged.code(), Some(0), "{}{}", judged.stdout, judged.stderr);
    }
}

const DOCKERFILE: &str = "docs/container/Dockerfile";

/// The instructions with what follows them, lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read(DOCKERFILE);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let pairs = joined.lines().filter_map(|line| line.trim().split_once(' '));
    pairs
        .map(|(word, rest)| (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn all(word: &str) -> Vec<String> {
    instructions().into_iter().filter(|(one, _)| one == word).map(|(_, rest)| rest).collect()
}

fn only(word: &str) -> String {
    let found = all(word);
    assert_eq!(found.len(), 1, "{word}");
    found[0].clone()
}

/// A command that no shell reads.
fn words_of(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_error| panic!("not in exec form: {text}"))
}

#[test]
fn the_image_is_built_from_what_is_there_by_what_the_workspace_asks_for() {
    let workspace = read("Cargo.toml");
    let rust =
        workspace.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert_eq!(all("FROM"), [format!("rust:{rust}-bookworm AS build"), "debian:bookworm-slim".to_owned()]);
    let folder = Folder::new();
    let mut copied = Vec::new();
    for copy in all("COPY") {
        let mut words: Vec<&str> = copy.split(' ').collect();
        let target = words.pop().unwrap();
        if words[0] == "--from=build" {
            assert_eq!(
                (&words[1..], target),
                (&["/build/target/release/hornpipe"][..], "/usr/local/bin/hornpipe")
            );
            continue;
        }
        for source in words {
            assert!(root().join(source).exists(), "there is no {source}");
            copied.push(source.to_owned());
        }
    }
    // Cargo reads every member's manifest, whatever it is to build.
    for source in &copied {
        let words =
            ["-r", root().join(source).to_str().unwrap(), folder.path().to_str().unwrap()].map(str::to_owned);
        assert_eq!(Process::run("cp", &words.each_ref().map(String::as_str)).code(), Some(0));
    }
    let manifest = folder.file("Cargo.toml").display().to_string();
    let runs = all("RUN");
    assert_eq!(runs[0], "cargo build --release --locked --package hornpipe --bin hornpipe");
    let words = [
        "tree",
        "--locked",
        "--offline",
        "--package",
        "hornpipe",
        "--depth",
        "0",
        "--manifest-path",
        &manifest,
    ];
    let tree = Process::run("cargo", &words);
    assert_eq!(tree.code(), Some(0), "{}", tree.stderr);
    assert!(read("broker/Cargo.toml").contains("name = \"hornpipe\"\n"));
}

#[test]
fn the_image_has_the_libraries_that_the_binary_needs() {
    let runs = all("RUN");
    let install = runs[1].split(" && ").find(|command| command.starts_with("apt-get install ")).unwrap();
    let packages: Vec<&str> = install.split(' ').skip(2).filter(|word| !word.starts_with('-')).collect();
    assert_eq!(packages, ["libstdc++6"]);
    for package in packages {
        if has("dpkg-query") {
            assert_eq!(Process::run("dpkg-query", &["--status", package]).code(), Some(0), "{package}");
        }
    }
    // That package brings libgcc-s1 along, and libc6 is everywhere.
    let brought = ["libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux", "linux-vdso"];
    let needed = Process::run("ldd", &[hornpipe().to_str().unwrap()]).stdout;
    let names: Vec<&str> = needed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(2 < names.len(), "{needed}");
    for name in names {
        assert!(brought.iter().any(|one| name.contains(one)), "{name} is not in the image");
    }
}

#[test]
fn the_command_of_the_image_serves_and_its_probe_finds_it_ready() {
    let (entry, command) = (words_of(&only("ENTRYPOINT")), words_of(&only("CMD")));
    assert_eq!((entry.as_slice(), only("STOPSIGNAL").as_str()), (&["hornpipe".to_owned()][..], "SIGTERM"));
    let user = only("USER");
    assert!(user != "root" && all("RUN")[1].contains(&format!(" {user} &&")), "{user}");
    let folder = Folder::new();
    let control = folder.file("control.sock");
    assert_eq!(only("ENV"), "HORNPIPE_CONTROL=/run/hornpipe/control.sock");
    let control_variable = format!("HORNPIPE_CONTROL={}", control.display());
    assert_eq!(command[1..3], ["*:6660", "6661"]);
    let binary = hornpipe().display().to_string();
    // Other ports, for these may be in use.
    let mut words = vec![control_variable.as_str(), &binary, "serve", "*:0", "0"];
    words.extend(command[3..].iter().map(String::as_str));
    let mut process = Process::start("env", &words);
    let health = only("HEALTHCHECK");
    let probe = words_of(health.split_once("CMD ").unwrap().1);
    assert_eq!(probe[0], "hornpipe");
    let probe: Vec<&str> = [control_variable.as_str(), &binary]
        .into_iter()
        .chain(probe[1..].iter().map(String::as_str))
        .collect();
    eventually("the probe finds it ready", || Process::run("env", &probe).code() == Some(0));
    send(process.pid(), SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
    assert_eq!(Process::run("env", &probe).code(), Some(5), "nobody is there");
}
