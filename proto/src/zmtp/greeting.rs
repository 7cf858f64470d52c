//! The first 64 bytes in each direction: signature, version, mechanism.

use super::ZmtpError;

/// How long it is.
pub(super) const GREETING_LEN: usize = 64;

const MECHANISM_LEN: usize = 20;
const NULL: &[u8] = b"NULL";

/// Ours: version 3.1, mechanism NULL.
///
/// The signature ends in an odd byte, which was the flags of a frame before version 2;
/// the byte before it is 1 as every ZeroMQ library has it.
pub(super) fn encode() -> [u8; GREETING_LEN] {
    let mut greeting = [0; GREETING_LEN];
    let head = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    for (place, byte) in greeting.iter_mut().zip(head.iter().chain(NULL)) {
        *place = *byte;
    }
    greeting
}

/// Reads what has come of the peer's: true if it is complete.
///
/// Peers that speak older versions send less and then wait, so what is there is judged at once.
pub(super) fn check(bytes: &[u8]) -> Result<bool, ZmtpError> {
    if bytes.first().is_some_and(|byte| *byte != 0xff) || bytes.get(9).is_some_and(|byte| byte & 1 == 0) {
        return Err(ZmtpError::NotZmtp);
    }
    if let Some(major) = bytes.get(10).filter(|major| **major < 3) {
        return Err(ZmtpError::Version { major: *major });
    }
    let Some(mechanism) = bytes.get(12..12 + MECHANISM_LEN) else { return Ok(false) };
    let name = mechanism.split(|byte| *byte == 0).next().unwrap_or_default();
    if name != NULL || mechanism.get(NULL.len()..).is_none_or(|rest| rest.iter().any(|byte| *byte != 0)) {
        return Err(ZmtpError::Mechanism { name: String::from_utf8_lossy(name).into_owned() });
    }
    Ok(GREETING_LEN <= bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_judged_as_far_as_it_has_come() {
        let greeting = encode();
        for end in 0..GREETING_LEN {
            assert_eq!(check(&greeting[..end]), Ok(false), "{end}");
        }
        assert_eq!(check(&greeting), Ok(true));
        assert_eq!(check(b"GET / HTTP/1.1"), Err(ZmtpError::NotZmtp));
        assert_eq!(check(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01"), Err(ZmtpError::Version { major: 1 }));
        let mut curve = greeting;
        curve[12..17].copy_from_slice(b"CURVE");
        assert_eq!(check(&curve), Err(ZmtpError::Mechanism { name: "CURVE".into() }));
    }
}
