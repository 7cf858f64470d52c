//! Bodies arrive as they were sent: any number of frames, any bytes, up to the limit.

use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_tests::harness::{Client, Serve, refused};

const MIB: usize = 1024 * 1024;

#[test]
fn bodies_of_many_frames_travel_both_ways() {
    let broker = Serve::bare(2).start();
    let client = broker.client();
    let many: Vec<Vec<u8>> =
        (0..500_u16).map(|number| number.to_be_bytes().repeat(usize::from(number % 3))).collect();
    let bodies: [&[&[u8]]; 4] = [&[b"a", b"b"], &[b"a", b"", b"b", b""], &[b"", b""], &[b"", b"", b"x"]];
    for body in bodies {
        client.send(body);
        assert_eq!(client.receive(), body);
    }
    let frames: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    client.send(&frames);
    assert_eq!(client.receive(), frames);
}

#[test]
fn an_empty_body_is_a_body() {
    let broker = Serve::bare(1).start();
    assert_eq!(broker.client().ask(b""), b"");
    assert_eq!(broker.status().requests.answered, 1);
}

#[test]
fn every_byte_value_arrives() {
    let broker = Serve::bare(1).start();
    let bytes: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    assert_eq!(broker.client().ask(&bytes), bytes);
}

#[test]
fn sixty_four_mebibytes_arrive_and_one_byte_more_is_too_large() {
    let broker = Serve::bare(1).start();
    let client = broker.client();
    let body: Vec<u8> = (0..=250).cycle().take(64 * MIB).collect();
    assert!(client.ask(&body) == body, "64 MiB came back as something else");
    let larger = [&body[..], b"!"].concat();
    let answer = String::from_utf8(client.ask(&larger)).unwrap();
    assert!(answer.starts_with("ERR too_large "), "{answer}");
    assert!(client.ask(&body) == body, "64 MiB came back as something else");
    assert_eq!(refused(&broker.status(), Status::TooLarge), 1);
    broker.check_counters();
}

#[test]
fn all_frames_together_count_against_the_limit() {
    let broker = Serve::bare(1).options(["--max-body", "1MiB"]).start();
    let client = broker.client();
    let half = vec![7; MIB / 2];
    client.send(&[&half, &half]);
    assert_eq!(client.receive(), [&half[..], &half]);
    client.send(&[&half, &half, b"!"]);
    let answer = client.receive();
    assert!(answer.len() == 1 && answer[0].starts_with(b"ERR too_large "), "{} frames", answer.len());
}

#[test]
fn a_frame_of_more_than_twice_the_limit_costs_its_sender_the_connection_and_nobody_else() {
    let broker = Serve::bare(1).options(["--max-body", "1MiB"]).start();
    let life = broker.status().router_life;
    let giant = Client::req(broker.frontend());
    giant.send(&[&vec![0; 2 * MIB + 1024]]);
    let others = broker.client();
    for _ in 0..20 {
        assert_eq!(others.ask(b"small"), b"small");
    }
    assert!(giant.receive_within(Duration::from_millis(200)).is_none());
    assert_eq!(broker.status().router_life, life);
}

#[test]
fn waiting_bodies_are_held_only_up_to_the_limit_of_bytes() {
    let broker = Serve::demo(1).options(["--queue-bytes", "4MiB", "--max-body", "1MiB"]).start();
    let client = Client::dealer(broker.frontend());
    client.send(&[b"long", b"", b"sleep 1500"]);
    broker.wait_for_in_flight(1);
    let body = [b"echo ".to_vec(), vec![b'x'; MIB - 100]].concat();
    for number in 0..8_u8 {
        client.send(&[&[number], b"", &body]);
    }
    let mut busy = 0;
    let mut served = 0;
    for _ in 0..9 {
        let answer = client.receive().remove(2);
        if answer.starts_with(b"ERR busy ") {
            busy += 1;
        } else {
            served += 1;
        }
    }
    assert_eq!((busy, served), (4, 5), "four of a mebibyte fit, beside the one that runs");
    assert_eq!(broker.status().queue.held_bytes, 0);
}
