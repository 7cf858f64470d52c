//! Majordomo 0.1 and 0.2, RFC 7 and RFC 18: clients, workers, and what both are told.
//!
//! ```text
//! 0.1  client -> broker   "" MDPC01 service body...           and back in the same shape
//!      worker -> broker   "" MDPW01 command ...               01 READY, 03 REPLY, 04 HEARTBEAT, 05 DISCONNECT
//!      broker -> worker   "" MDPW01 command ...               02 REQUEST, 04 HEARTBEAT, 05 DISCONNECT
//! 0.2  client -> broker   MDPC02 01 service body...           back: 02 PARTIAL or 03 FINAL in the place of 01
//!      worker -> broker   MDPW02 command ...                  01 READY, 03 PARTIAL, 04 FINAL, 05 HEARTBEAT, 06 DISCONNECT
//!      broker -> worker   MDPW02 command ...                  02 REQUEST, 05 HEARTBEAT, 06 DISCONNECT
//! ```
//!
//! After READY stands the service, after REQUEST and the replies a client's address and an
//! empty frame. RFC 18 has no empty frame in front. Programs exist that send one all the
//! same, and wait for one: each is answered in its own way.

use std::time::Duration;

use crate::Token;

/// Between two heartbeats, as the Guide's brokers and workers have it.
pub const INTERVAL: Duration = Duration::from_millis(2500);

/// What the names of services begin with that a broker answers itself, RFC 8.
pub const MMI_PREFIX: &str = "mmi.";

const CLIENT_1: &[u8] = b"MDPC01";
const CLIENT_2: &[u8] = b"MDPC02";
const WORKER_1: &[u8] = b"MDPW01";
const WORKER_2: &[u8] = b"MDPW02";

/// What a client of 0.2 sends, and the two that it gets.
const CLIENT_REQUEST: u8 = 1;
const CLIENT_PARTIAL: u8 = 2;
const CLIENT_FINAL: u8 = 3;

/// Which of the two, and how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edition {
    /// 0.1, an empty frame first.
    V1,
    /// 0.2, no empty frame first.
    V2,
    /// 0.2 behind an empty frame.
    V2Delimited,
}

/// The numbers of an edition's commands.
struct Numbers {
    ready: u8,
    request: u8,
    partial: Option<u8>,
    reply: u8,
    heartbeat: u8,
    disconnect: u8,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// It serves this from here on. Its first command, and only once.
    Ready {
        /// The service's name.
        service: String,
    },
    /// A part of a reply, or all of it.
    Reply {
        /// Of the job that it answers; `None` if no broker ever made it.
        token: Option<Token>,
        /// Whether this is a part that others follow.
        more: bool,
    },
    /// It lives.
    Heartbeat,
    /// It ends.
    Disconnect,
}

/// Why a message is no command, or no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MajordomoError {
    /// No command has this number.
    Command,
    /// It has too few frames, or not an empty one in its place.
    Shape,
    /// The service's name is no text, or none.
    Service,
    /// Names that begin with `mmi.` are the broker's.
    Reserved,
}

impl std::fmt::Display for MajordomoError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command => "no Majordomo command has this number",
            Self::Shape => "a Majordomo message has a service, and a request its body",
            Self::Service => "the name of a Majordomo service is text, and not empty",
            Self::Reserved => "services whose names begin with mmi. are the broker's own",
        })
    }
}

impl std::error::Error for MajordomoError {}

impl Edition {
    /// The edition of a worker's message, if it is one of Majordomo's.
    #[must_use]
    pub fn of_worker<F: AsRef<[u8]>>(frames: &[F]) -> Option<Self> {
        Self::of(frames, WORKER_1, WORKER_2)
    }

    /// The edition of a client's message, counted from its envelope's end or, where there is
    /// none, from its beginning: then only 0.2 is meant, whose clients send no empty frame.
    #[must_use]
    pub fn of_client<F: AsRef<[u8]>>(frames: &[F]) -> Option<Self> {
        Self::of(frames, CLIENT_1, CLIENT_2)
    }

    fn of<F: AsRef<[u8]>>(frames: &[F], first: &[u8], second: &[u8]) -> Option<Self> {
        match frames {
            [header, ..] if header.as_ref() == second => Some(Self::V2),
            [empty, header, ..] if empty.as_ref().is_empty() => match header.as_ref() {
                header if header == first => Some(Self::V1),
                header if header == second => Some(Self::V2Delimited),
                _ => None,
            },
            _ => None,
        }
    }

