//! `--http`: metrics, health and the process that tells of them.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_tests::harness::{
    Broker, DEADLINE, Deadline, Exposition, Folder, Http, Process, Scrape, Serve, eventually, hear, hornpipe,
    is_alive, send, source, status_of, until,
};
use nix::sys::signal::Signal::{self, SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM, SIGUSR2};

/// What one connection may take: 2 s to ask, 2 s for the router, and a crowded machine.
const TIME_OUTS: Duration = Duration::from_secs(20);

fn serve(serve: Serve) -> (Broker, Http) {
    let broker = serve.options(["--http", "0"]).start();
    let http = Http::of(&broker);
    (broker, http)
}

/// A configuration file for one demo worker on free ports.
fn file_of_a_demo() -> String {
    let program = hornpipe().display().to_string();
    format!("frontend = 0\nbackend = 0\nprogram = [{program:?}, \"worker\", \"demo\"]\nworkers = 1\n")
}

fn demo(workers: u32) -> (Broker, Http) {
    serve(Serve::demo(workers))
}

/// The process that answers HTTP.
fn http_pid(broker: &Broker) -> i32 {
    let title = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"hornpipe: http ")
    };
    // Between two of them there is none for a moment.
    until("there is one", DEADLINE, || broker.session().members().into_iter().find(title))
}

fn outcome(scrape: &Scrape, outcome: &str) -> u64 {
    scrape.count("requests_total", &[("outcome", outcome)])
}

fn exits(scrape: &Scrape, reason: &str) -> u64 {
    scrape.count("worker_exits_total", &[("reason", reason)])
}

fn check(broker: &Broker, words: &[&str]) -> hornpipe_tests::harness::Ended {
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let arguments = [&["check", &port, "--control", &control], words].concat();
    Process::run(hornpipe(), &arguments)
}

#[test]
fn after_a_known_load_every_count_is_exact() {
    let (broker, http) = serve(Serve::demo(1).options(["--timeout", "300ms", "--attempts", "1"]));
    let client = broker.client();
    for _ in 0..17 {
        assert_eq!(client.ask_text("echo x"), "x");
    }
    for _ in 0..5 {
        client.send(&[b"fail so"]);
        client.receive_error(Status::Error);
    }
    for _ in 0..3 {
        // The demo worker obeys the cancel, and its late word is counted.
        client.send(&[b"sleep 60000"]);
        client.receive_error(Status::Timeout);
        broker.wait_for_idle(1);
    }
    client.send(&[b"kill9"]);
    client.receive_error(Status::Lost);
    broker.wait_for_idle(1);
    for exposition in [Exposition::Prometheus, Exposition::OpenMetrics] {
        let scrape = http.scrape(exposition);
        let outcomes = ["ok", "error", "timeout", "crashed", "expired", "rejected", "cancelled"];
        let counts = outcomes.map(|one| outcome(&scrape, one));
        assert_eq!(counts, [17, 5, 3, 1, 0, 0, 0]);
        assert_eq!(scrape.count("requests_received_total", &[]), 26);
        assert_eq!(scrape.count("requests_turned_away_total", &[]), 0);
        assert_eq!(scrape.count("refusals_total", &[("status", "lost")]), 1);
        for histogram in ["request_duration_seconds", "queue_wait_seconds", "processing_seconds"] {
            assert_eq!(scrape.count(&format!("{histogram}_count"), &[]), 26, "{histogram}");
            assert_eq!(scrape.count(&format!("{histogram}_bucket"), &[("le", "+Inf")]), 26, "{histogram}");
        }
        let slow = 26 - scrape.count("request_duration_seconds_bucket", &[("le", "0.25")]);
        assert!((3..=26).contains(&slow), "{slow} took longer than 250 ms");
        assert!(scrape.sum("worker_busy_seconds_total", &[]) >= 0.9, "three waited 300 ms each");
        assert_eq!(scrape.count("late_replies_total", &[]), 3, "each cancelled one has replied");
        assert_eq!(exits(&scrape, "signal"), 1);
        assert_eq!(scrape.count("worker_exits_total", &[]), 1);
        assert_eq!(scrape.count("worker_starts_total", &[]), 2);
        assert_eq!(scrape.count("worker_start_seconds_count", &[]), 2);
        assert_eq!(scrape.count("workers", &[("state", "waiting")]), 1);
        assert_eq!(scrape.count("workers", &[]), 1);
        assert_eq!(scrape.count("workers_target", &[("service", "default")]), 1);
        assert!(scrape.labels().all(|(name, _value)| name != "pid"));
    }
    broker.check_counters();
}

