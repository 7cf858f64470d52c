//! The house rules that can be read off the files, and the promises of the documents that
//! can be compared with the code. What each rule is for stands in `docs/ARCHITECTURE.md`.
#![expect(clippy::unwrap_used, reason = "what a test's helper cannot read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hornpipe_proto::Status;
use hornpipe_tests::harness::{Process, hornpipe};

/// Where `unsafe` may be, and why.
const UNSAFE: &[(&str, &str)] = &[
    ("broker/src/allocator.rs", "the settings of malloc"),
    ("broker/src/cli/child.rs", "what a verb's child does between fork and exec"),
    ("broker/src/cli/lock/child.rs", "the disposition of SIGCHLD"),
    ("broker/src/parent/process.rs", "fork, wait, dispositions, _exit"),
    ("broker/src/parent/title.rs", "the command line is changed in place"),
    ("broker/src/router/ffi.rs", "raw socket options, shared frames"),
    ("worker/src/ffi.rs", "what happens around fork, signals for a socket"),
    ("zmq-sys/build.rs", "compiler flags travel in the environment"),
    ("zmq-sys/src/ffi.rs", "declares C functions"),
    ("zmq-sys/tests/capabilities.rs", "tests what the safe interface does not reach"),
    ("client/tests/fork.rs", "tests what a fork does to a client"),
];

/// Files of more than 500 lines, and why they are one noun all the same.
const LONG: &[(&str, &str)] = &[
    ("broker/src/parent/turn.rs", "the parent's loop, and all that one turn of it does"),
    ("tests/tests/tidy.rs", "one house rule after another, each short"),
    ("broker/tests/parent/cases.rs", "one case after another, each short"),
    ("proto/tests/vectors.rs", "one message after another, each short"),
];

const LONG_LINES: usize = 500;

/// A listed file that has become shorter than this needs no reason any more.
const COMFORTABLE_LINES: usize = 400;

/// What each crate may use of ours.
const CRATES: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("zmq-sys", &[]),
    ("worker", &["hornpipe-proto"]),
    ("client", &["hornpipe-proto"]),
    ("lock", &[]),
    ("broker", &["hornpipe-proto", "hornpipe-worker", "hornpipe-client", "hornpipe-lock"]),
    ("tests", &["hornpipe", "hornpipe-proto", "hornpipe-worker", "hornpipe-client", "hornpipe-lock"]),
];

/// What each part of the broker may use of the others. `launch` joins them and may use all.
const PARTS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("link", &[]),
    ("http", &[]),
    ("pid_file", &[]),
    ("allocator", &[]),
    ("logging", &[]),
    ("callbacks", &[]),
    ("parent", &["link"]),
    ("router", &["core", "link", "config", "logging"]),
    ("config", &["core", "parent", "logging"]),
    ("server", &["callbacks", "config", "launch"]),
    ("cli", &["config", "core", "launch", "logging"]),
    (
        "launch",
        &[
            "allocator",
            "callbacks",
            "config",
            "core",
            "http",
            "link",
            "logging",
            "parent",
            "pid_file",
            "router",
        ],
    ),
    ("lib", &["cli"]),
    ("main", &[]),
];

/// The only parts of the broker that may use the crates `worker`, `client` and `lock`; `lib` hands on their types.
const EMPLOYERS: &[&str] = &["cli", "launch", "server", "lib"];

/// Hosts that tracked files may name. Where packages come from is the machine's business.
const HOSTS: &[&str] =
    &["127.0.0.1", "github.com", "json-schema.org", "rustup.rs", "no-color.org", "www.apache.org"];

/// What is not built as a test program, because there is nothing in it to run: the manifests say so.
const UNTESTED: &[&str] = &["tests/src/", "broker/src/main.rs", "zmq-sys/src/"];

/// This file names what it looks for.
const THIS: &str = "tests/tests/tidy.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file of the repository by its path from the root.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["target", ".git", ".venv", "__pycache__"].contains(&name) {
                    folders.push(path);
                }
            } else if let Ok(text) = fs::read_to_string(&path) {
                files.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text);
            }
        }
    }
    files
}

