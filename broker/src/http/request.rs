//! What somebody asks, read from the bytes of one head. Bodies are not read.

use super::response::Refusal;

/// A longer head is refused.
pub(super) const HEAD_LIMIT: usize = 8 * 1024;

/// More header lines are refused.
const HEADERS_LIMIT: usize = 64;

/// A request that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Without what follows a question mark.
    pub(super) path: String,
    /// It takes OpenMetrics.
    pub(super) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// In which form metrics are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus text 0.0.4.
    Prometheus,
    OpenMetrics,
}

/// Reads a head. `None` while its end has not come.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Request, Refusal>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(size)) if size > HEAD_LIMIT => Some(Err(Refusal::HeadTooLarge)),
        Ok(httparse::Status::Complete(_size)) => Some(Ok(understand(&head))),
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => Some(Err(Refusal::HeadTooLarge)),
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some(Err(Refusal::HeadTooLarge)),
        Err(_unreadable) => Some(Err(Refusal::Unreadable)),
    }
}

fn understand(head: &httparse::Request<'_, '_>) -> Request {
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some(_) | None => Method::Other,
    };
    let mut accepted = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let is_open = |header: &httparse::Header<'_>| {
        String::from_utf8_lossy(header.value).to_ascii_lowercase().contains("application/openmetrics-text")
    };
    let format = if accepted.any(is_open) { Format::OpenMetrics } else { Format::Prometheus };
    Request { method, path: path_of(head.path.unwrap_or_default()).to_owned(), format }
}

/// Of what stands in the first line, which may be a whole address.
fn path_of(target: &str) -> &str {
    let behind_scheme = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let target = match behind_scheme {
        Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => target,
    };
    target.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, path: &str) -> Request {
        Request { method, path: path.into(), format: Format::Prometheus }
    }

    #[test]
    fn a_head_is_read_when_its_end_has_come() {
        let head = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 0..head.len() {
            assert_eq!(read(&head[..cut]), None, "{cut}");
        }
        assert_eq!(read(head), Some(Ok(request(Method::Get, "/metrics"))));
        let more = [&head[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(read(&more), Some(Ok(request(Method::Get, "/metrics"))));
        assert_eq!(
            read(b"HEAD http://127.0.0.1:1/livez HTTP/1.0\r\n\r\n"),
            Some(Ok(request(Method::Head, "/livez")))
        );
        assert_eq!(read(b"DELETE http://127.0.0.1 HTTP/1.1\n\n"), Some(Ok(request(Method::Other, "/"))));
    }

    #[test]
    fn who_takes_openmetrics_says_so() {
        let head = b"GET /metrics HTTP/1.1\r\naccept: text/plain, Application/OpenMetrics-Text; version=1.0.0\r\n\r\n";
        assert_eq!(read(head).unwrap().unwrap().format, Format::OpenMetrics);
    }

    #[test]
    fn rubbish_is_refused_as_soon_as_it_is_seen() {
        for rubbish in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"GET\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"\xff\xfe",
            b"GET / HTTP/9\r\n",
        ] {
            assert_eq!(read(rubbish), Some(Err(Refusal::Unreadable)), "{rubbish:?}");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let long = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; HEAD_LIMIT]].concat();
        assert_eq!(read(&long), Some(Err(Refusal::HeadTooLarge)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_LIMIT + 1));
        assert_eq!(read(many.as_bytes()), Some(Err(Refusal::HeadTooLarge)));
    }
}
