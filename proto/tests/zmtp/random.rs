//! Random streams: whole, cut to pieces, and spoilt.

use hornpipe_proto::zmtp::{Connection, Event, Limits, SocketType, ZmtpError};

const LIMITS: Limits = Limits { frame_bytes: 50_000, message_bytes: 80_000, frames: 12 };

/// Steele, Lea and Flood's SplitMix64: enough for a test, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % (limit as u64)).unwrap()
    }

    fn message(&mut self) -> Vec<Vec<u8>> {
        let sizes = [0, 1, 5, 254, 255, 256, 257, 4095, 4096, 4097, 17_000, 40_000];
        let mut message = Vec::new();
        let mut left = LIMITS.message_bytes;
        for _ in 0..=self.below(5) {
            let size = sizes[self.below(sizes.len())];
            if let Some(fewer) = left.checked_sub(size as u64) {
                left = fewer;
                message.push(vec![u8::try_from(self.below(256)).unwrap(); size]);
            }
        }
        message
    }
}

fn seeds() -> u64 {
    std::env::var("HPTEST_SEEDS").map_or(300, |text| text.parse().unwrap())
}

fn written(connection: &mut Connection) -> Vec<u8> {
    let bytes: Vec<u8> = connection.unsent().flatten().copied().collect();
    connection.sent(bytes.len());
    bytes
}

/// Hands the bytes over in random pieces, and takes what comes of them.
fn feed(
    connection: &mut Connection,
    mut bytes: &[u8],
    dice: &mut Dice,
) -> (Vec<Event>, Result<(), ZmtpError>) {
    let mut events = Vec::new();
    let mut lent = Vec::with_capacity(1000);
    let largest = [1, 3, 100, 5000, 100_000][dice.below(5)];
    while !bytes.is_empty() {
        let lends = dice.below(2) == 0;
        if lends {
            connection.lend(&mut lent);
        }
        let buffer = connection.buffer();
        assert!(buffer.len() < buffer.capacity(), "an empty read would look like the end");
        // More than there is room for would only cost time.
        let count = bytes.len().min(1 + dice.below(largest));
        buffer.extend(&bytes[..count]);
        bytes = &bytes[count..];
        let result = connection.received();
        if lends {
            connection.give_back(&mut lent);
            assert!(lent.is_empty());
        }
        events.extend(std::iter::from_fn(|| connection.next_event()));
        if result.is_err() {
            return (events, result);
        }
    }
    (events, Ok(()))
}

/// A sender that is through its handshake, and all that it has sent for it.
fn sender(limits: Limits) -> (Connection, Vec<u8>) {
    let mut sender = Connection::new(SocketType::Dealer, limits);
    let mut peer = Connection::new(SocketType::Router, limits);
    let mut dice = Dice(0);
    let mut bytes = Vec::new();
    for _ in 0..2 {
        feed(&mut sender, &written(&mut peer), &mut dice).1.unwrap();
        let piece = written(&mut sender);
        feed(&mut peer, &piece, &mut dice).1.unwrap();
        bytes.extend(piece);
    }
    assert!(sender.is_open());
    (sender, bytes)
}

/// All that a peer of version 2 says before its messages, whose frames are those of version 3.
fn greeting_of_version_2(dice: &mut Dice) -> Vec<u8> {
    let size = [0, 1, 5, 255][dice.below(4)];
    let kind = [3, 5, 6][dice.below(3)];
    [b"\xff\0\0\0\0\0\0\0\x01\x7f\x01", &[kind, 0, size][..], &vec![b'i'; size.into()]].concat()
}

fn stream(dice: &mut Dice) -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let (mut sender, mut bytes) = sender(LIMITS);
    let is_old = dice.below(2) == 0;
    if is_old {
        bytes = greeting_of_version_2(dice);
    }
    let mut messages = Vec::new();
    for _ in 0..dice.below(6) {
        if !is_old && dice.below(4) == 0 {
            sender.ping(10, b"x");
        }
        let message = dice.message();
        if !message.is_empty() {
            sender.send(message.clone());
            messages.push(message);
        }
        bytes.extend(written(&mut sender));
    }
    (bytes, messages)
}