fn with_extension(extension: &'static str) -> impl Iterator<Item = (String, String)> {
    let has_it = move |path: &str| Path::new(path).extension().is_some_and(|found| found == extension);
    files().into_iter().filter(move |(path, _)| has_it(path))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The lines of a Rust file that are no comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Fails with every finding, not only with the first.
#[track_caller]
fn assert_none(findings: impl IntoIterator<Item = String>, rule: &str) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}\n{}", findings.join("\n"));
}

#[test]
fn unsafe_is_only_where_the_list_says() {
    let words =
        ["unsafe {", "unsafe fn", "unsafe extern", "unsafe impl", "unsafe trait", "unsafe(", "unsafe_code"];
    let uses = |text: &str| code(text).any(|line| words.iter().any(|word| line.contains(word)));
    let found: BTreeSet<String> = with_extension("rs")
        .filter(|(path, text)| path != THIS && uses(text))
        .map(|(path, _)| path)
        .collect();
    let listed: BTreeSet<String> = UNSAFE.iter().map(|(path, _why)| (*path).to_owned()).collect();
    let unlisted = found.difference(&listed).map(|path| format!("{path} is not on the list"));
    let stale = listed.difference(&found).map(|path| format!("{path} is on the list and has none"));
    assert_none(unlisted.chain(stale), "unsafe has its places (docs/decisions/0009)");
}

#[test]
fn every_file_of_code_says_what_it_is_for() {
    let silent = with_extension("rs").filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path);
    assert_none(silent, "the first lines of a file say what it is for, with //!");
}

#[test]
fn no_test_is_where_none_is_looked_for() {
    let untested = |path: &str| UNTESTED.iter().any(|part| path.starts_with(part));
    let has_tests =
        |text: &str| code(text).any(|line| line.contains("#[test]") || line.contains("cfg(test)"));
    let findings = with_extension("rs").filter(|(path, text)| untested(path) && has_tests(text));
    let findings = findings.map(|(path, _)| format!("{path} has tests that nobody runs"));
    assert_none(findings, "a target with `test = false` in its manifest has no tests");
}

#[test]
fn nothing_is_left_to_be_done_in_the_files() {
    let words = ["TODO", "FIXME", "XXX"];
    let marked = |text: &str| {
        text.lines().find(|line| words.iter().any(|word| line.contains(word))).map(str::to_owned)
    };
    let findings = files()
        .into_iter()
        .filter(|(path, _)| path != THIS)
        .filter_map(|(path, text)| Some(format!("{path}: {}", marked(&text)?)));
    assert_none(findings, "what is to be done belongs in an issue, what stays so is a Known limit");
}

#[test]
fn a_long_file_has_a_reason() {
    let lengths: BTreeMap<String, usize> =
        with_extension("rs").map(|(path, text)| (path, text.lines().count())).collect();
    let is_listed = |path: &str| LONG.iter().any(|(listed, _why)| *listed == path);
    let long = lengths.iter().filter(|(path, length)| **length > LONG_LINES && !is_listed(path));
    let long = long.map(|(path, length)| format!("{path}: {length}. Look for the second noun, or list it"));
    let is_long = |path: &str| lengths.get(path).is_some_and(|length| *length >= COMFORTABLE_LINES);
    let stale = LONG.iter().filter(|(path, _why)| !is_long(path));
    let stale = stale.map(|(path, _why)| format!("{path} is listed, and gone or not long"));
    assert_none(long.chain(stale), "a file of more than 500 lines is more than one thing");
}

#[test]
fn crates_depend_one_way() {
    let mut findings = Vec::new();
    for (crate_, allowed) in CRATES {
        let manifest = read(&format!("{crate_}/Cargo.toml"));
        let names = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for name in names.filter(|name| name.starts_with("hornpipe")) {
            if !allowed.contains(&name) {
                findings.push(format!("{crate_}/Cargo.toml: {name}"));
            }
        }
    }
    assert_none(findings, "proto <- worker, client; lock; all of them <- broker <- tests");
}

