//! Majordomo's clients and workers, RFC 7, 8 and 18, on the two ports: frame by frame, and with
//! programs that have none of our code.

use nix::sys::signal::Signal;
use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{
    Broker, Client, Deadline, PlainWorker, Process, Serve, eventually, python, python_with_majortomo, script,
    send,
};

type Frames = Vec<Vec<u8>>;

/// A DEALER that speaks 0.1 frame by frame.
struct Worker(Client);

impl Worker {
    fn ready(backend: &str, service: &str) -> Self {
        let worker = Self(Client::dealer(backend));
        worker.say(&[&[1], service.as_bytes()]);
        worker
    }

    fn say(&self, rest: &[&[u8]]) {
        let mut frames: Vec<&[u8]> = vec![b"", b"MDPW01"];
        frames.extend_from_slice(rest);
        self.0.send(&frames);
    }

    /// The next thing it is told that is no heartbeat.
    fn told(&self) -> Frames {
        loop {
            let frames = self.0.receive();
            if frames != [&b""[..], b"MDPW01", &[4]] {
                return frames;
            }
        }
    }

    /// The address and body of the next request.
    fn request(&self) -> (Vec<u8>, Frames) {
        let mut frames = self.told();
        assert_eq!(frames[..3], [&b""[..], b"MDPW01", &[2]], "{frames:?}");
        assert!(frames[4].is_empty(), "{frames:?}");
        let body = frames.split_off(5);
        (frames.remove(3), body)
    }

    fn reply(&self, address: &[u8], body: &[u8]) {
        self.say(&[&[3], address, b"", body]);
    }

    fn is_disconnected(&self) {
        assert_eq!(self.told(), [&b""[..], b"MDPW01", &[5]]);
    }
}

fn ask(client: &Client, service: &str, body: &[u8]) {
    client.send(&[b"MDPC01", service.as_bytes(), body]);
}

fn services(broker: &Broker) -> Vec<String> {
    broker.status().services.into_iter().map(|service| service.name).collect()
}

#[test]
fn a_request_and_its_reply_frame_by_frame() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend(), "echo");
    let client = Client::req(broker.frontend());
    for body in [&b"one"[..], b"two", b""] {
        ask(&client, "echo", body);
        let (address, asked) = worker.request();
        assert!(!address.is_empty() && address.iter().all(u8::is_ascii_graphic), "{address:?}");
        assert_eq!(asked, [body]);
        // Each reply makes it ready for the next, without a word.
        worker.reply(&address, &body.to_ascii_uppercase());
        assert_eq!(client.receive(), [&b"MDPC01"[..], b"echo", &body.to_ascii_uppercase()]);
    }
    assert_eq!(broker.status().requests.answered, 3);
}

