//! Captured frames, sent again by somebody else.

use hornpipe_proto::MAGIC;
use hornpipe_proto::client::RequestMeta;
use hornpipe_tests::harness::{Broker, Folder, Zmtp};

/// A native request, and the body of its reply.
fn replay(broker: &Broker, meta: &[u8], body: &[u8]) -> Vec<u8> {
    let mut peer = Zmtp::connect(broker.frontend_port(), "DEALER");
    peer.send(&[b"", MAGIC, meta, body]);
    let [_empty, _magic, _map, body] = [(); 4].map(|()| peer.read_frame());
    body
}

#[test]
fn captured_frames_with_a_key_bring_the_same_result_and_no_second_run_however_often_they_are_sent() {
    let folder = Folder::new();
    let tally = folder.path().join("tally");
    let broker = Broker::demo(2);
    let count = format!("count {}", tally.display());
    let meta =
        RequestMeta { id: "a".into(), key: Some("order-66".into()), ..RequestMeta::default() }.encode();
    for _time in 0..50 {
        assert_eq!(replay(&broker, &meta, count.as_bytes()), b"1");
    }
    assert_eq!(std::fs::read_to_string(&tally).unwrap().lines().count(), 1);
    // Without one, every message is a request.
    let meta = RequestMeta { id: "a".into(), ..RequestMeta::default() }.encode();
    assert_eq!(replay(&broker, &meta, count.as_bytes()), b"2");
    assert_eq!(replay(&broker, &meta, count.as_bytes()), b"3");
    broker.check_counters();
}
