//! A broker's control socket, as an operator's program would use it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hornpipe_proto::Status;
use hornpipe_proto::control::{self, ControlRequest, ControlResponse, StatusReport, WorkerReport};

/// A router between two lives does not answer: the next look is better than a long wait.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks one question; `None` if nobody answers.
pub fn ask(socket: &Path, request: &ControlRequest) -> Option<ControlResponse> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(&control::encode(request)).ok()?;
    let mut buffer = Vec::new();
    loop {
        if let Some(response) = control::take(&mut buffer, control::RESPONSE_LIMIT).unwrap() {
            return Some(response);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(size) => buffer.extend_from_slice(&chunk[..size]),
        }
    }
}

/// The state of everything; `None` if nobody answers.
pub fn status_of(socket: &Path) -> Option<StatusReport> {
    match ask(socket, &ControlRequest::Status)? {
        ControlResponse::Status(report) => Some(*report),
        other => panic!("asked for the status, got {other:?}"),
    }
}

/// How many requests ended with this error.
pub fn refused(report: &StatusReport, status: Status) -> u64 {
    report.requests.refused.iter().filter(|(one, _)| *one == status).map(|(_, count)| count).sum()
}

/// Whether it is in a request and has begun it, as far as it tells.
pub(super) fn has_begun(worker: &WorkerReport) -> bool {
    worker.processing_ms.is_some()
}

/// The same of all that have one.
pub(super) fn all_have_begun(report: &StatusReport) -> bool {
    report.workers.iter().all(|worker| worker.state != "processing" || has_begun(worker))
}
