//! Our own client through everything: several brokers, killed workers and routers, many
//! requests at once, Ctrl-C; and `bench`, which counts what comes of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hornpipe_client::{AskError, Client, Request, Status};
use hornpipe_proto::worker::{Announcement, BrokerMessage, ReplyMeta};
use hornpipe_tests::harness::{
    Broker, Deadline, NativeWorker, Process, Serve, eventually, hornpipe, let_pass, refused, send,
};
use nix::sys::signal::Signal::{SIGINT, SIGKILL};
use serde_json::Value;

/// What `bench` says, and its exit code.
fn bench(arguments: &[&str]) -> (Value, Option<i32>) {
    let ended = Process::run(hornpipe(), &[&["bench", "--json"], arguments].concat());
    let value = serde_json::from_str(&ended.stdout);
    (value.unwrap_or_else(|error| panic!("{error}: {} {}", ended.stdout, ended.stderr)), ended.code())
}

#[test]
fn when_one_of_two_brokers_is_killed_its_requests_are_with_the_other_within_one_time_out() {
    let (mut first, second) = (Broker::demo(2), Broker::demo(2));
    first.let_it_fail();
    let client = Client::builder().endpoints([first.frontend(), second.frontend()]).build().unwrap();
    assert_eq!(client.ask("echo x").unwrap().broker.to_string(), first.frontend());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.ask("sleep 500"));
        first.wait_for_in_flight(1);
        let time = Deadline::after(Duration::from_secs(5));
        // Parent and router: nobody is left to start another one.
        let router = first.router_pid();
        send(first.pid(), SIGKILL);
        send(router, SIGKILL);
        let reply = asking.join().unwrap().unwrap();
        assert_eq!(reply.bytes(), b"slept 500");
        assert_eq!(reply.broker.to_string(), second.frontend());
        // A try has a third of 30 s. It was noticed, and not waited for.
        assert!(!time.is_over(), "{:?}", time.elapsed());
    });
    first.wait();
    assert_eq!(client.ask("echo y").unwrap().bytes(), b"y");
}

#[test]
fn a_broker_that_stops_sends_its_clients_to_the_other() {
    let (first, second) = (Broker::demo(1), Broker::demo(1));
    let client = Client::builder().endpoints([first.frontend(), second.frontend()]).build().unwrap();
    client.ask("echo x").unwrap();
    drop(first);
    let reply = client.ask("echo x").unwrap();
    assert_eq!((reply.bytes(), reply.broker.to_string()), (b"x".to_vec(), second.frontend().to_owned()));
}

#[test]
fn a_hundred_requests_at_once_lose_nothing_while_workers_and_routers_are_killed() {
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let client = Client::builder().endpoint(broker.frontend()).tries(20).build().unwrap();
    let is_over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let ask = |thread: u32| {
            let (client, is_over) = (&client, &is_over);
            move || {
                let mut asked = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let bodies: Vec<String> =
                        (0..25).map(|number| format!("{thread} {asked} {number}")).collect();
                    let pending: Vec<_> = bodies
                        .iter()
                        .map(|body| client.send(Request::new(format!("echo {body}"))).unwrap())
                        .collect();
                    for (body, pending) in bodies.iter().zip(pending) {
                        assert_eq!(pending.wait().unwrap().bytes(), body.as_bytes());
                    }
                    asked += bodies.len();
                }
                asked
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(ask(thread))).collect();
        for round in 0..6 {
            let apart = Deadline::after(Duration::from_millis(500));
            match round % 3 {
                1 => {
                    send(broker.router_pid(), SIGKILL);
                    broker.wait_until("another serves", |report| report.pool.ready == 4);
                }
                _ => {
                    for pid in broker.workers().into_values().take(1) {
                        send(pid, SIGKILL);
                    }
                }
            }
            let_pass(apart.left());
        }
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(asked > 1000, "{asked}");
    assert_eq!(broker.status().router_life, 3);
    broker.wait_for_idle(4);
}

