//! Bodies that say which request they belong to, and can be checked byte by byte.

use super::mix::Mix;

/// Bytes of a name on the wire: a 64-bit number in hexadecimal digits, since a
/// body may pass programs that read lines.
pub(super) const NAME_LEN: usize = 16;

const SLOT_BITS: u32 = 20;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const DIGITS: &[u8; 16] = b"0123456789abcdef";
const PATTERN: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

/// Spreads neighbouring names over all 64 bits: one changed digit must not
/// make another request's name. Odd, so that it can be undone by `UNSPREAD`.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const UNSPREAD: u64 = 0xf1de_83e1_9937_733d;

/// One request: the how-manieth of which slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) slot: usize,
    pub(super) turn: u64,
}

#[derive(Debug)]
pub(super) struct Payloads {
    nonce: u64,
    sizes: Mix<usize>,
    /// The tail of every body is a piece of this, begun at a place that its name gives.
    pattern: Vec<u8>,
}

impl Payloads {
    /// Bodies of such sizes. `nonce` tells this run from others.
    pub(super) fn new(sizes: Mix<usize>, nonce: u64) -> Self {
        let longest = sizes.kinds().max().copied().unwrap_or_default();
        let pattern = PATTERN.iter().copied().cycle().take(longest + PATTERN.len()).collect();
        Self { nonce, sizes, pattern }
    }

    /// A number as if at random, the same for the same request.
    pub(super) fn lot(&self, name: Name) -> u32 {
        let slot = u64::try_from(name.slot).unwrap_or(u64::MAX);
        let number = ((name.turn << SLOT_BITS | slot) ^ self.nonce).wrapping_mul(SPREAD);
        let number = (number ^ (number >> 29)).wrapping_mul(SPREAD);
        u32::try_from(number >> 32).unwrap_or_default()
    }

    pub(super) fn write(&self, name: Name, body: &mut Vec<u8>) {
        body.extend_from_slice(&self.write_name(name));
        body.extend_from_slice(self.tail(name));
    }

    pub(super) fn write_name(&self, name: Name) -> [u8; NAME_LEN] {
        let slot = u64::try_from(name.slot).unwrap_or(u64::MAX);
        let mut number = ((name.turn << SLOT_BITS | slot) ^ self.nonce).wrapping_mul(SPREAD);
        let mut digits = [0; NAME_LEN];
        for digit in digits.iter_mut().rev() {
            *digit = DIGITS.get(usize::try_from(number & 0xf).unwrap_or_default()).copied().unwrap_or(b'0');
            number >>= 4;
        }
        digits
    }

    /// The name at the front of a body or in a frame of its own.
    pub(super) fn read_name(&self, bytes: &[u8]) -> Option<Name> {
        let digits: &[u8; NAME_LEN] = bytes.first_chunk()?;
        let mut number: u64 = 0;
        for digit in digits {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            number = number << 4 | u64::from(value);
        }
        let number = number.wrapping_mul(UNSPREAD) ^ self.nonce;
        Some(Name { slot: usize::try_from(number & SLOT_MASK).ok()?, turn: number >> SLOT_BITS })
    }

    /// Whether `body` is the very one that was sent as `name`.
    pub(super) fn matches(&self, name: Name, body: &[u8]) -> bool {
        body.split_at_checked(NAME_LEN)
            .is_some_and(|(front, tail)| front == self.write_name(name) && tail == self.tail(name))
    }

    fn tail(&self, name: Name) -> &[u8] {
        let mixed = name.turn.wrapping_add(u64::try_from(name.slot).unwrap_or_default());
        let begin = usize::try_from(mixed % 64).unwrap_or_default();
        let size = self.sizes.pick(self.lot(name)).copied().unwrap_or_default();
        self.pattern.get(begin..begin + size.saturating_sub(NAME_LEN)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_request_and_no_changed_byte_passes() {
        let payloads = Payloads::new(Mix::of(40), 7);
        for name in [Name { slot: 0, turn: 1 }, Name { slot: (1 << 20) - 1, turn: (1 << 44) - 1 }] {
            let mut body = Vec::new();
            payloads.write(name, &mut body);
            assert_eq!(body.len(), 40);
            assert_eq!(payloads.read_name(&body), Some(name));
            assert!(payloads.matches(name, &body));
            for place in 0..body.len() {
                body[place] ^= 1;
                assert!(!payloads.matches(name, &body), "byte {place}");
                body[place] ^= 1;
            }
            assert!(!payloads.matches(name, &body[..39]));
        }
    }

    #[test]
    fn a_mix_of_sizes_comes_out_as_it_was_put_in() {
        let payloads = Payloads::new(Mix::weighted([(16, 9), (1000, 1)]).unwrap(), 7);
        let mut large = 0;
        for turn in 1..=10_000 {
            let name = Name { slot: 3, turn };
            let mut body = Vec::new();
            payloads.write(name, &mut body);
            assert!(payloads.matches(name, &body));
            large += u32::from(body.len() == 1000);
        }
        assert!((850..1150).contains(&large), "{large} of 10000");
    }

    #[test]
    fn a_changed_digit_names_no_near_request() {
        let payloads = Payloads::new(Mix::of(16), 7);
        let name = payloads.write_name(Name { slot: 3, turn: 1000 });
        for place in 0..NAME_LEN {
            let mut changed = name;
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let read = payloads.read_name(&changed).unwrap();
            assert!(read.slot > 100 || read.turn > 2000, "digit {place}: {read:?}");
        }
        assert_eq!(payloads.read_name(b"0123456789abcdeX"), None);
        assert_eq!(payloads.read_name(b"short"), None);
    }
}
