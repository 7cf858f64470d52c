//! The first bytes in each direction: signature, version, and what else a version has before its frames.

use super::frame::Version;
use super::{SocketType, ZmtpError};

/// How long it is in version 3.
pub(super) const GREETING_LEN: usize = 64;

/// How long it is in version 2: signature, revision, kind of socket.
const GREETING_2_LEN: usize = 12;

/// A signature and a version, which tell which greeting the rest belongs to.
const OPENING_LEN: usize = 11;

const MECHANISM_LEN: usize = 20;
const NULL: &[u8] = b"NULL";

/// A peer's greeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Greeting {
    /// ZMTP 2.0, of this kind of socket.
    V2(SocketType),
    /// ZMTP 3.0 and what comes after it.
    V3,
}

impl Greeting {
    pub(super) const fn version(self) -> Version {
        match self {
            Self::V2(_socket) => Version::V2,
            Self::V3 => Version::V3,
        }
    }

    pub(super) const fn len(self) -> usize {
        match self {
            Self::V2(_socket) => GREETING_2_LEN,
            Self::V3 => GREETING_LEN,
        }
    }
}

/// What is said before anything is known of the peer.
///
/// A ROUTER serves peers of version 2 as well, and says no more than its signature and its version, as RFC 23
/// and RFC 37 have it. Peers of version 2 take the 3 as libzmq's has always been taken: for a version that can
/// speak theirs. All of it is what peers get that wait for a signature before they go on.
pub(super) fn opening(ours: SocketType) -> Vec<u8> {
    let mut greeting = encode().to_vec();
    if oldest(ours) == Version::V2 {
        greeting.truncate(OPENING_LEN);
    }
    greeting
}

/// What is to be said after [`opening`], once of the peer's greeting so much has come that its version is known.
///
/// Of version 2, that is our kind of socket, and an identity without bytes in a frame.
pub(super) fn rest(heard: &[u8], ours: SocketType) -> Option<Vec<u8>> {
    let revision = *heard.get(OPENING_LEN - 1).filter(|_revision| has_signature(heard))?;
    match (revision, oldest(ours)) {
        (0, _) => None,
        (1 | 2, Version::V2) => Some(vec![ours.number(), 0, 0]),
        (_, Version::V2) => encode().get(OPENING_LEN..).map(<[u8]>::to_vec),
        (_, Version::V3) => Some(Vec::new()),
    }
}

/// Reads what has come of the peer's: something if it is complete.
///
/// Peers that speak older versions send less and then wait, so what is there is judged at once.
pub(super) fn check(bytes: &[u8], ours: SocketType) -> Result<Option<Greeting>, ZmtpError> {
    if !has_signature(bytes) {
        return Err(ZmtpError::NotZmtp);
    }
    let (major, least) = match (bytes.get(OPENING_LEN - 1), oldest(ours)) {
        (None, _) => return Ok(None),
        // RFC 23: a 2 is of version 2 too.
        (Some(1 | 2), Version::V2) => return check_2(bytes, ours),
        (Some(0), Version::V2) => (1, 2),
        (Some(0), Version::V3) => (1, 3),
        (Some(1 | 2), Version::V3) => (2, 3),
        (Some(_later), _) => return check_3(bytes),
    };
    Err(ZmtpError::Version { major, least })
}

fn check_2(bytes: &[u8], ours: SocketType) -> Result<Option<Greeting>, ZmtpError> {
    let Some(number) = bytes.get(GREETING_2_LEN - 1) else { return Ok(None) };
    match SocketType::numbered(*number).filter(|theirs| ours.may_talk_to(*theirs)) {
        Some(theirs) => Ok(Some(Greeting::V2(theirs))),
        None => Err(ZmtpError::SocketType { ours, theirs: SocketType::name_of(*number) }),
    }
}

fn check_3(bytes: &[u8]) -> Result<Option<Greeting>, ZmtpError> {
    let Some(mechanism) = bytes.get(12..12 + MECHANISM_LEN) else { return Ok(None) };
    let name = mechanism.split(|byte| *byte == 0).next().unwrap_or_default();
    if name != NULL || mechanism.get(NULL.len()..).is_none_or(|rest| rest.iter().any(|byte| *byte != 0)) {
        return Err(ZmtpError::Mechanism { name: String::from_utf8_lossy(name).into_owned() });
    }
    Ok((GREETING_LEN <= bytes.len()).then_some(Greeting::V3))
}

