//! What comes with a job, as a broker writes it for each of them: nothing of it is copied before.

use rmp::encode::{ValueWriteError, write_bin, write_map_len, write_str, write_uint};

use crate::worker::JobMeta;
use crate::{Headers, map};

/// A job's map to be written: see [`JobMeta`] for what each field means.
#[derive(Debug, Clone, Copy, Default)]
pub struct JobMap<'a> {
    /// The request's name, for logs.
    pub id: &'a str,
    /// 1 for the first worker that gets the request, then 2, ...
    pub attempt: u32,
    /// Milliseconds left until nobody waits for the reply any more.
    pub timeout_ms: Option<u64>,
    /// The service that was asked for.
    pub service: Option<&'a str>,
    /// The client's name for the work.
    pub key: Option<&'a str>,
    /// The client's `traceparent` of W3C's Trace Context.
    pub trace: Option<&'a str>,
    /// What else the client wants its worker to know; none is as good as an empty one.
    pub headers: Option<&'a Headers>,
    /// How many parts of the reply may be sent ahead.
    pub window: Option<u32>,
    /// Which of several workers of the connection it is for.
    pub member: Option<u32>,
    /// The number under which the job is claimed before it is begun.
    pub claim: Option<u32>,
}

impl<'a> JobMap<'a> {
    /// The map that says the same.
    #[must_use]
    pub fn of(meta: &'a JobMeta) -> Self {
        let JobMeta { id, attempt, timeout_ms, service, key, trace, headers, window, member, claim } = meta;
        Self {
            id,
            attempt: *attempt,
            timeout_ms: *timeout_ms,
            service: service.as_deref(),
            key: key.as_deref(),
            trace: trace.as_deref(),
            headers: Some(headers),
            window: *window,
            member: *member,
            claim: *claim,
        }
    }

    /// Appends the map to these bytes. Every job has one, so it is written field by field, without a general serializer.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        map::take_write(self.try_write(bytes));
    }

    fn try_write(&self, bytes: &mut Vec<u8>) -> Result<(), ValueWriteError> {
        let headers = self.headers.filter(|headers| !headers.is_empty());
        let texts = [("service", self.service), ("key", self.key), ("trace", self.trace)];
        let numbers = [("window", self.window), ("member", self.member), ("claim", self.claim)];
        let is_there = [self.timeout_ms.is_some(), headers.is_some()];
        let count = 2
            + is_there.into_iter().filter(|is_there| *is_there).count()
            + texts.iter().filter(|(_name, text)| text.is_some()).count()
            + numbers.iter().filter(|(_name, number)| number.is_some()).count();
        write_map_len(bytes, u32::try_from(count).unwrap_or(u32::MAX))?;
        write_str(bytes, "id")?;
        write_str(bytes, self.id)?;
        write_str(bytes, "attempt")?;
        write_uint(bytes, self.attempt.into())?;
        if let Some(timeout_ms) = self.timeout_ms {
            write_str(bytes, "timeout_ms")?;
            write_uint(bytes, timeout_ms)?;
        }
        for (name, text) in texts {
            let Some(text) = text else { continue };
            write_str(bytes, name)?;
            write_str(bytes, text)?;
        }
        if let Some(headers) = headers {
            write_str(bytes, "headers")?;
            write_map_len(bytes, u32::try_from(headers.iter().count()).unwrap_or(u32::MAX))?;
            for (name, value) in headers.iter() {
                write_str(bytes, name)?;
                write_bin(bytes, value)?;
            }
        }
        for (name, number) in numbers {
            let Some(number) = number else { continue };
            write_str(bytes, name)?;
            write_uint(bytes, number.into())?;
        }
        Ok(())
    }
}
