//! The file of `--config`: what it says holds, who goes before it, what is wrong with it;
//! and `hornpipe config`, which tells all of that before a broker runs.

use std::fs;

use hornpipe_proto::control::ControlRequest;
use hornpipe_tests::harness::{
    Broker, Ended, Exposition, Folder, Http, Process, Scrape, Serve, eventually, hornpipe, python, script,
    send,
};
use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGTTIN, SIGUSR2};
use serde_json::Value;

/// A program that brings its own handler.
const CLOSURE: &str = env!("CARGO_BIN_EXE_closure");

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
    let text =
        demo("probe = \"echo x\"\n[service.other]\neach = true\nprogram = [\"cat\"]\nprobe = \"meow\"\n");
    let both = config("check", &text, &["--json"]);
    let report: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!((report["ok"].as_bool(), report["exit_code"].as_u64()), (Some(true), Some(0)), "{report}");
    assert_eq!(report["steps"][3]["step"], "service other", "{report}");
}

#[test]
fn a_crews_settings_are_shown_and_tried_too() {
    let text = demo("workers = 2\nattempts = 1\nprobe = \"echo hello\"\n");
    let shown = config("show", &text, &["--connect", "6661,tcp://127.0.0.1:7", "--service", "images"]);
    let first = "# hornpipe worker --connect tcp://127.0.0.1:6661,tcp://127.0.0.1:7 --name crew-6661 --service images\n";
    assert!(shown.stdout.starts_with(first), "{}", shown.stdout);
    assert!(shown.stdout.contains("\nworkers = 2\n"), "{}", shown.stdout);
    for of_brokers in ["frontend", "attempts", "queue ="] {
        assert!(!shown.stdout.contains(of_brokers), "{of_brokers}: {}", shown.stdout);
    }
    let broker = Serve::bare(0).start();
    let (there, nowhere) = (broker.backend(), "tcp://127.0.0.1:1");
    let checked = config("check", &text, &["--connect", &format!("{there},{nowhere}")]);
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
    for told in [
        "without effect here: frontend, backend, attempts".to_owned(),
        format!("broker {there}: somebody answers there"),
        format!("broker {nowhere}: nobody answers there"),
        "a worker is ready, and answers the probe".to_owned(),
    ] {
        assert!(checked.stdout.contains(&told), "{told}: {}", checked.stdout);
    }
    assert!(broker.status().external.is_empty(), "it served nobody");
    let dying = config("check", &text, &["--connect", there, "--", "sh", "-c", "exit 9"]);
    assert_eq!(dying.code(), Some(3), "{}", dying.stderr);
    let exposed = config("check", &text, &["--connect", "tcp://192.0.2.1:6661"]);
    assert_eq!(exposed.code(), Some(2), "{}", exposed.stderr);
}

