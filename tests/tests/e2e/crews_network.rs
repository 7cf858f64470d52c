//! A crew on another machine, and a network between that breaks without a word.

use hornpipe_tests::harness::{Broker, Network, Process, Serve, eventually, hornpipe, network};

/// Asks from the broker's own machine.
fn ask(network: &Network, broker: &Broker, body: &str) -> Process {
    let (binary, port) = (hornpipe(), broker.frontend_port().to_string());
    let mut words = network.on_first().to_vec();
    words.extend([binary.to_str().unwrap(), "req", &port, body]);
    Process::start(words[0], &words[1..])
}

fn heard(mut asked: Process) -> String {
    let ended = asked.wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

#[test]
fn a_link_that_breaks_is_noticed_and_work_is_done_elsewhere_until_it_is_whole() {
    let Some(network) = Network::new() else { return };
    let backend = format!("{}:0", network::FIRST);
    let broker =
        Serve::demo(1).ports("0", &backend).options(["--insecure"]).under(network.on_first()).start();
    let crew = Serve::crew(1, [broker.backend()]).options(["--insecure"]).under(network.on_second()).start();
    eventually("it says so", || crew.screen().contains("neither encrypted nor authenticated"));
    broker.wait_until("the crew is known", |report| report.external.len() == 1);
    let worker = crew.workers();
    // One is with the broker's own worker, the other one on the other machine.
    let both = ["sleep 2000", "sleep 2001"].map(|body| ask(&network, &broker, body));
    crew.wait_for_in_flight(1);
    network.cut();
    broker.wait_until("it knows", |report| report.external.is_empty());
    crew.wait_until("the crew knows", |report| !report.brokers[0].connected);
    let [one, other] = both.map(heard);
    assert_eq!((one.as_str(), other.as_str()), ("slept 2000", "slept 2001"));
    assert_eq!(broker.status().requests.retried, 1);
    network.mend();
    broker.wait_until("the crew is back", |report| report.external.len() == 1);
    let both = ["sleep 1000", "sleep 1001"].map(|body| ask(&network, &broker, body));
    crew.wait_for_in_flight(1);
    let [one, other] = both.map(heard);
    assert_eq!((one.as_str(), other.as_str()), ("slept 1000", "slept 1001"));
    assert_eq!(crew.workers(), worker, "nobody had to die for that");
    broker.check_counters();
    drop(crew);
    drop(broker);
}
