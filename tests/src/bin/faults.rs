//! Faults of clients, routers and links that take longer than a test suite may, with their figures.
//!
//! `cargo run --release -p hornpipe-tests --bin faults -- MODE`; the modes are in [`USAGE`], and
//! docs/TESTS.md says what each proves. Build the binary with the same profile first.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its reader sits at a terminal")]

use std::process::ExitCode;
use std::time::Duration;

use hornpipe_tests::harness::{
    Broker, Crowd, LinkBreaks, LossyLink, RouterKills, SlowClient, Vanished, in_words, rank,
};

const USAGE: &str = "\
usage: faults killed-routers ROUNDS   how soon after the death of a router a request is answered
       faults crowd CLIENTS           whether so many connected clients are served, and what each costs
       faults vanishing CLIENTS       what clients leave behind that vanish after their request
       faults slow-client ROUNDS      what a client that does not read costs the others
       faults broken-link ROUNDS      how soon a request is elsewhere when its worker's link breaks
       faults lossy-link REQUESTS     whether replies are lost over a link that loses 30 of 100 packets";

/// How soon after the death of a router a request must be answered, 99 times of 100.
const ANSWERED_LIMIT: Duration = Duration::from_millis(500);

/// What one idle client may cost.
const CLIENT_LIMIT: u64 = 32 << 10;

/// In how many rounds clients vanish, after one that is not measured.
const VANISHING_ROUNDS: u32 = 10;

/// What all clients of a round may leave behind, however many.
const VANISHED_LIMIT: i64 = 256 << 10;

/// How long one round with a slow client takes, and one without.
const SLOW_TIME: Duration = Duration::from_secs(10);

/// Its budget (64 MiB), libzmq's share of its line, and one reply on its way in and out.
const SLOW_LIMIT: u64 = (64 + 16 + 16) << 20;

/// How soon the request of a worker behind a broken link must be elsewhere.
const REDISPATCH_LIMIT: Duration = Duration::from_millis(3500);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).and_then(|word| word.parse::<u32>().ok()).filter(|number| *number > 0);
    let passed = match (words.first().map(String::as_str), number) {
        (Some("killed-routers"), Some(rounds)) => killed_routers(rounds),
        (Some("crowd"), Some(clients)) => crowd(clients),
        (Some("vanishing"), Some(clients)) => vanishing(clients),
        (Some("slow-client"), Some(rounds)) => slow_client(rounds),
        (Some("broken-link"), Some(rounds)) => broken_link(rounds),
        (Some("lossy-link"), Some(requests)) => lossy_link(requests),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn killed_routers(rounds: u32) -> bool {
    let broker = Broker::demo(4);
    let kills = RouterKills::play(&broker, rounds as usize);
    println!("from the kill of a router until a request that is sent after it is answered");
    println!("  a REQ client that asks again after 20 ms: {}", in_words(&kills.plain));
    println!("  our own client: {}", in_words(&kills.own));
    [kills.plain, kills.own].iter().all(|times| rank(times, 99).is_some_and(|most| most <= ANSWERED_LIMIT))
}

fn crowd(clients: u32) -> bool {
    let broker = Broker::demo(4);
    let crowd = Crowd::gather(&broker, clients as usize);
    println!("{} of {clients} REQ clients have their reply, after {:.1?}", crowd.right, crowd.took);
    println!("the router has grown by {} bytes for each", crowd.bytes_each);
    let passed = crowd.right == clients as usize && crowd.bytes_each <= CLIENT_LIMIT;
    crowd.leave();
    broker.check_counters();
    passed && broker.ask("echo still there") == "still there"
}

fn vanishing(clients: u32) -> bool {
    let vanished = Vanished::play(VANISHING_ROUNDS, clients / VANISHING_ROUNDS);
    let Vanished { report, grown, descriptors } = &vanished;
    let requests = &report.requests;
    println!(
        "{} requests arrived of {clients} clients that vanished, and of a tenth more",
        requests.received
    );
    println!("{} were answered to nobody, {} dropped before", requests.answered, requests.dropped);
    let kib: Vec<i64> = grown.iter().map(|bytes| bytes / 1024).collect();
    println!("in each round the router has grown by {kib:?} KiB; what is left of all is in each of them");
    println!("descriptors: {}, then {}", descriptors.0, descriptors.1);
    vanished.left_behind() <= VANISHED_LIMIT
}

fn slow_client(rounds: u32) -> bool {
    let broker = Broker::demo(4);
    let SlowClient { reading, silent, grown, dropped } = SlowClient::play(&broker, rounds, SLOW_TIME);
    println!("what others wait beside a client that asks for 20 MiB a second");
    println!("  and reads: {}", in_words(&reading));
    println!("  and does not: {}", in_words(&silent));
    println!("{dropped} of its replies were dropped; the router has grown by {} MiB at most", grown >> 20);
    let no_slower = match (rank(&reading, 99), rank(&silent, 99)) {
        (Some(reading), Some(silent)) => silent <= reading.mul_f64(1.2),
        _ => false,
    };
    no_slower && dropped > 0 && grown <= SLOW_LIMIT
}

fn broken_link(rounds: u32) -> bool {
    let Some(breaks) = LinkBreaks::play(rounds) else { return true };
    println!(
        "from the break of a link until its worker's request is with another: {}",
        in_words(&breaks.elsewhere)
    );
    println!("from its mending until that worker serves again: {}", in_words(&breaks.back));
    println!("{} late replies came, {} answers came twice", breaks.late, breaks.doubled);
    breaks.elsewhere.iter().all(|time| *time <= REDISPATCH_LIMIT) && breaks.doubled == 0
}

fn lossy_link(requests: u32) -> bool {
    let requests = requests.into();
    let (Some(clients), Some(workers)) =
        (LossyLink::with_clients_behind(requests), LossyLink::with_workers_behind(requests))
    else {
        return true;
    };
    println!("a link that loses 30 of 100 packets each way");
    println!("  clients behind it, and once it breaks for 4 s: {}", link_in_words(&clients));
    println!("  workers behind it: {}", link_in_words(&workers));
    [clients, workers].iter().all(|link| link.right == link.asked && link.bad == 0)
}

fn link_in_words(link: &LossyLink) -> String {
    format!(
        "{} of {} answered, {} lost, wrong or doubled, in {:.1?}",
        link.right, link.asked, link.bad, link.took
    )
}