#[test]
fn retries_recycling_reloads_and_memory_are_counted() {
    let (broker, http) = serve(Serve::demo(1).options(["--max-requests", "10", "--max-memory", "1GiB"]));
    let client = broker.client();
    for _ in 0..10 {
        assert_eq!(client.ask_text("echo x"), "x");
    }
    let scrape = http.wait_until("one is replaced", |scrape| exits(scrape, "max_requests") == 1);
    assert_eq!(scrape.count("worker_exits_total", &[]), 1);
    assert_eq!(scrape.count("worker_memory_limit_bytes", &[]), 1 << 30);
    assert!(!scrape.has("processing_limit_seconds") && !scrape.has("reload_success"));
    assert_eq!(client.ask_text("echo x"), "x");
    let scrape = http.wait_until("its memory is known", |scrape| scrape.count("workers_measured", &[]) == 1);
    let memory = |kind| scrape.count("workers_memory_bytes", &[("kind", kind)]);
    assert!(0 < memory("private") && memory("private") <= memory("pss"), "{scrape:?}");
    assert!(memory("private") <= memory("rss"), "{scrape:?}");

    client.send(&[b"parts 3 0"]);
    assert_eq!(client.receive().len(), 4);
    client.send(&[b"sleep 1000"]);
    broker.wait_for_in_flight(1);
    send(broker.workers()[&0], SIGKILL);
    assert_eq!(client.receive(), [b"slept 1000"]);
    let scrape = http.wait_until("it is told", |scrape| exits(scrape, "signal") == 1);
    assert_eq!(scrape.count("retries_total", &[]), 1);
    assert_eq!(scrape.count("reply_parts_total", &[]), 3);
    assert_eq!(scrape.count("processing_seconds_count", &[]), 14, "two workers had the last one");
    assert_eq!(scrape.count("request_duration_seconds_count", &[]), 13);

    broker.signal(SIGHUP);
    let scrape = http.wait_until("it is reloaded", |scrape| {
        scrape.count("reloads_total", &[("outcome", "finished")]) == 1
    });
    assert_eq!((scrape.count("reload_success", &[]), exits(&scrape, "reload")), (1, 1));
    let file = broker.folder().file("now");
    fs::write(&file, "").unwrap();
    let wall = fs::metadata(&file).unwrap().modified().unwrap();
    let wall = wall.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let told = scrape.sum("reload_timestamp_seconds", &[]);
    assert!((wall - told).abs() < 60.0, "{told} is not {wall}");
}

#[test]
fn what_waits_and_what_is_refused_at_the_door_is_told() {
    let (broker, http) = serve(Serve::demo(1).options(["--queue", "2"]));
    let clients: [_; 4] = std::array::from_fn(|_| broker.client());
    clients[0].send(&[b"sleep 600000"]);
    broker.wait_for_in_flight(1);
    assert_eq!(http.get("/readyz").status, 200);
    clients[1].send(&[b"echo 1"]);
    clients[2].send(&[b"echo 2"]);
    broker.wait_until("both wait", |report| report.requests.waiting == 2);
    clients[3].send(&[b"echo 3"]);
    clients[3].receive_error(Status::Busy);
    let why = http.wait_for("/readyz", 503);
    assert!(why.contains("the queue is full: 2 requests wait"), "{why}");
    let ended = check(&broker, &[]);
    assert_eq!(ended.code(), Some(1));
    assert!(ended.stderr.contains("the queue is full"), "{}", ended.stderr);
    assert_eq!(http.get("/livez").status, 200, "busy is no failure");

    let scrape = http.wait_until("the refusal is told", |scrape| outcome(scrape, "rejected") == 1);
    assert_eq!((scrape.count("queue_depth", &[]), scrape.count("queue_limit", &[])), (2, 2));
    assert!(scrape.sum("queue_oldest_seconds", &[]) > 0.0);
    assert_eq!(scrape.count("requests_turned_away_total", &[]), 1);
    assert_eq!(scrape.count("request_duration_seconds_count", &[]), 0, "nobody who was admitted has ended");
    assert_eq!((scrape.count("requests_in_flight", &[]), scrape.count("ready", &[])), (1, 0));
    let busy = scrape.sum("worker_busy_seconds_total", &[]);
    http.wait_until("it is busy all the time", |scrape| scrape.sum("worker_busy_seconds_total", &[]) > busy);
    drop(clients);
    let scrape = http.wait_until("they have left", |scrape| outcome(scrape, "cancelled") == 3);
    assert_eq!(scrape.count("queue_wait_seconds_count", &[]), 3, "one was served, two left from the queue");
    send(broker.workers()[&0], SIGKILL);
    http.wait_for("/readyz", 200);
}

