//! What outlives this router of its keys: a journal in two files in memory, which the parent
//! keeps, hands to every router, and never reads.
//!
//! One file is written at its end; what is said of a key replaces what was said of it before.
//! When more than half of it is of no use any more, what counts is copied to the other file,
//! whose head is written last. So there is a whole one at every moment, wherever the router is
//! killed; a record that was being written then is found by its length and its checksum, and
//! cut off. Nothing is ever flushed: memory is no disk, and outlives every process but the
//! machine's own.

mod words;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use tracing::{debug, warn};

use self::words::{Line, Word, frames};
use super::frame::{Body, Frame, total_size};
use crate::core::Entry;

/// The first bytes of a file; the last of them is the version of what follows.
const MAGIC: [u8; 8] = *b"hp-keys\x01";
/// The magic and the serial number.
const FILE_HEAD: u64 = 16;
/// Length of the line, checksum, length of the body.
const RECORD_HEAD: u64 = 16;
/// Up to this many useless bytes are left where they are, however little counts.
const SLACK: u64 = 1024 * 1024;
/// A body up to this size is written together with its line.
const SMALL: u64 = 64 * 1024;

/// A key of a service, with what an earlier router has written of it.
pub(super) type Recalled = (Arc<str>, Arc<str>, Entry<Body>);

#[derive(Debug, Default)]
pub(super) struct Journal {
    /// None if it cannot be kept.
    files: Option<Files>,
    /// Where the last word on each key of each service stands.
    index: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Span>>,
    /// Bytes of the records that the index knows.
    live: u64,
}

#[derive(Debug)]
struct Files {
    /// The one that is written.
    current: File,
    other: File,
    serial: u64,
    /// Where the next record goes.
    end: u64,
}

/// A record's place.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: u64,
    len: u64,
}

impl Journal {
    /// Goes on with what there is, and tells it.
    pub(super) fn open(files: Option<[OwnedFd; 2]>) -> (Self, Vec<Recalled>) {
        let Some([one, other]) = files else {
            warn!("no journal: keys are forgotten should the router die");
            return (Self::default(), Vec::new());
        };
        match Self::resume(one.into(), other.into()) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(%error, "the journal cannot be read: keys are forgotten");
                (Self::default(), Vec::new())
            }
        }
    }

    fn resume(one: File, other: File) -> io::Result<(Self, Vec<Recalled>)> {
        let (current, other, serial) = match (serial_of(&one)?, serial_of(&other)?) {
            (Some(serial), Some(later)) if serial < later => (other, one, later),
            (None, Some(serial)) => (other, one, serial),
            (Some(serial), _) => (one, other, serial),
            (None, None) => {
                one.set_len(0)?;
                begin(&one, 1)?;
                (one, other, 1)
            }
        };
        other.set_len(0)?;
        let mut bytes = Vec::new();
        let size = current.metadata()?.len();
        bytes.resize(usize::try_from(size).unwrap_or_default(), 0);
        current.read_exact_at(&mut bytes, 0)?;
        let mut journal = Self::default();
        let mut last: BTreeMap<(String, String), (Word, Span)> = BTreeMap::new();
        let mut end = FILE_HEAD;
        while let Some(record) = Record::read(&bytes, end) {
            let span = Span { at: end, len: record.len() };
            end += span.len;
            match rmp_serde::from_slice::<Line>(record.line) {
                Ok(Line { service, key, word }) => drop(last.insert((service, key), (word, span))),
                Err(error) => warn!(%error, "an entry of the journal says nothing to this program"),
            }
        }
        if end < size {
            debug!(bytes = size - end, "the last entry of the journal was not finished");
        }
        // What follows must never be taken for a record, whatever a reply was made of.
        current.set_len(end)?;
        let mut recalled = Vec::new();
        for ((service, key), (word, span)) in last {
            let (service, key): (Arc<str>, Arc<str>) = (service.into(), key.into());
            let body = Record::read(&bytes, span.at).map(|record| record.body).unwrap_or_default();
            if let Some(entry) = word.into_entry(body) {
                journal.note(&service, &key, Some(span));
                recalled.push((service, key, entry));
            }
        }
        journal.files = Some(Files { current, other, serial, end });
        Ok((journal, recalled))
    }

    /// Writes down how it stands with a key. When this returns, the next router will know.
    pub(super) fn write(&mut self, service: &str, key: &Arc<str>, entry: &Entry<Body>) {
        if matches!(entry, Entry::Free) && self.span(service, key).is_none() {
            return;
        }
        let written = self.append(service, key, entry).and_then(|()| self.compact());
        if let Err(error) = written {
            warn!(%error, "the journal cannot be written: keys up to now are forgotten should the router die");
            self.start_anew();
        }
    }

    fn append(&mut self, service: &str, key: &Arc<str>, entry: &Entry<Body>) -> io::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let line = Line { service: service.into(), key: key.to_string(), word: Word::of(entry) };
        let line = rmp_serde::to_vec_named(&line).map_err(io::Error::other)?;
        let span = files.append(&line, &frames(entry))?;
        self.note(service, key, (!matches!(entry, Entry::Free)).then_some(span));
        Ok(())
    }

    fn span(&self, service: &str, key: &str) -> Option<Span> {
        self.index.get(service)?.get(key).copied()
    }

    /// This is the last word on a key from here on, if there is one.
    fn note(&mut self, service: &str, key: &Arc<str>, span: Option<Span>) {
        if !self.index.contains_key(service) {
            self.index.insert(service.into(), BTreeMap::new());
        }
        let Some(keys) = self.index.get_mut(service) else { return };
        let before = match span {
            Some(span) => keys.insert(Arc::clone(key), span),
            None => keys.remove(key),
        };
        self.live += span.map_or(0, |span| span.len);
        self.live -= before.map_or(0, |span| span.len);
    }

    /// Leaves behind what is of no use, once that is the most of it.
    fn compact(&mut self) -> io::Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        if files.end <= SLACK + 2 * self.live {
            return Ok(());
        }
        let mut to = FILE_HEAD;
        let mut bytes = Vec::new();
        for span in self.index.values_mut().flat_map(BTreeMap::values_mut) {
            bytes.resize(usize::try_from(span.len).unwrap_or_default(), 0);
            files.current.read_exact_at(&mut bytes, span.at)?;
            files.other.write_all_at(&bytes, to)?;
            span.at = to;
            to += span.len;
        }
        files.serial += 1;
        begin(&files.other, files.serial)?;
        std::mem::swap(&mut files.current, &mut files.other);
        files.other.set_len(0)?;
        files.end = to;
        Ok(())
    }

    /// What cannot be trusted is worse than nothing.
    fn start_anew(&mut self) {
        self.index.clear();
        self.live = 0;
        self.files = self.files.take().and_then(|mut files| {
            files.other.set_len(0).ok()?;
            files.current.set_len(0).ok()?;
            begin(&files.current, files.serial).ok()?;
            files.end = FILE_HEAD;
            Some(files)
        });
    }
}

