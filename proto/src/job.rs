//! What came with a job, read where it lies: nothing of it is copied.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::worker::WorkerMessageError;
use crate::{MapError, map};

/// A job's map as a worker reads it: see [`JobMeta`](crate::worker::JobMeta) for what each field means. The headers
/// are left where they are until somebody asks for them, with [`JobView::headers`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JobView<'a> {
    /// The request's name, for logs.
    #[serde(borrow)]
    pub id: &'a str,
    /// 1 for the first worker that gets the request, then 2, ...
    pub attempt: u32,
    /// Milliseconds left until nobody waits for the reply any more.
    pub timeout_ms: Option<u64>,
    /// The service that was asked for.
    #[serde(borrow)]
    pub service: Option<&'a str>,
    /// The client's name for the work.
    #[serde(borrow)]
    pub key: Option<&'a str>,
    /// The client's `traceparent` of W3C's Trace Context.
    #[serde(borrow)]
    pub trace: Option<&'a str>,
    /// How many parts of the reply may be sent ahead.
    pub window: Option<u32>,
    /// The number under which the job is claimed before it is begun.
    pub claim: Option<u32>,
    #[serde(skip)]
    frame: &'a [u8],
}

impl<'a> JobView<'a> {
    /// The job whose map this frame is. An empty one is that of a worker without details.
    ///
    /// # Errors
    /// Says what no broker would send.
    pub fn of(frame: &'a [u8]) -> Result<Self, MapError> {
        let view = if frame.is_empty() { Self::default() } else { map::decode_in_place(frame)? };
        Ok(Self { frame, ..view })
    }

    /// The job that these frames of a broker are; `None` if they are an order.
    ///
    /// # Errors
    /// Says which part no broker would send.
    pub fn of_message<F: AsRef<[u8]>>(frames: &'a [F]) -> Result<Option<Self>, WorkerMessageError> {
        match frames {
            [delimiter, token, meta, _, ..]
                if delimiter.as_ref().is_empty() && !token.as_ref().is_empty() =>
            {
                Self::of(meta.as_ref()).map(Some).map_err(WorkerMessageError::Announcement)
            }
            [delimiter, token, _, ..] if delimiter.as_ref().is_empty() && token.as_ref().is_empty() => {
                Ok(None)
            }
            _ => Err(WorkerMessageError::Shape { frames: frames.len() }),
        }
    }

    /// What the client wants its worker to know beside the body, in the order of the names. Of a
    /// name that is given twice, the last value. None that can be read is none.
    #[must_use]
    pub fn headers(&self) -> BTreeMap<&'a str, &'a [u8]> {
        let asked = || map::decode_in_place::<WithHeaders<'a>>(self.frame).ok();
        let headers = if self.frame.is_empty() { None } else { asked() };
        headers.unwrap_or_default().headers.into_iter().map(|(name, value)| (name, value.0)).collect()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WithHeaders<'a> {
    #[serde(borrow)]
    headers: BTreeMap<&'a str, Value<'a>>,
}

struct Value<'a>(&'a [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(InPlace).map(Self)
    }
}

struct InPlace;

impl<'de> Visitor<'de> for InPlace {
    type Value = &'de [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
        Ok(bytes)
    }

    // A text in place of bytes is what a language without a type for bytes sends.
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<&'de [u8], E> {
        Ok(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Control, JobMeta};

    fn everything() -> JobMeta {
        JobMeta {
            id: "a1".into(),
            attempt: 2,
            timeout_ms: Some(1500),
            service: Some("images".into()),
            key: Some("order-66".into()),
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            headers: [("tenant", b"acme".to_vec()), ("raw", vec![0xff])].into_iter().collect(),
            window: Some(8),
            member: Some(3),
            claim: Some(5),
        }
    }

    #[test]
    fn a_view_says_what_the_map_says() {
        let meta = everything();
        let frame = meta.encode();
        let view = JobView::of(&frame).unwrap();
        assert_eq!((view.id, view.attempt, view.timeout_ms), ("a1", 2, Some(1500)));
        assert_eq!(
            (view.service, view.key, view.trace),
            (Some("images"), Some("order-66"), meta.trace.as_deref())
        );
        assert_eq!((view.window, view.claim), (Some(8), Some(5)));
        let headers: Vec<_> = view.headers().into_iter().collect();
        assert_eq!(headers, [("raw", &[0xff][..]), ("tenant", b"acme")]);
        // In place: the text is a piece of the frame.
        assert!(frame.as_ptr_range().contains(&view.id.as_ptr()));
    }

    #[test]
    fn what_is_missing_or_strange_has_its_default() {
        assert_eq!(JobView::of(b"").unwrap(), JobView::default());
        assert!(JobView::of(b"").unwrap().headers().is_empty());
        // {"headers": {"a": "text", "a": "last"}, "new": [1]}
        let frame = b"\x82\xa7headers\x82\xa1a\xa4text\xa1a\xa4last\xa3new\x91\x01";
        let view = JobView::of(frame).unwrap();
        assert_eq!(view.headers().into_iter().collect::<Vec<_>>(), [("a", &b"last"[..])]);
        // {"headers": 1}
        assert!(JobView::of(b"\x81\xa7headers\x01").unwrap().headers().is_empty());
    }

    #[test]
    fn what_no_broker_would_send_is_an_error() {
        let mut trailing = everything().encode();
        trailing.push(0xc0);
        assert_eq!(JobView::of(&trailing), Err(MapError::TrailingBytes));
        assert!(matches!(JobView::of(b"\xc1"), Err(MapError::Unreadable(_))));
        assert!(matches!(JobView::of(b"\x81\xa2id\xa1\xff"), Err(MapError::Unreadable(_))));
        assert_eq!(JobView::of(&[0; 4097]), Err(MapError::TooLarge { size: 4097 }));
        let whole = everything().encode();
        for end in 1..whole.len() {
            assert!(JobView::of(&whole[..end]).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn jobs_and_orders_are_told_apart() {
        let (meta, stop) = (everything().encode(), Control::Stop.encode());
        let job: [&[u8]; 4] = [b"", b"T", &meta, b"body"];
        assert_eq!(JobView::of_message(&job).unwrap().unwrap().id, "a1");
        let plain: [&[u8]; 4] = [b"", b"T", b"", b"body"];
        assert_eq!(JobView::of_message(&plain), Ok(Some(JobView::default())));
        let order: [&[u8]; 3] = [b"", b"", &stop];
        assert_eq!(JobView::of_message(&order), Ok(None));
        let shapes: [&[&[u8]]; 4] = [&[], &[b"", b"T", b""], &[b"x", b"T", b"", b"body"], &[b"", b""]];
        for frames in shapes {
            assert_eq!(JobView::of_message(frames), Err(WorkerMessageError::Shape { frames: frames.len() }));
        }
    }
}