#[test]
fn readiness_says_why_not_and_check_says_the_same() {
    let starting = Serve::bare(1).options(["--http", "0"]).program(["sleep", "600"]).spawn();
    let http = Http::of(&starting);
    assert!(http.wait_for("/readyz", 503).contains("no worker has been ready yet"));
    drop(starting);

    let (broker, http) = serve(Serve::bare(0));
    let answer = http.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("no worker is ready"), "{}", answer.body);
    assert_eq!(http.get("/livez").status, 200);
    let told: serde_json::Value = serde_json::from_str(&check(&broker, &["--json"]).stdout).unwrap();
    assert_eq!(told["ready"], false);
    assert!(answer.body.contains(told["reason"].as_str().unwrap()), "{told}");
    let live = check(&broker, &["--live"]);
    assert_eq!(live.code(), Some(0), "{}", live.stderr);

    let (mut broker, http) = serve(Serve::demo(2).options(["--drain", "20s"]));
    assert_eq!(http.get("/readyz").body, "ready\n");
    assert_eq!(check(&broker, &["--live"]).stdout, "live\n");
    let client = broker.client();
    client.send(&[b"sleep 3000"]);
    broker.wait_for_in_flight(1);
    broker.signal(SIGTERM);
    assert!(http.wait_for("/readyz", 503).contains("draining"));
    assert_eq!(http.get("/livez").status, 200, "it lives while it drains");
    assert_eq!(client.receive(), [b"slept 3000"]);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(TcpStream::connect(("127.0.0.1", http.port)).is_err(), "the port is closed with the broker");
}

#[test]
fn no_ready_worker_is_not_ready() {
    // All but its first process never say that they are ready.
    let folder = Folder::new();
    let (once, binary) = (folder.file("once"), hornpipe());
    let command = "mkdir \"$1\" && exec \"$2\" worker demo; exec sleep 600";
    let program = ["sh".as_ref(), "-c".as_ref(), command.as_ref(), "sh".as_ref(), once.as_os_str()];
    let program = program.into_iter().chain([binary.as_os_str()]);
    let (broker, http) = serve(Serve::bare(1).program(program));
    assert_eq!(http.get("/readyz").status, 200);
    send(broker.workers()[&0], SIGKILL);
    assert!(http.wait_for("/readyz", 503).contains("no worker is ready"));
    assert!(check(&broker, &[]).stderr.contains("no worker is ready"));
    let scrape = http.scrape(Exposition::Prometheus);
    assert_eq!((scrape.count("workers", &[("state", "starting")]), scrape.count("ready", &[])), (1, 0));
    assert_eq!(http.get("/livez").status, 200);
}

#[test]
fn a_stopped_router_is_not_alive_and_comes_back() {
    let (broker, http) = demo(1);
    let router = broker.router_pid();
    assert_eq!(http.get("/livez").status, 200);
    send(router, SIGSTOP);
    let why = http.wait_for("/livez", 503);
    assert!(why.contains("has not answered for 2 seconds"), "{why}");
    assert_eq!((http.get("/readyz").status, http.get("/metrics").status), (503, 503));
    assert_eq!(http.get("/").status, 200, "what needs no router is told");
    let ended = check(&broker, &["--live"]);
    assert_eq!(ended.code(), Some(5), "{}", ended.stdout);
    send(router, SIGCONT);
    http.wait_for("/livez", 200);
    assert_eq!(broker.router_pid(), router);
    assert_eq!(http.get("/readyz").status, 200);
}

#[test]
fn a_killed_http_comes_back_and_the_pool_notices_nothing() {
    let (broker, http) = demo(2);
    let (workers, router) = (broker.workers(), broker.router_pid());
    for _ in 0..3 {
        let pid = http_pid(&broker);
        send(pid, SIGKILL);
        eventually("another one answers", || http.try_status("/readyz") == Some(200));
        eventually("it is another", || !is_alive(pid) && http_pid(&broker) != pid);
    }
    assert_eq!((broker.workers(), broker.router_pid()), (workers, router));
    broker.wait_for_log("http died");
    broker.check_counters();
}