#[test]
fn ctrl_c_ends_req_and_its_exit_code_says_that_it_was_taken_back() {
    let broker = Broker::demo(1);
    let mut asking = Process::start(hornpipe(), &["req", broker.frontend(), "sleep 60000"]);
    broker.wait_for_in_flight(1);
    send(asking.pid(), SIGINT);
    let ended = asking.wait();
    assert_eq!(ended.code(), Some(4), "{}", ended.stderr);
    assert!(ended.stderr.contains("taken back"), "{}", ended.stderr);
    assert_eq!(refused(&broker.wait_for_idle(1), Status::Cancelled), 1);
}

#[test]
fn a_request_that_is_dropped_or_cancelled_frees_its_worker() {
    let broker = Broker::demo(1);
    let pid = broker.workers()[&0];
    let client = Client::connect(broker.frontend()).unwrap();
    let dropped = client.send(Request::new("sleep 60000")).unwrap();
    broker.wait_for_in_flight(1);
    drop(dropped);
    assert_eq!(client.ask("echo free").unwrap().bytes(), b"free");
    let cancelled = client.send(Request::new("sleep 60000")).unwrap();
    broker.wait_for_in_flight(1);
    cancelled.cancel();
    let error = cancelled.wait().unwrap_err();
    assert!(matches!(&error, AskError::Refused { status: Status::Cancelled, attempt: 1, .. }), "{error:?}");
    assert_eq!(client.ask("pid").unwrap().bytes(), pid.to_string().as_bytes());
}

#[test]
fn work_with_a_key_is_done_once_however_often_and_by_whom_it_is_asked_for() {
    let broker = Broker::demo(2);
    let file = broker.folder().file("runs");
    let work = || Request::new(format!("count {}", file.display())).key("k");
    let clients: Vec<Client> = (0..3).map(|_| Client::connect(broker.frontend()).unwrap()).collect();
    // Given up and asked for again, over another connection.
    drop(clients[0].send(work()).unwrap());
    let asked: Vec<_> = clients.iter().map(|client| client.send(work()).unwrap()).collect();
    for asked in asked {
        assert_eq!(asked.wait().unwrap().bytes(), b"1");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x\n");
}

#[test]
fn what_a_request_says_of_itself_is_kept_by_the_broker() {
    let broker = Broker::demo(3);
    let client = Client::connect(broker.frontend()).unwrap();
    let first = client.request(Request::new("pid").affinity("user-7")).unwrap();
    for _ in 0..10 {
        client.ask("echo another").unwrap();
        let reply = client.request(Request::new("pid").affinity("user-7").strict()).unwrap();
        assert_eq!(reply.bytes(), first.bytes());
    }
    let reply = client.request(Request::new("sleep 30")).unwrap();
    assert!(reply.ran.unwrap() >= Duration::from_millis(30) && reply.waited.is_some(), "{reply:?}");
    // One at a time: whoever is second waits for the first.
    let slow = || client.send(Request::new("sleep 100").exclusive("disk")).unwrap();
    let (one, two) = (slow(), slow());
    let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
    assert!(one.waited.unwrap().max(two.waited.unwrap()) >= Duration::from_millis(90), "{one:?} {two:?}");
}

#[test]
fn req_takes_a_list_of_brokers_and_tells_who_answered() {
    let broker = Broker::demo(1);
    let gone = "127.0.0.1:1";
    let list = format!("{gone},{}", broker.frontend());
    let ended = Process::run(hornpipe(), &["req", "-v", &list, "echo x"]);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "x\n"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains(&format!("answered by {} at attempt 1", broker.frontend())),
        "{}",
        ended.stderr
    );
    let options = ["--key", "k", "--priority", "high", "--affinity", "w", "--strict", "--exclusive", "e"];
    let more = ["--trace", "00-00-00-01", "-H", "tenant=blue", "--attempts", "1", "--tries", "2"];
    let words = [&["req"][..], &options, &more, &["--broker", broker.frontend()]].concat();
    let mut ended = Process::start_with_input(hornpipe(), &words, b"echo y\n");
    let ended = ended.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "y\n"), "{}", ended.stderr);
    for (wrong, why) in [("=x", "name"), ("x", "NAME=VALUE")] {
        let ended = Process::run(hornpipe(), &["req", broker.frontend(), "x", "-H", wrong]);
        assert!(ended.code() == Some(2) && ended.stderr.contains(why), "{}", ended.stderr);
    }
}