#[test]
fn a_check_says_what_would_not_work_by_its_exit_code() {
    let dying = config("check", &demo(""), &["--", "sh", "-c", "echo no database >&2; exit 9"]);
    assert_eq!(dying.code(), Some(3), "{}", dying.stderr);
    assert!(dying.stderr.contains("no database"), "{}", dying.stderr);
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

/// A HUP with this file, and the end of the reload that follows.
fn reread(broker: &Broker, text: &str) {
    let generation = broker.status().pool.generation;
    broker.rewrite_file(text);
    broker.signal(SIGHUP);
    broker.wait_until("the reload is done", |report| {
        let renewed = report.workers.iter().all(|worker| worker.generation == report.pool.generation);
        report.pool.generation > generation && report.pool.reload.is_none() && renewed
    });
}

/// A line of the log that has all these words.
fn has_line(broker: &Broker, words: &[&str]) -> bool {
    broker.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn hup_takes_over_what_the_file_says_by_then_and_tells_what_has_changed() {
    let broker = Serve::file(&demo("workers = 1\nqueue = 7\nlog-level = \"info\"\n"), 1).start();
    reread(&broker, &demo("workers = 3\nqueue = 9\nlog-level = \"debug\"\nmax-body = \"1MiB\"\n"));
    let status = broker.wait_for_idle(3);
    assert_eq!((status.pool.target, status.queue.backlog_limit), (3, 9));
    assert!(has_line(&broker, &["configuration changed", "key=workers", "old=1", "new=3"]));
    assert!(has_line(&broker, &["configuration changed", "key=queue", "old=7", "new=9"]));
    assert!(has_line(&broker, &["not in force yet", "key=max-body", "needs=\"an upgrade\""]));
    assert!(has_line(&broker, &["pool target changed", "cause=configuration"]), "{}", broker.log());
    // From parent and from router.
    eventually("debug lines are logged", || {
        has_line(&broker, &["DEBUG", "worker reaped"]) || has_line(&broker, &["DEBUG", "worker forked"])
    });
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn workers_of_the_new_generation_are_what_the_file_says_by_then() {
    let program = |word: &str| {
        let script = format!("exec {} worker demo # {word}", hornpipe().display());
        format!("frontend = 0\nbackend = 0\nworkers = 2\nprogram = [\"sh\", \"-c\", {script:?}]\n")
    };
    let broker = Serve::file(&format!("{}nice = 1\n", program("one")), 2).start();
    let old = broker.workers();
    reread(&broker, &format!("{}nice = 3\nenv = [\"ADDED=yes\"]\n", program("two")));
    broker.wait_for_idle(2);
    for (slot, pid) in broker.workers() {
        assert_ne!(old.get(&slot), Some(&pid));
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"ADDED=yes"));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
        assert_eq!(nice, "3", "{stat}");
    }
    assert!(!broker.log().contains("ADDED"), "a secret is in the log");
}

#[test]
fn a_hup_keeps_the_operators_size_unless_the_configured_one_has_changed() {
    let broker = Serve::file(&demo("workers = 2\n"), 2).start();
    broker.signal(SIGTTIN);
    broker.wait_for_idle(3);
    reread(&broker, &demo("workers = 2\nqueue = 5\n"));
    assert_eq!(broker.status().pool.target, 3);
    reread(&broker, &demo("workers = 4\nqueue = 5\n"));
    assert_eq!(broker.status().pool.target, 4);
    reread(&broker, &demo("workers = 4\nqueue = 5\nmax = 3\n").replace("workers = 4", "workers = 1"));
    assert_eq!(broker.status().pool.target, 1);
}

#[test]
fn a_file_that_cannot_be_used_at_hup_changes_nothing_but_the_log() {
    let text = demo("workers = 2\nqueue = 7\n");
    let broker = Serve::file(&text, 2).start();
    let workers = broker.workers();
    for (text, told) in [
        (demo("workers = 3\nqueue = \"many\"\n"), "hornpipe.toml:5: queue is a text"),
        (demo("workers = 9\nmax = 3\n"), "--workers 9 is not between"),
        ("frontend = \n".to_owned(), "hornpipe.toml:1: this is not TOML"),
    ] {
        broker.rewrite_file(&text);
        broker.signal(SIGHUP);
        eventually("the log says what is wrong", || {
            has_line(&broker, &["ERROR", "nothing is changed", told])
        });
    }
    assert_eq!(broker.ask("echo x"), "x");
    let status = broker.status();
    assert_eq!((status.pool.generation, status.pool.target, status.queue.backlog_limit), (0, 2, 7));
    assert_eq!(broker.workers(), workers);
    reread(&broker, &demo("workers = 2\nqueue = 8\n"));
    assert_eq!(broker.status().queue.backlog_limit, 8);
}

#[test]
fn a_program_that_cannot_start_leaves_the_old_one_also_for_who_dies_later() {
    let broker = Serve::file(&demo("workers = 2\nqueue = 7\n"), 2).start();
    let useless = demo("workers = 2\nqueue = 9\n").replace("\"demo\"", "\"no-such-word\"");
    broker.rewrite_file(&useless);
    broker.signal(SIGHUP);
    eventually("the reload has failed", || has_line(&broker, &["reload failed"]));
    assert_eq!(broker.status().queue.backlog_limit, 9, "settings are no part of the transaction");
    for (_slot, pid) in broker.workers() {
        send(pid, SIGKILL);
    }
    eventually("both are replaced by what they were", || {
        broker.workers().len() == 2 && broker.status().workers.iter().all(|worker| worker.incarnation > 0)
    });
    assert_eq!(broker.ask("echo x"), "x");
    reread(&broker, &demo("workers = 2\nqueue = 9\n"));
    assert_eq!(broker.ask("echo y"), "y");
}

#[test]
fn what_goes_before_the_file_is_told_when_the_file_changes() {
    let text = demo("workers = 1\nqueue = 7\n");
    let broker = Serve::file(&text, 2).options(["-n", "2"]).variable("HORNPIPE_QUEUE", "8").start();
    reread(&broker, &demo("workers = 5\nqueue = 9\n").replace("frontend = 0", "frontend = 1"));
    let status = broker.status();
    assert_eq!((status.pool.target, status.queue.backlog_limit), (2, 8));
    assert!(has_line(&broker, &["overridden", "key=workers", "by=\"command line\""]), "{}", broker.log());
    assert!(has_line(&broker, &["overridden", "key=queue", "by=HORNPIPE_QUEUE"]), "{}", broker.log());
    assert!(has_line(&broker, &["not in force yet", "key=frontend", "needs=\"a restart\""]));
}

#[test]
fn a_new_router_has_the_settings_in_force_whatever_the_file_says_by_then() {
    let broker = Serve::file(&demo("workers = 1\nqueue = 7\n"), 1).start();
    reread(&broker, &demo("workers = 2\nqueue = 9\n"));
    broker.rewrite_file("nonsense");
    let router = broker.router_pid();
    send(router, SIGKILL);
    let status = broker
        .wait_until("another router serves", |report| report.router_pid != router && report.pool.ready == 2);
    assert_eq!((status.pool.target, status.queue.backlog_limit), (2, 9));
}

#[test]
fn an_upgrade_takes_what_needs_one_and_refuses_a_file_that_cannot_be_used() {
    let broker = Serve::file(&demo("workers = 2\nmax-body = \"1KiB\"\n"), 2).start();
    let upgrade = |what: &str, mut done: Box<dyn FnMut() -> bool>| {
        broker.signal(SIGUSR2);
        eventually(what, &mut *done);
    };
    broker.rewrite_file(&demo("workers = \n"));
    upgrade("the upgrade is refused", Box::new(|| has_line(&broker, &["upgrade", "hornpipe.toml:4"])));
    assert_eq!(broker.ask("echo x"), "x");
    let router = broker.router_pid();
    broker.rewrite_file(&demo("workers = 3\nmax-body = \"2KiB\"\n"));
    upgrade("the new router serves", Box::new(|| broker.status().router_pid != router));
    let status = broker.wait_until("it has the size of the file", |report| report.pool.ready == 3);
    assert_eq!(status.pool.target, 3);
    let body = format!("echo {}", "x".repeat(1500));
    assert_eq!(broker.ask(&body).len(), 1500, "the larger body is taken");
}

#[test]
fn a_size_that_changes_under_load_loses_nothing() {
    let broker = Serve::file(&demo("workers = 2\n"), 2).start();
    let sizes = [5, 1, 4, 3, 6, 2];
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let client = broker.client();
            for number in 0..2000 {
                assert_eq!(client.ask_text(&format!("echo {number}")), number.to_string());
            }
        });
        for size in sizes.iter().cycle() {
            if asking.is_finished() {
                break;
            }
            reread(&broker, &demo(&format!("workers = {size}\nattempts = {size}\n")));
            assert_eq!(broker.status().pool.target, *size);
        }
    });
    broker.check_counters();
    broker.order(&ControlRequest::Check);
}