#[test]
fn parts_of_the_broker_depend_one_way() {
    let mut findings = Vec::new();
    for (path, text) in with_extension("rs") {
        let Some(part) = part_of(&path) else { continue };
        let Some((_, allowed)) = PARTS.iter().find(|(name, _)| *name == part) else {
            findings.push(format!("{path}: {part} is no part that this test knows"));
            continue;
        };
        for other in used_parts(&text) {
            if other != part && !allowed.contains(&other.as_str()) {
                findings.push(format!("{path}: crate::{other}"));
            }
        }
    }
    assert_none(findings, "core decides, router talks, parent breeds: docs/ARCHITECTURE.md, Invariants");
}

#[test]
fn only_those_who_employ_workers_and_clients_know_them() {
    let is_outside = |part: &String| !EMPLOYERS.contains(&part.as_str());
    let knows = |text: &str| {
        code(text).any(|line| {
            ["hornpipe_worker", "hornpipe_client", "hornpipe_lock"].iter().any(|name| line.contains(name))
        })
    };
    let found = with_extension("rs")
        .filter(|(path, text)| part_of(path).is_some_and(|part| is_outside(&part)) && knows(text));
    assert_none(
        found.map(|(path, _)| path),
        "only cli, launch and server use the crates worker, client and lock",
    );
}

#[test]
fn the_core_uses_no_crate_that_could_act() {
    let allowed =
        ["std", "super", "crate", "self", "hornpipe_proto", "rand_chacha", "rand_core", "rustc_hash"];
    let acting = ["std::env", "std::fs", "std::io", "std::net", "std::os", "std::process", "std::thread"];
    let mut findings = Vec::new();
    for (path, text) in with_extension("rs").filter(|(path, _)| path.starts_with("broker/src/core/")) {
        for line in code(&text) {
            let used = line.trim_start().strip_prefix("pub ").unwrap_or(line.trim_start());
            let Some(used) = used.strip_prefix("use ") else { continue };
            // A name in lower case is a crate or a module of the core, of which there is a file.
            let first = used.split([':', ';', ' ']).next().unwrap();
            let is_module = root().join(format!("broker/src/core/{first}.rs")).is_file();
            let is_type = first.starts_with(char::is_uppercase);
            if !allowed.contains(&first) && !is_module && !is_type {
                findings.push(format!("{path}: {}", line.trim()));
            }
        }
        let used = acting.iter().filter(|word| code(&text).any(|line| line.contains(**word)));
        findings.extend(used.map(|word| format!("{path}: {word}")));
    }
    assert_none(findings, "the core cannot block, fail, read a clock, touch a socket or fork");
}

/// The part of the broker that a file belongs to: a folder of `broker/src`, or a file there.
fn part_of(path: &str) -> Option<String> {
    let inside = path.strip_prefix("broker/src/")?;
    let first = inside.split('/').next()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// What stands behind each `crate::`, also in braces.
fn used_parts(text: &str) -> BTreeSet<String> {
    let code: String = code(text).collect::<Vec<_>>().join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut parts = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            None => parts.extend([word(behind)]),
            Some(list) => {
                let mut depth = 0;
                let mut names = vec![String::new()];
                for letter in list.chars() {
                    match letter {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(String::new()),
                        _ => names.last_mut().unwrap().push(letter),
                    }
                }
                parts.extend(names.iter().map(|name| word(name)));
            }
        }
    }
    parts.retain(|part| part.starts_with(|letter: char| letter.is_lowercase()));
    parts
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut findings = Vec::new();
    for (path, text) in files().into_iter().filter(|(path, _)| path != THIS) {
        for folder in ["work", "root", "home"] {
            let place = format!("/{folder}/");
            let alone = |(at, _): (usize, &str)| {
                let before = text.get(..at).and_then(|before| before.chars().next_back());
                before.is_none_or(|letter| !letter.is_alphanumeric() && !"._-/".contains(letter))
            };
            if text.match_indices(&place).any(alone) {
                findings.push(format!("{path}: {place}"));
            }
        }
        for (at, scheme) in text.match_indices("https://").chain(text.match_indices("http://")) {
            let rest = text.get(at + scheme.len()..).unwrap_or_default();
            let host: String = rest
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || ".-".contains(*letter))
                .collect();
            let host = host.trim_end_matches('.');
            if !host.is_empty() && !HOSTS.contains(&host) {
                findings.push(format!("{path}: {host}"));
            }
        }
    }
    assert_none(findings, "no path of one machine, no host of one network");
}

