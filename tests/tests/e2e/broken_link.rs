//! A worker on another machine, and the link to it.

use hornpipe_tests::harness::LinkBreaks;

#[test]
fn a_request_behind_a_broken_link_is_soon_elsewhere_and_what_comes_late_reaches_nobody() {
    let Some(breaks) = LinkBreaks::play(1) else { return };
    assert_eq!(breaks.doubled, 0, "{breaks:?}");
}