#[test]
fn http_goes_on_when_the_router_dies() {
    let (broker, http) = demo(1);
    for life in 2..=3 {
        send(broker.router_pid(), SIGKILL);
        eventually("it is ready again", || http.try_status("/readyz") == Some(200));
        let restarts = http
            .wait_until("the new one tells", |scrape| scrape.count("router_restarts_total", &[]) == life - 1);
        assert_eq!(restarts.count("worker_starts_total", &[]), 0, "the worker is the same");
        assert_eq!(restarts.count("workers", &[("state", "waiting")]), 1);
    }
}

#[test]
fn nothing_is_left_when_the_parent_is_killed() {
    let (mut broker, http) = demo(1);
    let pid = http_pid(&broker);
    let halted = http.connect();
    send(pid, SIGSTOP);
    broker.let_it_fail();
    send(broker.pid(), SIGKILL);
    broker.wait();
    broker.wait_until_nothing_is_left();
    assert!(!is_alive(pid), "stopped or not, it dies with its parent");
    drop(halted);
    // And the port is free.
    let port = http.port.to_string();
    let second = Serve::demo(1).options(["--http", &port]).start();
    assert_eq!(Http::of(&second).get("/readyz").status, 200);
}

#[test]
fn an_upgrade_keeps_the_port_and_loses_no_scrape() {
    let (broker, http) = demo(1);
    let pid = http_pid(&broker);
    let life = broker.status().router_life;
    broker.signal(SIGUSR2);
    while status_of(broker.control()).is_none_or(|report| report.router_life == life) {
        // Whoever connects waits, or is told to come again: never refused.
        drop(http.connect());
    }
    eventually("it is ready again", || http.try_status("/readyz") == Some(200));
    eventually("it is of the new program", || http_pid(&broker) != pid);
    assert_eq!(http.scrape(Exposition::Prometheus).count("router_restarts_total", &[]), 1);
    assert_eq!(broker.ask("echo x"), "x");
}

#[test]
fn pages_are_read_and_nothing_else() {
    let (broker, http) = demo(1);
    let index = http.get("/");
    for path in ["/metrics", "/livez", "/readyz", "/status"] {
        assert!(index.body.contains(path), "{}", index.body);
        let (got, head) = (http.get(path), http.ask("HEAD", path, ""));
        assert_eq!((got.status, head.status, head.body.as_str()), (200, 200, ""), "{path}");
        assert!(head.head.contains("Content-Length: "), "{}", head.head);
        let refused = http.ask("POST", path, "Content-Length: 3\r\n");
        assert_eq!(refused.status, 405, "{path}");
        assert!(refused.head.contains("Allow: GET, HEAD"), "{}", refused.head);
    }
    assert!(!index.body.contains("<script"));
    assert_eq!((http.get("/nothing").status, http.get("/../etc/passwd").status), (404, 404));
    assert_eq!(http.get("/livez?verbose=1").status, 200);
    let status: serde_json::Value = serde_json::from_str(&http.get("/status").body).unwrap();
    assert_eq!((&status["pid"], &status["phase"]), (&broker.pid().into(), &"serving".into()));
    assert_eq!(status["workers"].as_array().unwrap().len(), 1);
}

#[test]
fn rubbish_is_refused_and_hurts_nobody() {
    let (broker, http) = demo(1);
    let pid = http_pid(&broker);
    let huge = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let cases: [(&[u8], &str); 7] = [
        (b"\x16\x03\x01\x02\x00\x01\x00", "400"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", "400"),
        (b"GET\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"),
        (&[0; 4096], "400"),
        (&huge, "431"),
        (many.as_bytes(), "431"),
    ];
    for (bytes, status) in cases {
        let mut stream = http.connect();
        // One that hangs up on the rest is right to do so.
        stream.write_all(bytes).ok();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).ok();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(heard.starts_with(&expected) || (heard.is_empty() && bytes.len() > 4096), "{heard}");
    }
    // The first of several is answered, and then the connection ends.
    let twice = http.say(b"GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\n\r\n");
    assert_eq!(twice.matches("HTTP/1.1 200").count(), 1, "{twice}");
    // Who has nothing more to say is still answered.
    let mut stream = http.connect();
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(hear(&mut stream).ends_with("live\n"));
    // And who hangs up at once is forgotten.
    for _ in 0..100 {
        let mut stream = http.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    }
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(http_pid(&broker), pid, "none of this has ended it");
}

