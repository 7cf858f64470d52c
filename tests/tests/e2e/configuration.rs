//! The file of `--config`: what it says holds, who goes before it, what is wrong with it;
//! and `hornpipe config`, which tells all of that before a broker runs.

use std::fs;

use hornpipe_tests::harness::{Broker, Ended, Folder, Process, Serve, hornpipe, python, script};
use serde_json::Value;

/// A file for a broker with the demo worker on free ports, and what else is wanted.
fn demo(more: &str) -> String {
    let program = hornpipe().display().to_string();
    format!("frontend = 0\nbackend = 0\nprogram = [{program:?}, \"worker\", \"demo\"]\n{more}")
}

/// Runs `hornpipe config VERB --config FILE` with these words.
fn config(verb: &str, text: &str, words: &[&str]) -> Ended {
    let folder = Folder::new();
    let path = folder.file("hornpipe.toml");
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    Process::run(hornpipe(), &[&["config", verb, "--config", &path], words].concat())
}

#[test]
fn a_broker_is_all_that_its_file_says() {
    let text = demo("workers = 3\nattempts = 1\nenv = [\"GREETING=ahoy\"]\nqueue = 7\n");
    let broker = Serve::file(&text, 3).start();
    assert_eq!(broker.ask("echo x"), "x");
    let status = broker.status();
    assert_eq!((status.pool.target, status.queue.backlog_limit), (3, 7));
}

#[test]
fn the_command_line_and_the_environment_go_before_the_file() {
    let text = demo("workers = 1\nqueue = 7\nattempts = 7\n");
    let broker = Serve::file(&text, 2)
        .options(["--workers", "2"])
        .variable("HORNPIPE_QUEUE", "9")
        .variable("HORNPIPE_WORKERS", "4")
        .start();
    let status = broker.status();
    assert_eq!((status.pool.target, status.queue.backlog_limit), (2, 9));
}

#[test]
fn a_variable_names_the_file_too() {
    let folder = Folder::new();
    let path = folder.file("other.toml");
    fs::write(&path, demo("workers = 2\nqueue = 5\n")).unwrap();
    let broker = Serve::demo(2).variable("HORNPIPE_CONFIG", path).start();
    assert_eq!(broker.status().queue.backlog_limit, 5);
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_line_and_exit_code_78() {
    for (text, told) in [
        ("workers = 2\nwrokers = 2\n", "hornpipe.toml:2: there is no key \"wrokers\": did you mean workers?"),
        ("timeout = 30\n", "hornpipe.toml:1: timeout is a number: write a time with its unit in quotes"),
        ("workers = \n", "hornpipe.toml:1: this is not TOML"),
        ("\n\nfrontend = \"*:6660\"\nbackend = 0\n", "hornpipe.toml:3: *:6660 is open to other machines"),
        ("frontend = 0\nbackend = 0\nmin = 3\nmax = 2\n", "hornpipe.toml:3: --min 3 is more than --max 2"),
    ] {
        let outcome = Serve::file(text, 0).run();
        assert_eq!(outcome.ended.code(), Some(78), "{text}\n{}", outcome.ended.stderr);
        assert!(outcome.ended.stderr.contains(told), "{told}\n{}", outcome.ended.stderr);
        assert_eq!(outcome.left, "");
    }
    for path in ["/no/such/file", "/dev", "/dev/zero"] {
        let ended = Process::run(hornpipe(), &["serve", "--config", path]);
        assert_eq!(ended.code(), Some(78), "{path}: {}", ended.stderr);
        assert!(ended.stderr.contains(path), "{}", ended.stderr);
    }
    let ended = Process::run(hornpipe(), &["serve", "6660"]);
    assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("BACKEND is missing"), "{}", ended.stderr);
}

#[test]
fn every_setting_is_shown_with_who_says_so() {
    let text = demo("workers = 3\nattempts = 4\n[service.resize]\nprogram = [\"resize\"]\nworkers = 5\n");
    let shown = config("show", &text, &["--origin", "--workers", "2"]);
    assert_eq!(shown.code(), Some(0), "{}", shown.stderr);
    let line = |key: &str| shown.stdout.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(line("workers").starts_with("workers = 2 ") && line("workers").ends_with("# command line"));
    assert!(line("attempts").ends_with("hornpipe.toml:5"), "{}", line("attempts"));
    assert!(line("queue").ends_with("# default"), "{}", line("queue"));
    assert!(shown.stdout.contains("\n[service.resize]\n"), "{}", shown.stdout);
    let json = config("show", &text, &["--json"]);
    let settings: Value = serde_json::from_str(&json.stdout).unwrap();
    let find = |service: &str| {
        let settings = settings.as_array().unwrap();
        settings.iter().find(|one| one["service"] == service && one["key"] == "workers").unwrap().clone()
    };
    assert_eq!(find("default")["value"], 3);
    assert_eq!(
        (find("resize")["value"].as_u64(), find("resize")["origin"]["line"].as_u64()),
        (Some(5), Some(8))
    );
}

