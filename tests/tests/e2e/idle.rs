//! A broker with nothing to do costs next to nothing.

use std::time::Duration;

use hornpipe_tests::harness::{Broker, cpu_time, let_pass};

#[test]
fn an_idle_broker_with_four_workers_uses_hardly_any_processor_time() {
    let broker = Broker::demo(4);
    let members = broker.session().members();
    assert_eq!(members.len(), 6, "{}", broker.session().describe());
    let used = || members.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    let time = Duration::from_secs(5);
    let_pass(time);
    // The promise is a hundredth of one core; a crowded machine gets a tenth.
    let used = used().saturating_sub(before);
    assert!(used < time / 10, "{used:?} in {time:?}");
}
