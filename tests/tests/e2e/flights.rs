//! Which request killed my worker? What a slot has had, on a screen and in the log.

use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{Broker, Client, Process, hornpipe};

fn slot(broker: &Broker, more: &[&str]) -> String {
    let (port, control) = (broker.frontend_port().to_string(), broker.control().display().to_string());
    let words: &[&str] = &["status", &port, "--control", &control, "--slot"];
    let arguments = [words, more].concat();
    let ended = Process::run(hornpipe(), &arguments);
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended.stdout
}

#[test]
fn a_slots_last_requests_are_on_one_screen() {
    let broker = Broker::demo(1);
    for _ in 0..70 {
        assert_eq!(broker.ask("echo x"), "x");
    }
    assert!(broker.ask("fail so").starts_with("ERR error "));
    assert!(broker.ask("exit 3").starts_with("ERR poison "));
    let screen = slot(&broker, &["0"]);
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    assert_eq!(screen.matches("answered").count(), 61, "64 in all:\n{screen}");
    assert_eq!(screen.matches("lost: exit code 3").count(), 2, "{screen}");
    assert_eq!(screen.matches(" error").count(), 1, "{screen}");
    let last = screen.lines().last().unwrap();
    assert!(last.contains("lost: exit code 3"), "the newest is last:\n{screen}");
    let json: serde_json::Value = serde_json::from_str(&slot(&broker, &["0", "--json"])).unwrap();
    assert_eq!(json["flights"].as_array().unwrap().len(), 64);
    assert_eq!(json["exits"][0]["reason"], "exit code 3");
}

#[test]
fn a_running_request_is_there_too_under_the_name_its_client_gave_it() {
    let broker = Broker::demo(1);
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "my-request".into(), ..RequestMeta::default() };
    client.send_native(&meta, b"sleep 60000");
    broker.wait_for_in_flight(1);
    let screen = slot(&broker, &["0"]);
    let line = screen.lines().last().unwrap();
    assert!(line.contains("my-request") && line.contains("running"), "{screen}");
}

#[test]
fn the_log_names_the_request_that_killed_its_worker() {
    let broker = Broker::demo(1);
    assert_eq!(broker.ask("echo before"), "before");
    let client = Client::dealer(broker.frontend());
    let meta = RequestMeta { id: "the-killer".into(), ..RequestMeta::default() };
    client.send_native(&meta, b"exit 3");
    client.receive_native();
    let log = broker.log();
    let died = log.lines().find(|line| line.contains("worker died")).expect("a death is told");
    assert!(died.contains("the-killer (6 B, for ") && died.contains(" answered after "), "{died}");
}