/// What a verb prints for `--help`.
fn help(verb: &[&str]) -> String {
    let ended = Process::run(hornpipe(), &[verb, &["--help"]].concat());
    assert_eq!(ended.code(), Some(0), "hornpipe {verb:?} --help: {}", ended.stderr);
    ended.stdout
}

/// The verbs on the first screen: a name, some spaces, a sentence.
fn verbs() -> Vec<String> {
    let screen = help(&[]);
    let verb = |line: &str| {
        let name = line.strip_prefix("  ")?.split(' ').next()?;
        let named = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_lowercase());
        named.then(|| name.to_owned())
    };
    let verbs: Vec<String> = screen.lines().filter_map(verb).collect();
    assert!(verbs.contains(&"serve".to_owned()), "{screen}");
    verbs
}

/// The long options in a verb's help, of the lines that begin with one.
fn options(screen: &str) -> BTreeSet<String> {
    let lines = screen.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split([' ', ',', '=', '[']).take(3));
    words
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|word| !word.is_empty() && !matches!(*word, "help" | "version"))
        .map(str::to_owned)
        .collect()
}

/// The words that may follow a verb, and have options of their own.
fn words_of(verb: &str) -> &'static [&'static str] {
    match verb {
        "poison" => &["list", "show", "retry", "drop"],
        "config" => &["show", "check", "schema"],
        "lock" => &["run", "status", "release", "doctor"],
        _ => &[],
    }
}

/// The long options of a verb, and of the words that may follow it.
fn options_of(verb: &str) -> BTreeSet<String> {
    let mut known = options(&help(&[verb]));
    known.extend(words_of(verb).iter().flat_map(|word| options(&help(&[verb, word]))));
    known
}

#[test]
fn every_option_and_every_variable_is_in_operations() {
    let page = read("docs/OPERATIONS.md");
    let mut findings = Vec::new();
    for verb in verbs() {
        let screen = help(&[&verb]);
        if !page.contains(&format!("`hornpipe {verb}")) {
            findings.push(format!("hornpipe {verb}"));
        }
        for option in options_of(&verb) {
            if !page.contains(&format!("`--{option}")) && !page.contains(&format!(" `--{option}")) {
                findings.push(format!("hornpipe {verb} --{option}"));
            }
        }
        findings.extend(
            variables(&screen).into_iter().filter(|variable| !page.contains(&format!("`{variable}`"))),
        );
    }
    assert_none(findings, "docs/OPERATIONS.md has every verb, option and variable");
}

/// Every name that begins as ours do.
fn variables(text: &str) -> BTreeSet<String> {
    let is_part = |letter: &char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || *letter == '_';
    let names =
        text.match_indices("HORNPIPE_").map(|(at, _)| text.get(at..).unwrap().chars().take_while(is_part));
    names.map(Iterator::collect::<String>).filter(|name| name != "HORNPIPE_").collect()
}

#[test]
fn every_option_in_operations_exists() {
    let mut known: BTreeSet<String> = verbs().iter().flat_map(|verb| options(&help(&[verb]))).collect();
    known.extend(options(&help(&["worker", "demo"])));
    known.extend(["poison", "config", "lock"].into_iter().flat_map(options_of));
    // Net::Server's, which help does not show.
    known.extend(["min-servers", "max-servers"].map(str::to_owned));
    let page = read("docs/OPERATIONS.md");
    let named = page.match_indices("`--").map(|(at, _)| page.get(at + 3..).unwrap());
    let option = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect()
    };
    let unknown: BTreeSet<String> = named
        .map(option)
        .filter(|option| !option.is_empty() && option != "help" && !known.contains(option))
        .collect();
    assert_none(unknown, "docs/OPERATIONS.md names no option that does not exist");
}

#[test]
fn every_variable_that_the_code_names_is_in_operations() {
    let page = read("docs/OPERATIONS.md");
    let mut findings = BTreeSet::new();
    for (path, text) in
        with_extension("rs").filter(|(path, _)| path.contains("/src/") && !path.starts_with("tests/"))
    {
        // What tests below the code make up is nobody's promise.
        let product = text.split("#[cfg(test)]").next().unwrap();
        let missing =
            variables(product).into_iter().filter(|variable| !page.contains(&format!("`{variable}`")));
        findings.extend(missing.map(|variable| format!("{path}: {variable}")));
    }
    assert_none(findings, "docs/OPERATIONS.md has every variable");
}