    const fn numbers(self) -> Numbers {
        match self {
            Self::V1 => {
                Numbers { ready: 1, request: 2, partial: None, reply: 3, heartbeat: 4, disconnect: 5 }
            }
            Self::V2 | Self::V2Delimited => {
                Numbers { ready: 1, request: 2, partial: Some(3), reply: 4, heartbeat: 5, disconnect: 6 }
            }
        }
    }

    /// The frames before the command.
    const fn preamble(self) -> &'static [&'static [u8]] {
        match self {
            Self::V1 => &[b"", WORKER_1],
            Self::V2 => &[WORKER_2],
            Self::V2Delimited => &[b"", WORKER_2],
        }
    }

    /// How many frames of a worker's reply stand before the body.
    #[must_use]
    pub const fn reply_head_len(self) -> usize {
        self.preamble().len() + 3
    }

    /// A worker's command.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn decode<F: AsRef<[u8]>>(self, frames: &[F]) -> Result<Command, MajordomoError> {
        let rest = frames.get(self.preamble().len()..).unwrap_or_default();
        let [command, rest @ ..] = rest else { return Err(MajordomoError::Shape) };
        let [number] = command.as_ref() else { return Err(MajordomoError::Command) };
        let numbers = self.numbers();
        match (*number, rest) {
            (number, [service]) if number == numbers.ready => {
                let service = read_service(service.as_ref())?;
                if service.starts_with(MMI_PREFIX) {
                    return Err(MajordomoError::Reserved);
                }
                Ok(Command::Ready { service })
            }
            (number, [address, empty, _, ..])
                if (number == numbers.reply || Some(number) == numbers.partial)
                    && empty.as_ref().is_empty() =>
            {
                let (token, more) = (Token::parse(address.as_ref()), Some(number) == numbers.partial);
                Ok(Command::Reply { token, more })
            }
            (number, []) if number == numbers.heartbeat => Ok(Command::Heartbeat),
            (number, []) if number == numbers.disconnect => Ok(Command::Disconnect),
            (number, _) if (1..=numbers.disconnect).contains(&number) => Err(MajordomoError::Shape),
            _ => Err(MajordomoError::Command),
        }
    }

    /// The frames before a job's body.
    #[must_use]
    pub fn job_head(self, token: &Token) -> Vec<&[u8]> {
        let mut head = self.command(self.numbers().request);
        head.extend([token.as_bytes(), b""]);
        head
    }

    /// The broker's sign of life.
    #[must_use]
    pub fn heartbeat(self) -> Vec<&'static [u8]> {
        self.command(self.numbers().heartbeat)
    }

    /// Nothing more comes over this connection: the worker opens another, and says READY.
    #[must_use]
    pub fn disconnect(self) -> Vec<&'static [u8]> {
        self.command(self.numbers().disconnect)
    }

    fn command(self, number: u8) -> Vec<&'static [u8]> {
        let mut frames = self.preamble().to_vec();
        frames.push(byte(number));
        frames
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// How it writes.
    pub edition: Edition,
    /// Whom it asks, or why that cannot be read.
    pub service: Result<String, MajordomoError>,
}

impl ClientRequest {
    /// The request in what follows an envelope, its empty frame left out; `None` if it is not
    /// one of Majordomo's. `envelope_len` is how many frames that envelope has with the empty
    /// one: a client without any is one of 0.2.
    #[must_use]
    pub fn decode<F: AsRef<[u8]>>(envelope_len: usize, body: &[F]) -> Option<Self> {
        let edition = match body.first()?.as_ref() {
            CLIENT_1 if envelope_len > 0 => Edition::V1,
            CLIENT_2 if envelope_len > 0 => Edition::V2Delimited,
            CLIENT_2 => Edition::V2,
            _ => return None,
        };
        let service = match (edition, body) {
            (Edition::V1, [_, service, ..]) => read_service(service.as_ref()),
            (Edition::V2 | Edition::V2Delimited, [_, command, service, ..]) => match command.as_ref() {
                [CLIENT_REQUEST] => read_service(service.as_ref()),
                _ => Err(MajordomoError::Command),
            },
            _ => Err(MajordomoError::Shape),
        };
        Some(Self { edition, service })
    }

    /// How many frames stand between the envelope and the body.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        match self.edition {
            Edition::V1 => 2,
            Edition::V2 | Edition::V2Delimited => 3,
        }
    }
}

impl Edition {
    /// The frames between a reply's envelope and its body. 0.1 has no parts: whoever speaks it
    /// is sent all of a reply at once.
    #[must_use]
    pub fn reply_head(self, service: &str, part: Part) -> Vec<&[u8]> {
        let number = match part {
            Part::Partial => CLIENT_PARTIAL,
            Part::Final => CLIENT_FINAL,
        };
        match self {
            Self::V1 => vec![CLIENT_1, service.as_bytes()],
            Self::V2 | Self::V2Delimited => vec![CLIENT_2, byte(number), service.as_bytes()],
        }
    }
}

