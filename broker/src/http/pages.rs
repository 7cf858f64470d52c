//! Which page there is for which path, and what stands on it.

use std::time::Duration;

use super::line::{Line, PATIENCE};
use super::metrics;
use super::request::{Format, Method, Request};
use super::response::{HTML, JSON, Refusal, Response, Status, TEXT};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Index,
    Metrics,
    Live,
    Ready,
    Status,
}

impl Page {
    fn of(request: &Request) -> Result<Self, Refusal> {
        let page = match request.path.as_str() {
            "/" => Self::Index,
            "/metrics" => Self::Metrics,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/status" => Self::Status,
            _ => return Err(Refusal::NoSuchPage),
        };
        if request.method == Method::Other { Err(Refusal::OnlyRead) } else { Ok(page) }
    }
}

/// The answer, if it is known, or known that there will be none in time.
pub(super) fn answer(
    request: &Request,
    (since, now): (Duration, Duration),
    line: &mut Line,
) -> Option<Response> {
    let page = match Page::of(request) {
        Ok(page) => page,
        Err(refusal) => return Some(Response::refusal(refusal)),
    };
    let answer = match page {
        Page::Index => Some(Response { status: Status::Ok, kind: HTML, body: INDEX.to_owned() }),
        Page::Metrics => line.metrics(since, now).map(|report| Response {
            status: Status::Ok,
            kind: match request.format {
                Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
                Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            },
            body: metrics::exposition(report, request.format),
        }),
        Page::Live => line.metrics(since, now).map(|_report| Response::text(Status::Ok, "live")),
        Page::Ready => line.metrics(since, now).map(|report| match &report.unready {
            None => Response::text(Status::Ok, "ready"),
            Some(why) => Response::text(Status::Unavailable, format_args!("not ready: {why}")),
        }),
        Page::Status => line.status(since, now).map(|report| Response {
            status: Status::Ok,
            kind: JSON,
            // A report holds no map with keys that are no text, which is all that can fail.
            body: serde_json::to_string_pretty(report).unwrap_or_default() + "\n",
        }),
    };
    let late = since.saturating_add(PATIENCE) <= now;
    answer.or_else(|| late.then(silence))
}

fn silence() -> Response {
    let seconds = PATIENCE.as_secs();
    Response {
        status: Status::Unavailable,
        kind: TEXT,
        body: format!("the router has not answered for {seconds} seconds\n"),
    }
}

const INDEX: &str = "\
<!doctype html>
<html lang=\"en\">
<title>hornpipe</title>
<h1>hornpipe</h1>
<ul>
<li><a href=\"/metrics\">/metrics</a> everything that is counted, for Prometheus
<li><a href=\"/livez\">/livez</a> 200 while the router answers
<li><a href=\"/readyz\">/readyz</a> 200 while a request would be served, else why not
<li><a href=\"/status\">/status</a> the state of everything, as JSON
</ul>
";