impl Files {
    fn append(&mut self, line: &[u8], frames: &[Frame]) -> io::Result<Span> {
        let body_len = total_size(frames);
        let (line_len, at) = (line.len() as u64, self.end);
        let span = Span { at, len: RECORD_HEAD + line_len + body_len };
        let head = record_head(line, body_len, frames.iter().map(AsRef::as_ref));
        if body_len <= SMALL {
            let parts = [&head, line].into_iter().chain(frames.iter().map(AsRef::as_ref));
            self.current.write_all_at(&parts.collect::<Vec<_>>().concat(), at)?;
        } else {
            let mut to = at + RECORD_HEAD;
            for part in std::iter::once(line).chain(frames.iter().map(AsRef::as_ref)) {
                self.current.write_all_at(part, to)?;
                to += part.len() as u64;
            }
            self.current.write_all_at(&head, at)?;
        }
        self.end += span.len;
        Ok(span)
    }
}

/// A record as it stands in a file.
#[derive(Debug)]
struct Record<'a> {
    line: &'a [u8],
    body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The one that begins there, if it is whole.
    fn read(bytes: &'a [u8], at: u64) -> Option<Self> {
        let rest = bytes.get(usize::try_from(at).ok()?..)?;
        let (head, rest) = rest.split_at_checked(usize::try_from(RECORD_HEAD).ok()?)?;
        let line_len = u32::from_le_bytes(head.get(..4)?.try_into().ok()?);
        let body_len = u64::from_le_bytes(head.get(8..)?.try_into().ok()?);
        let (line, rest) = rest.split_at_checked(usize::try_from(line_len).ok()?)?;
        let body = rest.get(..usize::try_from(body_len).ok()?)?;
        let whole = line_len > 0 && head == record_head(line, body_len, [body].into_iter());
        whole.then_some(Self { line, body })
    }

    fn len(&self) -> u64 {
        RECORD_HEAD + self.line.len() as u64 + self.body.len() as u64
    }
}