#[test]
fn frames_of_0_2_with_and_without_an_empty_one_before_them() {
    let broker = Serve::bare(0).start();
    for delimiter in [&[][..], &[&b""[..]]] {
        let with = |rest: &[&'static [u8]]| [delimiter, rest].concat();
        let (worker, client) = (Client::dealer(broker.backend()), Client::dealer(broker.frontend()));
        worker.send(&with(&[b"MDPW02", &[1], b"echo"]));
        client.send(&with(&[b"MDPC02", &[1], b"echo", b"a", b"", b"b"]));
        let mut job = worker.receive();
        let body = job.split_off(delimiter.len() + 4);
        let address = job.remove(delimiter.len() + 2);
        assert_eq!(job, with(&[b"MDPW02", &[2], b""]));
        assert_eq!(body, [&b"a"[..], b"", b"b"]);
        let mut reply = with(&[b"MDPW02", &[4]]);
        reply.extend([&address[..], b"", b"A", b"B"]);
        worker.send(&reply);
        assert_eq!(client.receive(), with(&[b"MDPC02", &[3], b"echo", b"A", b"B"]));
        worker.send(&with(&[b"MDPW02", &[6]]));
        broker.wait_until("it has gone", |report| report.external.is_empty());
    }
}

/// What a worker of 0.2 is to answer to, whatever heartbeats come before.
fn address_of_a_job(worker: &Client) -> Vec<u8> {
    loop {
        let mut frames = worker.receive();
        if frames != [&b"MDPW02"[..], &[5]] {
            assert_eq!(frames[..2], [&b"MDPW02"[..], &[2]], "{frames:?}");
            return frames.remove(2);
        }
    }
}

#[test]
fn partial_replies_go_out_as_they_come_to_who_reads_parts_and_in_one_piece_to_others() {
    let broker = Serve::bare(0).start();
    let worker = Client::dealer(broker.backend());
    worker.send(&[b"MDPW02", &[1], b"echo"]);
    // A native request waits for no service that is yet to come.
    broker.wait_until("it is known", |report| !report.external.is_empty());
    let reader = Client::dealer(broker.frontend());
    let reads_parts = RequestMeta { service: Some("echo".into()), more: true, ..RequestMeta::default() };
    reader.send_native(&reads_parts, b"x");
    let address = address_of_a_job(&worker);
    // Nobody tells it how many may be under way, so as many as it likes.
    for number in 0..50_u8 {
        worker.send(&[b"MDPW02", &[3], &address, b"", &[number]]);
    }
    for number in 0..50 {
        let (meta, body) = reader.receive_native();
        assert_eq!((meta.more, meta.status, body), (true, Status::Ok, vec![vec![number]]));
    }
    worker.send(&[b"MDPW02", &[4], &address, b"", b"end"]);
    let (meta, body) = reader.receive_native();
    assert_eq!((meta.more, meta.status, body), (false, Status::Ok, vec![b"end".to_vec()]));
    assert_eq!(broker.status().requests.parts, 50);

    // What has gone out is never begun again.
    reader.send_native(&reads_parts, b"x");
    let address = address_of_a_job(&worker);
    worker.send(&[b"MDPW02", &[3], &address, b"", b"half"]);
    assert!(reader.receive_native().0.more);
    drop(worker);
    assert_eq!(reader.receive_native().0.status, Status::Lost);

    let worker = Client::dealer(broker.backend());
    worker.send(&[b"MDPW02", &[1], b"echo"]);
    let other = Client::dealer(broker.frontend());
    other.send(&[b"MDPC02", &[1], b"echo", b"x"]);
    let address = address_of_a_job(&worker);
    for part in [b"a", b"b"] {
        worker.send(&[b"MDPW02", &[3], &address, b"", part]);
    }
    worker.send(&[b"MDPW02", &[4], &address, b"", b"c"]);
    assert_eq!(other.receive(), [&b"MDPC02"[..], &[3], b"echo", b"a", b"b", b"c"]);
    broker.check_counters();
}

#[test]
fn heartbeats_go_both_ways_while_a_worker_lives() {
    let broker = Serve::bare(0).start();
    let begun = Deadline::after(Duration::from_secs(20));
    let worker = Worker::ready(broker.backend(), "echo");
    for _ in 0..2 {
        assert_eq!(worker.0.receive(), [&b""[..], b"MDPW01", &[4]]);
        worker.say(&[&[4]]);
    }
    assert!(begun.elapsed() >= Duration::from_millis(4900), "2.5 s apart, not {:?}", begun.elapsed() / 2);
    assert_eq!(broker.status().noise.malformed_workers, 0);
}

#[test]
fn what_may_not_be_said_is_answered_with_disconnect() {
    let broker = Serve::bare(0).start();
    let words: [&[&[u8]]; 9] = [
        // Before READY: a heartbeat, a reply.
        &[&[4]],
        &[&[3], b"address", b"", b"body"],
        // No worker's command, and no command.
        &[&[2], b"address", b"", b"body"],
        &[&[9]],
        &[b""],
        &[],
        // What is the broker's own, and what is no name.
        &[&[1], b"mmi.service"],
        &[&[1], b""],
        &[&[1]],
    ];
    for said in words {
        let worker = Worker(Client::dealer(broker.backend()));
        worker.say(said);
        worker.is_disconnected();
    }
    let twice = Worker::ready(broker.backend(), "echo");
    twice.say(&[&[1], b"echo"]);
    twice.is_disconnected();
    let other = Worker::ready(broker.backend(), "echo");
    other.0.send(&[b"", b"waiting"]);
    other.is_disconnected();
    broker.wait_until("all are gone", |report| report.external.is_empty());
    assert_eq!(broker.status().noise.malformed_workers, 9);
    // Over another connection it is welcome.
    let again = Worker::ready(broker.backend(), "echo");
    let client = Client::req(broker.frontend());
    ask(&client, "echo", b"x");
    let (address, _body) = again.request();
    again.reply(&address, b"y");
    assert_eq!(client.receive(), [&b"MDPC01"[..], b"echo", b"y"]);
}

#[test]
fn what_a_disconnected_worker_had_goes_to_another() {
    let broker = Serve::bare(0).start();
    let forgetful = Worker::ready(broker.backend(), "echo");
    let client = Client::req(broker.frontend());
    ask(&client, "echo", b"x");
    let (address, _body) = forgetful.request();
    forgetful.say(&[&[1], b"echo"]);
    forgetful.is_disconnected();
    let other = Worker::ready(broker.backend(), "echo");
    let (second, body) = other.request();
    assert_eq!(body, [b"x"]);
    // What it still says about it is nothing to anybody, but told again.
    forgetful.reply(&address, b"from the grave");
    forgetful.is_disconnected();
    other.reply(&second, b"y");
    assert_eq!(client.receive(), [&b"MDPC01"[..], b"echo", b"y"]);
    // And what one has that says goodbye.
    ask(&client, "echo", b"z");
    other.request();
    other.say(&[&[5]]);
    let third = Worker::ready(broker.backend(), "echo");
    let (address, body) = third.request();
    third.reply(&address, &body[0]);
    assert_eq!(client.receive(), [&b"MDPC01"[..], b"echo", b"z"]);
}

#[test]
fn a_request_waits_for_a_service_that_nobody_has_yet() {
    let broker = Serve::bare(0).start();
    let client = Client::req(broker.frontend());
    ask(&client, "late", b"x");
    broker.wait_until("it waits", |report| report.queue.backlog_len == 1);
    let native = Client::dealer(broker.frontend());
    let elsewhere = RequestMeta { service: Some("later".into()), ..RequestMeta::default() };
    native.send_native(&elsewhere, b"x");
    assert_eq!(native.receive_native().0.status, Status::NoService, "nobody waits who did not ask to");
    let worker = Worker::ready(broker.backend(), "late");
    let (address, body) = worker.request();
    worker.reply(&address, &body[0]);
    assert_eq!(client.receive(), [&b"MDPC01"[..], b"late", b"x"]);
    // A client of ours asks the same service, and so does a plain worker's client the default one.
    native.send_native(&RequestMeta { service: Some("late".into()), ..RequestMeta::default() }, b"n");
    let (address, body) = worker.request();
    worker.reply(&address, &body[0]);
    assert_eq!(native.receive_native().1, [b"n"]);
}

#[test]
fn what_waits_in_vain_is_told_so() {
    let broker = Serve::bare(0).options(["--queue-timeout", "300ms"]).start();
    let client = Client::req(broker.frontend());
    ask(&client, "never", b"x");
    let [header, service, error] = client.receive().try_into().unwrap();
    assert_eq!((&header[..], &service[..]), (&b"MDPC01"[..], &b"never"[..]));
    assert!(error.starts_with(b"ERR expired "), "{}", String::from_utf8_lossy(&error));
    broker.wait_until("nothing is left of it", |report| report.services.len() == 1);
    // A name that no service can have, and a message without one.
    ask(&client, "no such name", b"x");
    assert!(client.receive()[2].starts_with(b"ERR no_service "));
    client.send(&[b"MDPC01"]);
    assert!(client.receive()[2].starts_with(b"ERR malformed "));
    let closed = Serve::bare(1).options(["--no-external"]).start();
    let refused = Client::req(closed.frontend());
    ask(&refused, "never", b"x");
    assert!(refused.receive()[2].starts_with(b"ERR no_service "), "nobody may bring it");
    // Nobody fills the broker with services that he only asks for.
    let greedy = Client::dealer(broker.frontend());
    for number in 0..100 {
        greedy.send(&[b"", b"MDPC01", format!("wanted-{number}").as_bytes(), b"x"]);
    }
    let answers: Vec<Frames> = (0..100).map(|_| greedy.receive()).collect();
    let refused = answers.iter().filter(|answer| answer[3].starts_with(b"ERR no_service ")).count();
    assert_eq!(refused, 100 - 64, "64 names may be waited for at once");
}

#[test]
fn the_broker_answers_for_itself() {
    let broker = Serve::bare(1).start();
    let worker = Worker::ready(broker.backend(), "echo");
    broker.wait_until("both are there", |report| report.pool.ready == 2);
    let client = Client::req(broker.frontend());
    let mmi = |service: &str, body: &[u8]| {
        ask(&client, service, body);
        let [_, named, answer] = client.receive().try_into().unwrap();
        assert_eq!(named, service.as_bytes());
        String::from_utf8(answer).unwrap()
    };
    assert_eq!(mmi("mmi.service", b"echo"), "200");
    assert_eq!(mmi("mmi.service", b"default"), "200");
    assert_eq!(mmi("mmi.service", b"nobody"), "404");
    assert_eq!(mmi("mmi.sink", b"the ship"), "501");
    assert_eq!(mmi("mmi.services", b""), r#"["default","echo"]"#);
    assert_eq!(mmi("mmi.status", b"echo"), r#"{"service":"echo","idle":1,"busy":0,"waiting":0}"#);
    assert_eq!(mmi("mmi.status", b"nobody"), "404");
    worker.say(&[&[5]]);
    eventually("its service has nobody", || mmi("mmi.service", b"echo") == "404");
    assert_eq!(broker.status().requests.received, 0, "these are no requests");
    assert_eq!(services(&broker).first().map(String::as_str), Some("default"));
}

#[test]
fn all_kinds_of_peers_meet() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend(), "default");
    // A plain client, and one of Majordomo, with a worker of Majordomo.
    let plain = broker.client();
    plain.send(&[b"x"]);
    let (address, body) = worker.request();
    worker.reply(&address, &body[0]);
    assert_eq!(plain.receive(), [b"x"]);
    worker.say(&[&[5]]);
    // One of Majordomo with a plain worker.
    let child = PlainWorker::connect_anonymous(broker.backend());
    child.say("waiting");
    let client = Client::req(broker.frontend());
    ask(&client, "default", b"y");
    let (address, body) = child.receive();
    child.reply(&address, &body);
    assert_eq!(client.receive(), [&b"MDPC01"[..], b"default", b"y"]);
}

#[test]
fn parts_of_0_2_come_to_every_client() {
    let broker = Serve::bare(0).start();
    let worker = Client::dealer(broker.backend());
    worker.send(&[b"MDPW02", &[1], b"default"]);
    let give = |number: u8, address: &[u8], body: &[u8]| {
        worker.send(&[b"MDPW02", &[number], address, b"", body]);
    };
    let plain = broker.client();
    plain.send(&[b"x"]);
    let address = address_of_a_job(&worker);
    give(3, &address, b"a");
    give(3, &address, b"b");
    give(4, &address, b"c");
    assert_eq!(plain.receive(), [b"a", b"b", b"c"], "all of it in one");
}

#[test]
fn a_router_that_is_restarted_hears_of_its_workers_again() {
    let broker = Serve::bare(0).start();
    let worker = Worker::ready(broker.backend(), "echo");
    broker.wait_until("it is known", |report| report.external.len() == 1);
    send(broker.router_pid(), Signal::SIGKILL);
    // Its connection comes back by itself, and its next heartbeat over it is out of order.
    eventually("it is told to begin anew", || {
        worker.say(&[&[4]]);
        let told = worker.0.receive_within(Duration::from_millis(200));
        told.is_some_and(|frames| frames == [&b""[..], b"MDPW01", &[5]])
    });
}

/// Asks these bodies, by a program that has none of our code.
fn ask_from_python(version: &str, broker: &Broker, service: &str, bodies: &[&str]) -> String {
    let path = script("majordomo_client.py");
    let arguments = [&[path.to_str().unwrap(), version, broker.frontend(), service], bodies].concat();
    let ended = Process::run(python(), &arguments);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn a_worker_and_a_client_written_from_rfc_7_work_with_it() {
    let broker = Serve::bare(0).start();
    let path = script("majordomo_worker.py");
    let _worker = Process::start(python(), &[path.to_str().unwrap(), broker.backend(), "echo"]);
    assert_eq!(ask_from_python("0.1", &broker, "echo", &["one", "two", "three"]), "ONE\nTWO\nTHREE\n");
    assert_eq!(ask_from_python("0.2", &broker, "echo", &["four"]), "FOUR\n");
}

#[test]
fn a_worker_of_our_own_may_be_one_of_majordomo() {
    let worker = [python().into_os_string(), script("majordomo_worker.py").into()];
    let broker = Serve::bare(2).program(worker).start();
    let client = broker.client();
    for number in 0..20 {
        assert_eq!(client.ask_text(&format!("number {number}")), format!("NUMBER {number}"));
    }
    // It beats, so it stays: 2.5 s apart, and three may be missing.
    let before = broker.workers();
    assert!(broker.ask("sleep 8200") == "SLEPT", "busy for longer than that, and alive");
    assert_eq!(broker.ask("x"), "X");
    assert_eq!(broker.workers(), before);
}

#[test]
fn majortomos_worker_works_with_it_in_one_reply_and_in_parts() {
    let broker = Serve::bare(0).start();
    let path = script("majortomo_worker.py");
    let arguments = [path.to_str().unwrap(), broker.backend(), "shout"];
    let _worker = Process::start(python_with_majortomo(), &arguments);
    assert_eq!(ask_from_python("0.1", &broker, "shout", &["hello", "count"]), "HELLO\n1 2 3 done\n");
    assert_eq!(ask_from_python("0.2", &broker, "shout", &["hello", "count"]), "HELLO\n1 2 3 done\n");
}