#[test]
fn a_program_with_its_own_handler_reads_the_file_too() {
    let folder = Folder::new();
    let path = folder.file("closure.toml");
    fs::write(&path, "queue = 7\nattempts = 1\n").unwrap();
    let broker = Serve::own(CLOSURE, &[], 2).variable("HORNPIPE_CONFIG", &path).start();
    assert_eq!(broker.status().queue.backlog_limit, 7);
    fs::write(&path, "queue = 9\nprogram = [\"true\"]\nworkers = 5\n").unwrap();
    broker.signal(SIGHUP);
    broker.wait_until("the reload is done", |report| report.pool.generation == 1 && report.pool.ready == 2);
    let status = broker.wait_for_idle(2);
    assert_eq!((status.pool.target, status.queue.backlog_limit), (2, 9), "the size is the environment's");
    assert_eq!(broker.ask("number 1000"), "3000", "the handler is the program");
}

#[test]
fn a_file_that_breaks_while_an_upgrade_is_under_way_costs_no_worker() {
    let broker = Serve::file(&demo("workers = 2\nqueue = 7\ndrain = \"20s\"\n"), 2).start();
    let (workers, router) = (broker.workers(), broker.router_pid());
    let client = broker.client();
    client.send(&[b"sleep 2000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGUSR2);
    // The program has been tried by then, and finds another file when it takes over.
    broker.wait_until("the router hands over", |report| report.phase == "handing over");
    broker.rewrite_file("workers = \n");
    let status = broker.wait_until("the next router serves", |report| {
        report.router_pid != router && report.phase == "serving" && report.pool.ready == 2
    });
    assert_eq!((status.pool.target, status.queue.backlog_limit), (2, 7));
    assert_eq!(broker.workers(), workers);
    assert!(has_line(&broker, &["that of before the upgrade stays", "hornpipe.toml:1"]), "{}", broker.log());
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn whether_the_file_could_be_read_is_told_whoever_routes() {
    let text = demo("workers = 1\n");
    let broker = Serve::file(&text, 1).options(["--http", "0"]).start();
    let http = Http::of(&broker);
    let told = |scrape: &Scrape| {
        (scrape.count("config_reload_success", &[]), scrape.sum("config_reload_timestamp_seconds", &[]))
    };
    let (success, first) = told(&http.scrape(Exposition::Prometheus));
    assert_eq!(success, 1, "it could be read at the start");
    broker.rewrite_file(&format!("{text}workers = 2\n"));
    broker.signal(SIGHUP);
    let scrape = http.wait_until("it cannot be read", |scrape| told(scrape).0 == 0);
    assert!(told(&scrape).1 >= first);
    send(broker.router_pid(), SIGKILL);
    http.wait_until("another router says the same", |scrape| {
        scrape.count("router_restarts_total", &[]) == 1 && told(scrape).0 == 0
    });
    broker.rewrite_file(&text);
    broker.signal(SIGHUP);
    http.wait_until("it can be read again", |scrape| told(scrape).0 == 1);
}