#[test]
fn req_prints_each_part_of_a_reply_as_it_comes() {
    let broker = Serve::bare(0).start();
    let worker = NativeWorker::connect(broker.backend(), &Announcement::default());
    broker.wait_until("it is known", |report| report.external.iter().any(|worker| worker.state == "waiting"));
    let mut asking = Process::start(hornpipe(), &["req", broker.frontend(), "x"]);
    let (BrokerMessage::Job { token, .. }, _body) = worker.receive() else { panic!("a job was expected") };
    worker.reply(&token, &ReplyMeta { more: true, ..ReplyMeta::default() }, b"first");
    eventually("the first is printed", || asking.stdout() == "first\n");
    assert!(asking.is_running());
    worker.reply(&token, &ReplyMeta::default(), b"last");
    let ended = asking.wait();
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(0), "first\nlast\n"), "{}", ended.stderr);
}

#[test]
fn bench_kills_workers_and_counts_that_nothing_is_lost_and_nothing_done_twice() {
    let broker = Serve::demo(4).options(["--attempts", "5"]).start();
    let control = broker.control().display().to_string();
    let chaos = ["--chaos", "300ms", "-d", "3s", "--control", &control];
    let mix = ["-c", "8", "--rate", "500", "--size", "32B:9,64KiB:1"];
    let (value, code) = bench(&[&[broker.frontend()][..], &chaos, &mix].concat());
    assert_eq!(code, Some(0), "{value}");
    let count = |name: &str| value[name].as_u64().unwrap();
    assert_eq!([count("lost"), count("wrong"), count("doubled")], [0; 3], "{value}");
    assert_eq!((count("sent"), &value["right"]), (1500, &Value::Bool(true)));
    let chaos = &value["chaos"];
    assert!(chaos["killed"].as_u64().unwrap() >= 4, "{value}");
    assert!(chaos["done"]["asked"].as_u64().unwrap() > 20, "{value}");
    assert_eq!((&chaos["done"]["doubled"], &chaos["done"]["keys"]), (&0.into(), &Value::Bool(true)));
    assert!(broker.status().pool.exited >= chaos["killed"].as_u64().unwrap());
}

#[test]
fn bench_shares_its_clients_out_among_brokers_and_its_requests_among_services() {
    let file = |service: &str| {
        let text = format!("frontend = \"0\"\nbackend = \"0\"\n[service.{service}]\nworkers = 1\n");
        Serve::file(&text, 1).start()
    };
    let brokers = [file("images"), file("images")];
    let list = format!("{},{}", brokers[0].frontend(), brokers[1].frontend());
    let (value, code) =
        bench(&[&list, "-n", "400", "-c", "4", "--depth", "100", "--service", "images:1,default:1"]);
    assert_eq!((code, &value["ok"]), (Some(0), &400.into()), "{value}");
    // As many as all clients may have out at once: each has its hundred, however quick the brokers are.
    for broker in &brokers {
        assert_eq!(broker.status().requests.answered, 200);
    }
    let (value, code) = bench(&[&list, "-n", "10", "--service", "nobody"]);
    assert_eq!((code, &value["errors"]["no_service"]), (Some(0), &10.into()), "{value}");
}

#[test]
fn bench_says_what_it_cannot_do() {
    for (words, code, why) in [
        (&["queue.example:1", "--chaos", "1s"][..], 2, "this machine"),
        (&["1", "--size", "8B"], 2, "at least 16 bytes"),
        (&["1", "--size", "32B:x"], 2, "weight"),
        (&["1", "--size", "32B:0"], 2, "weight of at least 1"),
        (&["1", "--plain", "--service", "x"], 2, "plain"),
        (&["1", "--timeout", "100ms"], 5, "no server"),
        (&["1", "--chaos", "1s"], 5, "no broker"),
    ] {
        let ended = Process::run(hornpipe(), &[&["bench"], words].concat());
        assert_eq!(ended.code(), Some(code), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{words:?}: {}", ended.stderr);
    }
}