#[test]
fn every_status_is_in_protocol_and_in_operations() {
    let mut findings = Vec::new();
    for path in ["docs/PROTOCOL.md", "docs/OPERATIONS.md"] {
        let page = read(path);
        let missing = Status::ALL.iter().filter(|status| !page.contains(&format!("`{status}`")));
        findings.extend(missing.map(|status| format!("{path}: {status}")));
    }
    assert_none(findings, "the documents have every status");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut findings = Vec::new();
    for (path, text) in with_extension("md") {
        for (at, _) in text.match_indices("](") {
            let target = text.get(at + 2..).unwrap().split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                path.clone()
            } else {
                Path::new(&path).with_file_name(file).to_str().unwrap().to_owned()
            };
            if !root().join(&file).exists() {
                findings.push(format!("{path}: {target}"));
            } else if !anchor.is_empty() && !anchors(&read(&file)).contains(anchor) {
                findings.push(format!("{path}: {target} (there is no such heading)"));
            }
        }
    }
    assert_none(findings, "every relative link leads to a file and a heading");
}

/// What headings are called in links: lower case, spaces as dashes, without other signs.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| -> String {
        let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_file_that_the_documents_name_exists() {
    let all: Vec<String> = files().into_keys().collect();
    let mut findings = BTreeSet::new();
    for (path, text) in with_extension("md").filter(|(path, _)| path.starts_with("docs/")) {
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_source =
                [".rs", ".hex"].iter().any(|end| quoted.ends_with(end)) && !quoted.contains([' ', '*']);
            let is_there = |file: &String| file == quoted || file.ends_with(&format!("/{quoted}"));
            if is_source && !all.iter().any(is_there) {
                findings.insert(format!("{path}: {quoted}"));
            }
        }
    }
    assert_none(findings, "the documents name files that exist");
}

#[test]
fn the_commands_of_the_readme_are_run_by_the_test_command() {
    let (readme, run, ci) = (read("README.md"), read("tests/run"), read(".ci/run"));
    let mut findings = Vec::new();
    for command in
        ["cargo run --release -- serve 6660 6661", "target/release/hornpipe req 6660 hello", "tests/run"]
    {
        if !readme.lines().any(|line| line == command) {
            findings.push(format!("README.md has no line `{command}`"));
        }
    }
    for part in ["cargo run --release -- serve", "/release/hornpipe\" req", "hello", "cargo test --workspace"]
    {
        if !run.contains(part) {
            findings.push(format!("tests/run does not run `{part}`"));
        }
    }
    let commands: Vec<&str> = ci.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    if commands.len() != 1 || !ci.contains("tests/run") {
        findings.push(".ci/run runs more than tests/run, or less".to_owned());
    }
    assert_none(findings, "what the README says is what is tested");
}

#[test]
fn the_readme_names_verbs_and_options_that_exist() {
    let verbs = verbs();
    let mut findings = Vec::new();
    let pages = ["README.md", "docs/OPERATIONS.md", "docs/CHANGELOG.md"].map(|path| (path, read(path)));
    for (path, page) in &pages {
        for (at, _) in page.match_indices("hornpipe ") {
            let line = page.get(at..).unwrap().lines().next().unwrap();
            let line = line.split(['`', '#', ')']).next().unwrap();
            let mut words = line.split(' ').skip(1);
            let Some(verb) = words.next().filter(|verb| verbs.iter().any(|known| known == verb)) else {
                continue;
            };
            let known = options_of(verb);
            let mine = words.take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("--"));
            let unknown =
                mine.map(|word| word.trim_end_matches([';', ',', '.'])).filter(|word| !word.is_empty());
            let unknown =
                unknown.filter(|word| *word != "help" && !known.contains(*word) && !word.contains("servers"));
            findings.extend(unknown.map(|word| format!("{path}: hornpipe {verb} --{word}")));
        }
    }
    assert_none(findings, "commands in the documents can be typed");
}
