//! What is answered, as bytes. Each answer is the last of its connection.

use super::request::Method;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: Status,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    NotAllowed,
    TimedOut,
    HeadTooLarge,
    Unavailable,
}

/// What is no question that could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Unreadable,
    HeadTooLarge,
    TooSlow,
    NoSuchPage,
    OnlyRead,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::NotAllowed => "405 Method Not Allowed",
            Self::TimedOut => "408 Request Timeout",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

impl Response {
    pub(super) fn text(status: Status, line: impl std::fmt::Display) -> Self {
        Self { status, kind: TEXT, body: format!("{line}\n") }
    }

    pub(super) fn refusal(refusal: Refusal) -> Self {
        let (status, line) = match refusal {
            Refusal::Unreadable => (Status::BadRequest, "this is no HTTP request"),
            Refusal::HeadTooLarge => (Status::HeadTooLarge, "a request has at most 8 KiB and 64 headers"),
            Refusal::TooSlow => (Status::TimedOut, "a request must come within 2 seconds"),
            Refusal::NoSuchPage => (Status::NotFound, "there are /, /metrics, /livez, /readyz and /status"),
            Refusal::OnlyRead => (Status::NotAllowed, "everything here can only be read: GET or HEAD"),
        };
        Self::text(status, line)
    }

    /// Head and body; to HEAD the head alone.
    pub(super) fn encode(&self, method: Method) -> Vec<u8> {
        let allow = if self.status == Status::NotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status.line(),
            self.kind,
            self.body.len(),
        );
        let mut bytes = head.into_bytes();
        if method != Method::Head {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}