fn record_head<'a>(line: &[u8], body_len: u64, body: impl Iterator<Item = &'a [u8]>) -> [u8; 16] {
    let line_len = u32::try_from(line.len()).unwrap_or_default().to_le_bytes();
    let body_len = body_len.to_le_bytes();
    let mut checksum = crc32fast::Hasher::new();
    for part in [&line_len[..], &body_len, line] {
        checksum.update(part);
    }
    body.for_each(|part| checksum.update(part));
    let mut head = [0; 16];
    let parts = line_len.into_iter().chain(checksum.finalize().to_le_bytes()).chain(body_len);
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    head
}

/// The number of a file that is whole.
fn serial_of(file: &File) -> io::Result<Option<u64>> {
    let mut head = [0; 16];
    let read = file.read_at(&mut head, 0)?;
    let (magic, serial) = (head.first_chunk::<8>(), head.last_chunk::<8>());
    let known = read == head.len() && magic == Some(&MAGIC);
    if !known && read > 0 && magic.is_some_and(|magic| magic.starts_with(b"hp-keys")) {
        warn!("the journal was written by another version: its keys are forgotten");
    }
    Ok(serial.filter(|_serial| known).map(|serial| u64::from_le_bytes(*serial)))
}

/// From here on the file counts.
fn begin(file: &File, serial: u64) -> io::Result<()> {
    let head: Vec<u8> = MAGIC.into_iter().chain(serial.to_le_bytes()).collect();
    file.write_all_at(&head, 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hornpipe_proto::Token;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;
    use crate::core::{Begun, Holder, Incarnation, Place, Slot, Timestamp};

    fn files() -> [OwnedFd; 2] {
        [(); 2].map(|()| memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap())
    }

    fn again(files: &[OwnedFd; 2]) -> (Journal, Vec<(String, String)>) {
        let copies = [files[0].try_clone().unwrap(), files[1].try_clone().unwrap()];
        let (journal, recalled) = Journal::open(Some(copies));
        let shown = |(service, key, entry): Recalled| (format!("{service}/{key}"), show(&entry));
        (journal, recalled.into_iter().map(shown).collect())
    }

    fn show(entry: &Entry<Body>) -> String {
        match entry {
            Entry::Done { reply: Some((parts, body)), .. } => {
                let frames: Vec<_> = parts.iter().chain([body]).flat_map(Body::frames).collect();
                let texts = frames.iter().map(|frame| String::from_utf8_lossy(frame.as_ref()));
                format!("[{}]", texts.collect::<Vec<_>>().join("]["))
            }
            other => format!("{other:?}"),
        }
    }

    fn done(frames: &[&[u8]]) -> Entry<Body> {
        let body = Body::to_pass(frames.iter().map(|frame| Frame::Own((*frame).into())));
        let until = Timestamp::new(Duration::from_secs(7));
        Entry::Done { reply: Some((Vec::new(), body)), size: 1, attempt: 1, until }
    }

    fn begun(holder: Holder) -> Entry<Body> {
        Entry::Begun(Begun {
            token: Token::new(3, 77),
            holder,
            attempt: 2,
            since: Timestamp::new(Duration::from_millis(1)),
            deadline: Some(Timestamp::new(Duration::from_millis(2))),
            over: true,
        })
    }

    fn holders() -> [Holder; 3] {
        let place = Place { slot: Slot(3), incarnation: Incarnation(9) };
        [Holder::Local(place), Holder::Named("me".into()), Holder::Unknown]
    }

    #[test]
    fn the_last_word_on_each_key_is_known_to_the_next() {
        let files = files();
        let (mut journal, recalled) = again(&files);
        assert!(recalled.is_empty());
        let key: Arc<str> = "a".into();
        for holder in holders() {
            let entry = begun(holder);
            journal.write("default", &key, &entry);
            assert_eq!(again(&files).1, [("default/a".to_owned(), show(&entry))]);
        }
        journal.write("default", &key, &done(&[b"x", b"", b"yz"]));
        journal.write("images", &key, &done(&[b""]));
        let tried = Entry::Tried { attempt: 3, until: Timestamp::new(Duration::from_secs(1)) };
        journal.write("default", &"b".into(), &tried);
        journal.write("default", &"c".into(), &tried);
        journal.write("default", &"c".into(), &Entry::Free);
        let expected = [
            ("default/a", "[x][][yz]".to_owned()),
            ("default/b", show(&tried)),
            ("images/a", "[]".to_owned()),
        ];
        assert_eq!(again(&files).1, expected.map(|(key, entry)| (key.to_owned(), entry)));
    }

    #[test]
    fn whatever_was_being_written_is_cut_off_and_all_before_it_counts() {
        let (key, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let large = vec![7; usize::try_from(SMALL).unwrap() + 1];
        for torn in [done(&[b"new"]), done(&[&large])] {
            let files = files();
            let (mut journal, _) = again(&files);
            journal.write("default", &key, &done(&[b"old"]));
            let start = journal.files.as_ref().unwrap().end;
            journal.write("default", &other, &torn);
            let file = File::from(files[0].try_clone().unwrap());
            let mut whole = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut whole, 0).unwrap();
            let mut cuts: Vec<u64> = (start..start + 60).collect();
            cuts.push(whole.len() as u64 - 1);
            for cut in cuts {
                file.set_len(cut).unwrap();
                let (mut journal, recalled) = again(&files);
                assert_eq!(recalled, [("default/a".to_owned(), "[old]".to_owned())], "cut at {cut}");
                // It goes on where the whole ones end, with nothing of the other behind it.
                journal.write("default", &other, &done(&[b"next"]));
                assert_eq!(again(&files).1.len(), 2);
                file.set_len(start).unwrap();
                file.write_all_at(&whole, 0).unwrap();
            }
            // A head that promises more than there is, and a line that is another.
            for (at, bit) in [(start, 1), (start + 8, 1), (start + 20, 4)] {
                let mut changed = whole.clone();
                changed[usize::try_from(at).unwrap()] ^= bit;
                file.write_all_at(&changed, 0).unwrap();
                assert_eq!(again(&files).1, [("default/a".to_owned(), "[old]".to_owned())]);
                file.write_all_at(&whole, 0).unwrap();
            }
        }
    }

    #[test]
    fn it_holds_little_more_than_twice_what_counts() {
        let files = files();
        let (mut journal, _) = again(&files);
        let kept: Arc<str> = "kept".into();
        journal.write("default", &kept, &done(&[b"for ever"]));
        let size = || files.iter().map(|fd| File::from(fd.try_clone().unwrap()).metadata().unwrap().len());
        let reply = vec![1; 10_000];
        for number in 0..2000_u32 {
            let key: Arc<str> = number.to_string().into();
            journal.write("default", &key, &done(&[&reply]));
            if let Some(old) = number.checked_sub(10) {
                journal.write("default", &old.to_string().into(), &Entry::Free);
            }
            assert!(
                size().sum::<u64>() < SLACK + 3 * 11 * 10_200,
                "after {number}: {:?}",
                size().collect::<Vec<_>>()
            );
        }
        drop(journal);
        let (_, recalled) = again(&files);
        assert_eq!(recalled.len(), 11);
        assert!(recalled.contains(&("default/kept".to_owned(), "[for ever]".to_owned())));
    }

    #[test]
    fn a_death_between_two_files_costs_nothing() {
        let files = files();
        let (mut journal, _) = again(&files);
        journal.write("default", &"a".into(), &done(&[b"one"]));
        let copy = |number: usize| File::from(files[number].try_clone().unwrap());
        let mut bytes = vec![0; usize::try_from(copy(0).metadata().unwrap().len()).unwrap()];
        copy(0).read_exact_at(&mut bytes, 0).unwrap();
        // Copied, and its head not written.
        copy(1).write_all_at(&bytes[16..], 16).unwrap();
        assert_eq!(again(&files).1.len(), 1);
        // Written, and the first one still there.
        copy(1).write_all_at(&bytes, 0).unwrap();
        begin(&copy(1), 2).unwrap();
        let (mut journal, recalled) = again(&files);
        assert_eq!((recalled.len(), copy(0).metadata().unwrap().len()), (1, 0));
        journal.write("default", &"b".into(), &done(&[b"two"]));
        assert_eq!(again(&files).1.len(), 2);
    }

    #[test]
    fn rubbish_is_an_empty_journal() {
        for bytes in [&b"rubbish that is longer than a head"[..], b"hp-keys\x02********", b"hp-keys\x01"] {
            let files = files();
            File::from(files[0].try_clone().unwrap()).write_all_at(bytes, 0).unwrap();
            let (mut journal, recalled) = again(&files);
            assert!(recalled.is_empty());
            journal.write("default", &"a".into(), &done(&[b"x"]));
            assert_eq!(again(&files).1.len(), 1);
        }
    }
}