/// The oldest version of peers: those of version 2 connect, and a ROUTER is what they connect to.
fn oldest(ours: SocketType) -> Version {
    if ours == SocketType::Router { Version::V2 } else { Version::V3 }
}

/// As far as it has come. What stands between the two bytes may be anything.
fn has_signature(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|byte| *byte == 0xff) && bytes.get(9).is_none_or(|byte| byte & 1 == 1)
}

/// Ours: version 3.1, mechanism NULL.
///
/// The signature ends in an odd byte, which was the flags of a frame before version 2;
/// the byte before it is 1 as every ZeroMQ library has it.
fn encode() -> [u8; GREETING_LEN] {
    let mut greeting = [0; GREETING_LEN];
    let head = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    for (place, byte) in greeting.iter_mut().zip(head.iter().chain(NULL)) {
        *place = *byte;
    }
    greeting
}

#[cfg(test)]
mod tests {
    use super::SocketType::{Dealer, Req, Router};
    use super::*;

    const SIGNATURE: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f";

    fn of(revision: &[u8]) -> Vec<u8> {
        [SIGNATURE, revision].concat()
    }

    #[test]
    fn a_greeting_is_judged_as_far_as_it_has_come() {
        let greeting = encode();
        for ours in [Dealer, Router] {
            for end in 0..GREETING_LEN {
                assert_eq!(check(&greeting[..end], ours), Ok(None), "{end}");
            }
            assert_eq!(check(&greeting, ours), Ok(Some(Greeting::V3)));
            assert_eq!(check(b"GET / HTTP/1.1", ours), Err(ZmtpError::NotZmtp));
            let mut curve = greeting;
            curve[12..17].copy_from_slice(b"CURVE");
            assert_eq!(check(&curve, ours), Err(ZmtpError::Mechanism { name: "CURVE".into() }));
        }
    }

    #[test]
    fn a_router_alone_takes_version_2_and_nobody_what_came_before() {
        assert_eq!(check(&of(&[1]), Router), Ok(None));
        assert_eq!(check(&of(&[1, 5]), Router), Ok(Some(Greeting::V2(Dealer))));
        assert_eq!(check(&of(&[2, 3, 0]), Router), Ok(Some(Greeting::V2(Req))));
        for (number, name) in [(1, "PUB"), (4, "REP"), (9, "9")] {
            let error = ZmtpError::SocketType { ours: Router, theirs: name.into() };
            assert_eq!(check(&of(&[1, number]), Router), Err(error));
        }
        assert_eq!(check(&of(&[1]), Dealer), Err(ZmtpError::Version { major: 2, least: 3 }));
        assert_eq!(check(&of(&[0]), Router), Err(ZmtpError::Version { major: 1, least: 2 }));
        // Version 1: the length of an identity, and the flags of its frame.
        assert_eq!(check(b"\x01\0", Router), Err(ZmtpError::NotZmtp));
        assert_eq!(check(b"\xff\0\0\0\0\0\0\x01\0\0", Router), Err(ZmtpError::NotZmtp));
    }

    #[test]
    fn what_a_router_says_next_depends_on_the_peers_version() {
        assert_eq!(opening(Dealer), encode());
        assert_eq!(opening(Router), encode()[..11]);
        for end in 0..OPENING_LEN {
            assert_eq!(rest(&encode()[..end], Router), None, "{end}");
        }
        assert_eq!(rest(&encode()[..11], Router), Some(encode()[11..].to_vec()));
        assert_eq!(rest(&of(&[4]), Router), Some(encode()[11..].to_vec()));
        assert_eq!(rest(&of(&[1]), Router), Some(vec![6, 0, 0]));
        assert_eq!(rest(&of(&[0]), Router), None);
        assert_eq!(rest(b"GET / HTTP/1.1", Router), None);
        assert_eq!(rest(&encode(), Dealer), Some(Vec::new()));
    }
}