#[test]
fn what_is_shown_is_a_file_that_a_broker_runs_by() {
    let shown = config("show", &demo("workers = 2\nqueue = 7\n"), &["--origin"]);
    let broker = Serve::file(&shown.stdout, 2).start();
    assert_eq!(broker.ask("echo x"), "x");
    assert_eq!(broker.status().queue.backlog_limit, 7);
}

#[test]
fn a_check_starts_a_worker_and_asks_it_the_probe() {
    let checked = config("check", &demo("workers = 9\nprobe = \"echo hello\"\n"), &[]);
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("a worker is ready, and answers the probe"), "{}", checked.stdout);
    let text = demo("[service.other]\neach = true\nprogram = [\"cat\"]\n");
    let both = config("check", &text, &["--json"]);
    let report: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!((report["ok"].as_bool(), report["exit_code"].as_u64()), (Some(true), Some(0)), "{report}");
    assert_eq!(report["steps"][3]["step"], "service other", "{report}");
}

#[test]
fn a_check_says_what_would_not_work_by_its_exit_code() {
    let broken = config("check", &demo(""), &["--", "sh", "-c", "echo no database >&2; exit 9"]);
    assert_eq!(broken.code(), Some(3), "{}", broken.stderr);
    assert!(broken.stderr.contains("no database"), "{}", broken.stderr);
    let unfit = config("check", &demo("probe = \"fail it\"\n"), &[]);
    assert_eq!(unfit.code(), Some(3), "{}", unfit.stderr);
    assert!(unfit.stderr.contains("fails the probe"), "{}", unfit.stderr);
    let wrong = config("check", &demo("wrokers = 1\n"), &["--json"]);
    let report: Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((wrong.code(), report["exit_code"].as_u64()), (Some(78), Some(78)));
    let broker = Broker::demo(1);
    let text = demo("").replace("frontend = 0", &format!("frontend = {}", broker.frontend_port()));
    let taken = config("check", &text, &[]);
    assert_eq!(taken.code(), Some(4), "{}", taken.stderr);
    assert!(taken.stderr.contains(&broker.pid().to_string()), "{}", taken.stderr);
    let beside = config("check", &text, &["--ports-in-use"]);
    assert_eq!(beside.code(), Some(0), "{}", beside.stderr);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn a_service_that_cannot_be_run_yet_is_refused() {
    let outcome = Serve::file(&demo("[service.resize]\nprogram = [\"resize\"]\n"), 0).run();
    assert_eq!(outcome.ended.code(), Some(78), "{}", outcome.ended.stderr);
    assert!(outcome.ended.stderr.contains("the service resize"), "{}", outcome.ended.stderr);
}

#[test]
fn the_example_file_fits_the_schema_and_the_schema_refuses_what_the_broker_refuses() {
    let folder = Folder::new();
    let schema = folder.file("schema.json");
    fs::write(&schema, Process::run(hornpipe(), &["config", "schema"]).stdout).unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hornpipe.example.toml");
    let text = fs::read_to_string(example).unwrap();
    // Without its comment signs it is an example of every key.
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let (keys, _services) = text.split_once("# ---- Services").unwrap();
    let everything: Vec<&str> = keys
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
        .collect();
    for (text, is_fine) in [
        (text.clone(), true),
        (everything.join("\n"), true),
        ("min-servers = 3\n[service.a]\nprogram = [\"x\"]\n".into(), true),
        ("wrokers = 3\n".into(), false),
        ("timeout = 30\n".into(), false),
        ("timeout = \"30\"\n".into(), false),
        ("max-body = \"64\"\n".into(), false),
        ("plain-errors = \"loud\"\n".into(), false),
        ("program = \"x y\"\n".into(), false),
        ("fresh = 1\n".into(), false),
        ("nice = 20\n".into(), false),
        ("[service.a]\nlog-level = \"info\"\n".into(), false),
        ("[service.\"a b\"]\n".into(), false),
    ] {
        let file = folder.file("tried.toml");
        fs::write(&file, &text).unwrap();
        let (validate, schema, file) = (script("validate.py"), schema.display(), file.display());
        let words = [validate.display().to_string(), schema.to_string(), file.to_string()];
        let ended = Process::run(python(), &words.each_ref().map(String::as_str));
        assert_eq!(ended.code(), Some(i32::from(!is_fine)), "{text}\n{}", ended.stderr);
        let read = Process::run(hornpipe(), &["config", "show", "1", "2", "--config", &file.to_string()]);
        let is_read = !read.stderr.contains(": there is no key") && read.code() == Some(0);
        // Some examples need root, or files that are not here.
        assert!(is_read == is_fine || text == everything.join("\n"), "{text}\n{}", read.stderr);
    }
}

#[test]
fn the_example_file_runs() {
    let text =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hornpipe.example.toml")).unwrap();
    let text = text.replace("frontend = 6660", "frontend = 0").replace("backend = 6661", "backend = 0");
    let broker = Serve::file(&text, 1).options(["-n", "1"]).start();
    assert_eq!(broker.ask("as it is"), "as it is");
}
