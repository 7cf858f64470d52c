//! The broker's name for one assignment of one request to one worker.

use std::cmp::Ordering;
use std::fmt;

const LENGTH: usize = 24;
const BITS_PER_DIGIT: u32 = 5;
const SECRET_BITS: u32 = 95;

/// Crockford's base 32: no letter that reads like a digit, nothing a C string stumbles over.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Whether a byte is one of them: each reply is looked at.
const IS_DIGIT: [bool; 256] = {
    let mut table = [false; 256];
    let mut digits: &[u8] = DIGITS;
    while let [digit, rest @ ..] = digits {
        if let Some(known) = table.as_mut_slice().split_at_mut(*digit as usize).1.first_mut() {
            *known = true;
        }
        digits = rest;
    }
    table
};

/// The address frame of a job, which the worker echoes in its reply.
///
/// 24 printable bytes: five digits of the router's epoch, then 95 random bits.
/// Workers treat it as opaque, as Guide and Net::Server workers treat the
/// client address in the same place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; LENGTH]);

impl Ord for Token {
    /// As text, in three steps instead of a call: the broker finds its requests by it.
    fn cmp(&self, other: &Self) -> Ordering {
        self.words().cmp(&other.words())
    }
}

impl PartialOrd for Token {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Token {
    fn words(&self) -> [u64; 3] {
        let mut words = [0; 3];
        let (chunks, _none) = self.0.as_chunks();
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_be_bytes(*chunk);
        }
        words
    }

    /// The token of router life `epoch` (its low 25 bits) with 95 bits of `secret`.
    #[must_use]
    pub fn new(epoch: u32, secret: u128) -> Self {
        let mut number = (u128::from(epoch) << SECRET_BITS) | (secret & ((1 << SECRET_BITS) - 1));
        let mut bytes = [b'0'; LENGTH];
        for byte in bytes.iter_mut().rev() {
            let digit = usize::try_from(number & 0x1f).unwrap_or_default();
            *byte = DIGITS.get(digit).copied().unwrap_or(b'0');
            number >>= BITS_PER_DIGIT;
        }
        Self(bytes)
    }

    /// The token in a frame, or `None` if no broker of this protocol wrote it.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let bytes: [u8; LENGTH] = frame.try_into().ok()?;
        bytes.iter().all(|byte| IS_DIGIT.get(usize::from(*byte)) == Some(&true)).then_some(Self(bytes))
    }

    /// The frame.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The frame as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every byte is a digit of the alphabet, so this never takes the default.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_carries_its_epoch_and_survives_the_wire() {
        let token = Token::new(1, 0);
        assert_eq!(token.as_str(), "000010000000000000000000");
        assert_eq!(Token::new(0x1ff_ffff, u128::MAX).as_str(), "Z".repeat(24));
        assert_ne!(Token::new(1, 7), Token::new(2, 7));
        assert_eq!(Token::parse(token.as_bytes()), Some(token));
    }

    #[test]
    fn tokens_stand_in_the_order_of_their_text() {
        let mut tokens: Vec<Token> =
            (0..1000).map(|n: u32| Token::new(n % 7, u128::from(n) << (n % 90))).collect();
        tokens.sort();
        assert!(tokens.is_sorted_by_key(|token| token.as_str().to_owned()));
    }

    #[test]
    fn what_no_broker_wrote_is_no_token() {
        for frame in [&b""[..], b"waiting", b"0000100000000000000000o0", &[0; 24], &[b'0'; 25]] {
            assert_eq!(Token::parse(frame), None, "{frame:?}");
        }
    }
}
