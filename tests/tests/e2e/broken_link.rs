//! A worker or a client on another machine, and the link to it.

use hornpipe_tests::harness::{LinkBreaks, LossyLink};

#[test]
fn a_request_behind_a_broken_link_is_soon_elsewhere_and_what_comes_late_reaches_nobody() {
    let Some(breaks) = LinkBreaks::play(1) else { return };
    assert_eq!(breaks.doubled, 0, "{breaks:?}");
}

#[test]
fn a_client_behind_a_link_that_loses_a_third_and_breaks_gets_each_reply_once() {
    let Some(link) = LossyLink::with_clients_behind(8) else { return };
    assert_eq!((link.right, link.bad), (link.asked, 0), "{link:?}");
}

#[test]
fn workers_behind_a_link_that_loses_a_third_answer_each_request_once() {
    let Some(link) = LossyLink::with_workers_behind(40) else { return };
    assert_eq!((link.right, link.bad), (link.asked, 0), "{link:?}");
}