#[test]
fn in_whatever_pieces_it_comes_the_messages_are_the_same() {
    for seed in 0..seeds() {
        let mut dice = Dice(seed);
        let (bytes, messages) = stream(&mut dice);
        let mut receiver = Connection::new(SocketType::Router, LIMITS);
        let (events, result) = feed(&mut receiver, &bytes, &mut dice);
        assert_eq!(result, Ok(()), "seed {seed}");
        let Event::Ready(peer) = &events[0] else { panic!("seed {seed}: not ready") };
        if bytes[10] == 1 {
            assert_eq!(peer.identity, bytes[14..14 + usize::from(bytes[13])], "seed {seed}");
            let said = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x06\0\0";
            assert_eq!(written(&mut receiver), said, "seed {seed}");
        }
        let come: Vec<_> = events.into_iter().skip(1).collect();
        assert!(come == messages.into_iter().map(Event::Message).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn spoilt_bytes_lead_to_an_error_or_to_other_messages_within_the_limits() {
    let mut errors = 0;
    for seed in 0..seeds() {
        let mut dice = Dice(seed);
        let (mut bytes, _messages) = stream(&mut dice);
        for _ in 0..=dice.below(4) {
            // Mostly near the front, where there is more structure.
            let range = if dice.below(2) == 0 { bytes.len().min(200) } else { bytes.len() };
            let place = dice.below(range);
            match dice.below(3) {
                0 => bytes[place] = u8::try_from(dice.below(256)).unwrap(),
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, u8::try_from(dice.below(256)).unwrap()),
            }
        }
        let mut receiver = Connection::new(SocketType::Router, LIMITS);
        let (events, result) = feed(&mut receiver, &bytes, &mut dice);
        errors += u32::from(result.is_err());
        for event in events {
            if let Event::Message(frames) = event {
                assert!(!frames.is_empty() && frames.len() <= LIMITS.frames, "seed {seed}");
                let bytes: usize = frames.iter().map(Vec::len).sum();
                assert!(bytes as u64 <= LIMITS.message_bytes, "seed {seed}");
            }
        }
        assert!(result.is_ok() || !receiver.is_open(), "seed {seed}");
    }
    assert!(seeds() / 4 < u64::from(errors), "only {errors} streams were spoilt");
}

#[test]
fn rubbish_behind_a_handshake_is_no_better() {
    for seed in 0..seeds() {
        let mut dice = Dice(seed);
        let (_sender, mut bytes) = sender(LIMITS);
        match dice.below(4) {
            0 => (),
            1 => bytes.truncate(64),
            2 => bytes = greeting_of_version_2(&mut dice),
            _ => bytes = greeting_of_version_2(&mut dice)[..12].to_vec(),
        }
        bytes.extend((0..1000).map(|_| u8::try_from(dice.below(8)).unwrap()));
        let mut receiver = Connection::new(SocketType::Router, LIMITS);
        let (_events, result) = feed(&mut receiver, &bytes, &mut dice);
        // The reason for the peer is all that is kept.
        assert!(receiver.unsent_bytes() < 64 * 1024 + 1000, "seed {seed}: {result:?}");
    }
}

#[test]
fn a_peer_that_pings_and_does_not_read_is_answered_only_so_often() {
    let (mut pinging, bytes) = sender(LIMITS);
    let mut receiver = Connection::new(SocketType::Router, LIMITS);
    let mut dice = Dice(1);
    feed(&mut receiver, &bytes, &mut dice).1.unwrap();
    for _ in 0..20_000 {
        pinging.ping(0, b"0123456789abcdef");
        feed(&mut receiver, &written(&mut pinging), &mut dice).1.unwrap();
    }
    assert!(receiver.unsent_bytes() < 70 * 1024);
    // What it says of itself is heard all the same.
    pinging.ping(7, b"");
    feed(&mut receiver, &written(&mut pinging), &mut dice).1.unwrap();
    assert_eq!(receiver.silence_allowed(), Some(std::time::Duration::from_millis(700)));
}