#[test]
fn who_asks_slowly_keeps_nobody_else_waiting() {
    let (broker, http) = demo(1);
    let pid = http_pid(&broker);
    let slow: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = http.connect();
            stream.write_all(b"GET /metrics HTT").unwrap();
            stream
        })
        .collect();
    let time = Deadline::after(TIME_OUTS);
    let scrape = http.scrape(Exposition::Prometheus);
    assert_eq!(scrape.count("ready", &[]), 1);
    assert!(!time.is_over(), "a scrape took {:?}", time.elapsed());
    // Each of them is told so, or has made room, within its time.
    for mut stream in slow {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).ok();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 408 "), "{heard}");
    }
    assert_eq!(http_pid(&broker), pid);
    assert_eq!(http.get("/livez").status, 200);
}

#[test]
fn many_scrapers_ask_the_router_a_few_times_a_second() {
    let (broker, http) = demo(1);
    let time = Deadline::after(Duration::from_secs(2));
    let mut asked = 0;
    let mut seen = std::collections::BTreeSet::new();
    while !time.is_over() {
        let page = http.get("/metrics").body;
        let uptime = page.lines().find(|line| line.starts_with("hornpipe_uptime_seconds ")).unwrap();
        seen.insert(uptime.to_owned());
        asked += 1;
    }
    let most = time.elapsed().as_millis() / 250 + 2;
    assert!(seen.len() as u128 <= most, "{} answers for {asked} in {:?}", seen.len(), time.elapsed());
    assert!(asked > 2 * seen.len(), "{asked} is no storm");
    broker.check_counters();
}

#[test]
fn the_port_is_refused_where_it_cannot_be_had() {
    let (broker, http) = demo(1);
    let taken = http.port.to_string();
    let outcome = Serve::demo(1).options(["--http", &taken]).run();
    assert_eq!(outcome.ended.code(), Some(4));
    let holder = format!("(pid {})", broker.pid());
    assert!(outcome.ended.stderr.contains(&holder), "{}", outcome.ended.stderr);
    let outcome = Serve::demo(1).options(["--http", "*:0"]).run();
    assert_eq!(outcome.ended.code(), Some(2));
    assert!(outcome.ended.stderr.contains("--insecure"), "{}", outcome.ended.stderr);
    let told = format!("http://127.0.0.1:{taken}/");
    eventually("the screen says where", || broker.screen().contains(&told));
    let open = Serve::demo(1).options(["--http", "*:0", "--insecure"]).start();
    assert_eq!(Http::of(&open).get("/livez").status, 200);
}

#[test]
fn another_user_answers_without_the_control_socket() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let (broker, http) = serve(Serve::bare(1).options(["--user", "65534", "--group", "65534"]));
    let pid = http_pid(&broker);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    assert_eq!(http.get("/readyz").status, 200);
    send(broker.router_pid(), SIGKILL);
    // The one before may still have an answer for a moment.
    eventually("another one is ready", || {
        http_pid(&broker) != pid && http.try_status("/readyz") == Some(200)
    });
    let pid = http_pid(&broker);
    for signal in [SIGHUP, SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        send(pid, signal);
    }
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(http_pid(&broker), pid, "it ends on the parent's word alone");
}

/// Every name of ours in a text.
fn metric_names(text: &str) -> Vec<String> {
    let is_part = |letter: &char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == '_';
    let names =
        text.match_indices("hornpipe_").map(|(at, _)| text.get(at..).unwrap().chars().take_while(is_part));
    names.map(Iterator::collect).collect()
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_there_are() {
    let text = file_of_a_demo();
    let options = ["--timeout", "10s", "--queue-timeout", "10s", "--max-memory", "1GiB"];
    let (broker, http) = serve(Serve::file(&text, 1).options(options));
    broker.signal(SIGHUP);
    let scrape = http.wait_until("every metric has a sample", |scrape| scrape.has("reload_success"));
    let known: Vec<&str> = scrape.names().collect();
    let folder = source("../docs/monitoring");
    let mut used = Vec::new();
    for file in ["grafana.json", "alerts.yml"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let names = metric_names(&text);
        assert!(names.len() > 5, "{file} uses {names:?}");
        for name in &names {
            assert!(known.contains(&name.as_str()), "{file}: there is no {name}");
        }
        used.extend(names);
    }
    let dashboard = fs::read_to_string(folder.join("grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    // And the table of OPERATIONS has every family.
    let page = fs::read_to_string(source("../docs/OPERATIONS.md")).unwrap();
    for name in scrape.types.keys() {
        let short = name.trim_start_matches("hornpipe_");
        assert!(page.contains(&format!("`{short}`")) || page.contains(&format!("`{short}_total`")), "{name}");
    }
}
