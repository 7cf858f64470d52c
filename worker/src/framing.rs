//! How messages are told apart on the pipes of a program of `lines`: what is written for a
//! body, and what is read as one. Bytes in, bytes out; the pipes are the caller's.

use std::ops::Range;

use crate::Failure;

/// How a question and its answer begin and end on the pipes of a program of [`crate::lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// A message ends with a line break, which is not a part of it. A body with one is refused.
    #[default]
    Line,
    /// A message has its length in front: four bytes, the highest first. Any body can be sent.
    Length,
    /// A netstring, as D. J. Bernstein's text of 1997 has it: the length in decimal digits, a
    /// colon, the message, a comma. Any body can be sent.
    Netstring,
}

/// The most that any framing adds to a message: the digits of a 64-bit length, a colon and a comma.
pub(crate) const OVERHEAD: usize = 22;

/// What an answer can have wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadAnswer {
    /// It is, or is about to be, longer than is allowed.
    TooLong,
    /// It is not framed as was agreed: what is wrong with it.
    Unreadable(&'static str),
}

/// Where an answer lies among the bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body, without what frames it.
    pub body: Range<usize>,
    /// What comes behind it begins here.
    pub end: usize,
}

impl std::fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is longer than is allowed"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BadAnswer {}

impl Framing {
    /// What a program reads for this body.
    ///
    /// # Errors
    /// What its client is told: the body does not fit into this framing.
    pub fn wrap(self, mut body: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Line if body.contains(&b'\n') => {
                Err(Failure::new("the body has a line break, and the program reads lines"))
            }
            Self::Line => {
                body.push(b'\n');
                Ok(body)
            }
            Self::Length => {
                let length = u32::try_from(body.len());
                let length =
                    length.map_err(|_error| Failure::new("a body of 4 GiB does not fit into its frame"))?;
                body.splice(..0, length.to_be_bytes());
                Ok(body)
            }
            Self::Netstring => {
                let head = format!("{}:", body.len());
                body.splice(..0, head.into_bytes());
                body.push(b',');
                Ok(body)
            }
        }
    }

    /// The first answer in `input`; `None` if it is not all there yet.
    ///
    /// No more than `searched` bytes of it were looked at before, and found to be no whole one.
    ///
    /// # Errors
    /// It never will be one, or has more than `limit` bytes.
    pub fn find(self, input: &[u8], searched: usize, limit: usize) -> Result<Option<Answer>, BadAnswer> {
        match self {
            Self::Line => find_line(input, searched, limit),
            Self::Length => find_length(input, limit),
            Self::Netstring => find_netstring(input, limit),
        }
    }
}

fn find_line(input: &[u8], searched: usize, limit: usize) -> Result<Option<Answer>, BadAnswer> {
    let fresh = input.get(searched..).unwrap_or_default();
    let length = fresh.iter().position(|byte| *byte == b'\n').map(|position| searched + position);
    match length {
        Some(length) if length <= limit => Ok(Some(Answer { body: 0..length, end: length + 1 })),
        None if input.len() <= limit => Ok(None),
        Some(_) | None => Err(BadAnswer::TooLong),
    }
}

fn find_length(input: &[u8], limit: usize) -> Result<Option<Answer>, BadAnswer> {
    let Some((head, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
    if limit < length {
        return Err(BadAnswer::TooLong);
    }
    let end = head.len() + length;
    Ok((length <= rest.len()).then_some(Answer { body: head.len()..end, end }))
}

fn find_netstring(input: &[u8], limit: usize) -> Result<Option<Answer>, BadAnswer> {
    let digits = input.iter().take_while(|byte| byte.is_ascii_digit());
    let mut count = 0_usize;
    let mut length = 0_usize;
    for digit in digits {
        // "012" is no length, and neither is one that no number can hold.
        if count == 1 && length == 0 {
            return Err(BadAnswer::Unreadable("the length of a netstring begins with 0"));
        }
        count += 1;
        length = length.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        if limit < length {
            return Err(BadAnswer::TooLong);
        }
    }
    match (count, input.get(count)) {
        (0, Some(_)) => Err(BadAnswer::Unreadable("a netstring begins with its length in digits")),
        (_, None) => Ok(None),
        (_, Some(b':')) => {
            let body = count + 1..length.saturating_add(count + 1);
            let end = body.end.saturating_add(1);
            match input.get(body.end) {
                None => Ok(None),
                Some(b',') => Ok(Some(Answer { body, end })),
                Some(_) => Err(BadAnswer::Unreadable("no comma behind a netstring")),
            }
        }
        (_, Some(_)) => Err(BadAnswer::Unreadable("no colon behind the length of a netstring")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Framing; 3] = [Framing::Line, Framing::Length, Framing::Netstring];

    fn find(framing: Framing, input: &[u8]) -> Result<Option<Answer>, BadAnswer> {
        framing.find(input, 0, 12)
    }

    #[test]
    fn what_is_written_is_read_again_wherever_it_is_cut() {
        for framing in ALL {
            for body in [&b""[..], b"hello", b"\0\xff:,\r", b"twelve bytes"] {
                let wrapped = framing.wrap(body.to_vec()).unwrap();
                assert!(wrapped.len() <= body.len() + OVERHEAD);
                for cut in 0..wrapped.len() {
                    assert_eq!(find(framing, &wrapped[..cut]), Ok(None), "{framing:?} {body:?} {cut}");
                }
                let answer = find(framing, &[&wrapped, &b"rest"[..]].concat()).unwrap().unwrap();
                assert_eq!((&wrapped[answer.body], answer.end), (body, wrapped.len()), "{framing:?}");
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_descriptions() {
        assert_eq!(Framing::Line.wrap(b"hello".to_vec()).unwrap(), b"hello\n");
        assert_eq!(Framing::Length.wrap(b"hello".to_vec()).unwrap(), b"\0\0\0\x05hello");
        // The two examples of the text itself.
        assert_eq!(Framing::Netstring.wrap(b"hello world!".to_vec()).unwrap(), b"12:hello world!,");
        assert_eq!(Framing::Netstring.wrap(Vec::new()).unwrap(), b"0:,");
    }

    #[test]
    fn a_line_break_is_refused_where_it_would_end_the_message_alone() {
        let refused = ALL.map(|framing| framing.wrap(b"a\nb".to_vec()).is_err());
        assert_eq!(refused, [true, false, false]);
    }

    #[test]
    fn what_is_too_long_is_known_before_it_is_there() {
        assert_eq!(find(Framing::Line, b"thirteen byte"), Err(BadAnswer::TooLong));
        assert_eq!(find(Framing::Line, b"thirteen byte\n"), Err(BadAnswer::TooLong));
        assert_eq!(find(Framing::Length, b"\0\0\0\x0d"), Err(BadAnswer::TooLong));
        assert_eq!(find(Framing::Length, b"\xff\xff\xff\xff"), Err(BadAnswer::TooLong));
        assert_eq!(find(Framing::Netstring, b"13"), Err(BadAnswer::TooLong));
        assert_eq!(find(Framing::Netstring, b"99999999999999999999999999"), Err(BadAnswer::TooLong));
    }

    #[test]
    fn what_is_no_netstring_is_told_at_its_first_wrong_byte() {
        for wrong in
            [&b":"[..], b"hello", b" 5:hello,", b"-1:", b"05", b"00:,", b"5;", b"5 ", b"5:hello;", b"1:ab"]
        {
            assert!(matches!(find(Framing::Netstring, wrong), Err(BadAnswer::Unreadable(_))), "{wrong:?}");
        }
    }
}