/// Of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Others follow.
    Partial,
    /// The last, or all of it.
    Final,
}

fn read_service(frame: &[u8]) -> Result<String, MajordomoError> {
    let text = std::str::from_utf8(frame).map_err(|_not_text| MajordomoError::Service)?;
    if text.is_empty() { Err(MajordomoError::Service) } else { Ok(text.to_owned()) }
}

/// A frame of one byte that lives as long as the program.
const fn byte(number: u8) -> &'static [u8] {
    match number {
        1 => &[1],
        2 => &[2],
        3 => &[3],
        4 => &[4],
        5 => &[5],
        _ => &[6],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_two_are_not_mixed_up() {
        let token = Token::new(1, 99);
        let reply = |more| Ok(Command::Reply { token: Some(token), more });
        let first = |frames: &[&[u8]]| Edition::V1.decode(&[&[b"".as_slice(), WORKER_1], frames].concat());
        let second = |frames: &[&[u8]]| Edition::V2.decode(&[&[WORKER_2], frames].concat());
        let echo = || Ok(Command::Ready { service: "echo".into() });
        assert_eq!((first(&[&[1], b"echo"]), second(&[&[1], b"echo"])), (echo(), echo()));
        assert_eq!(first(&[&[3], token.as_bytes(), b"", b"x"]), reply(false));
        assert_eq!(second(&[&[3], token.as_bytes(), b"", b"x"]), reply(true));
        assert_eq!(second(&[&[4], token.as_bytes(), b"", b"x"]), reply(false));
        assert_eq!((first(&[&[4]]), first(&[&[5]])), (Ok(Command::Heartbeat), Ok(Command::Disconnect)));
        assert_eq!((second(&[&[5]]), second(&[&[6]])), (Ok(Command::Heartbeat), Ok(Command::Disconnect)));
    }

    #[test]
    fn what_is_no_command_says_so() {
        let decode = |frames: &[&[u8]]| Edition::V1.decode(&[&[b"".as_slice(), WORKER_1], frames].concat());
        assert_eq!(decode(&[]), Err(MajordomoError::Shape));
        assert_eq!(decode(&[b""]), Err(MajordomoError::Command));
        assert_eq!(decode(&[&[6]]), Err(MajordomoError::Command));
        assert_eq!(decode(&[&[0]]), Err(MajordomoError::Command));
        assert_eq!(decode(&[&[1]]), Err(MajordomoError::Shape), "no service");
        assert_eq!(decode(&[&[1], b"\xff"]), Err(MajordomoError::Service));
        assert_eq!(decode(&[&[1], b""]), Err(MajordomoError::Service));
        assert_eq!(decode(&[&[1], b"mmi.service"]), Err(MajordomoError::Reserved));
        assert_eq!(decode(&[&[2], b"a", b"", b"x"]), Err(MajordomoError::Shape), "a broker's command");
        assert_eq!(decode(&[&[3], b"a", b"no empty frame", b"x"]), Err(MajordomoError::Shape));
        assert_eq!(decode(&[&[4], b"more"]), Err(MajordomoError::Shape));
    }

    #[test]
    fn clients_are_read_with_and_without_an_empty_frame() {
        let decode = |envelope_len, frames: &[&[u8]]| ClientRequest::decode(envelope_len, frames);
        let request = |edition| Some(ClientRequest { edition, service: Ok("echo".into()) });
        assert_eq!(decode(1, &[CLIENT_1, b"echo", b"x"]), request(Edition::V1));
        assert_eq!(decode(0, &[CLIENT_1, b"echo", b"x"]), None, "0.1 is behind an empty frame");
        assert_eq!(decode(0, &[CLIENT_2, &[1], b"echo", b"x"]), request(Edition::V2));
        assert_eq!(decode(3, &[CLIENT_2, &[1], b"echo", b"x"]), request(Edition::V2Delimited));
        assert_eq!(decode(1, &[b"hello"]), None);
        let error = |error| Some(Err(error));
        let service = |frames: &[&[u8]]| decode(1, frames).map(|request| request.service);
        assert_eq!(service(&[CLIENT_1]), error(MajordomoError::Shape));
        assert_eq!(service(&[CLIENT_2, &[2], b"echo"]), error(MajordomoError::Command));
        assert_eq!(service(&[CLIENT_1, b""]), error(MajordomoError::Service));
    }
}
