//! What a worker writes: read in portions, cut into lines, cleaned, bounded.
//! Where the lines go is the caller's business.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::read;
use serde::{Deserialize, Serialize};

/// A longer line becomes several.
const LINE_LIMIT: usize = 16 * 1024;
/// So much is read from one worker before the others have their turn...
const TURN_BYTES: usize = 64 * 1024;
/// ...or so many lines, because a line costs more than its bytes.
const TURN_LINES: usize = 256;
/// So much is read from a worker that has ended: all that a pipe holds by default. More
/// can only come from a process that left its group, and that is nobody's last word.
const LAST_BYTES: usize = 64 * 1024;
/// How many last lines are kept...
const LAST_LINES: usize = 20;
/// ...and how many bytes they have altogether.
const LAST_LINES_BYTES: usize = 4096;

/// What a worker has written and the next parent should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    unfinished: Vec<u8>,
    last_lines: Vec<String>,
}

/// The output of one worker.
#[derive(Debug)]
pub(super) struct Output {
    /// Gone when nobody can write to it any more.
    pipe: Option<OwnedFd>,
    cutter: LineCutter,
    last_lines: LastLines,
}

impl Output {
    /// Takes the read end of its pipe, which must not block.
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), cutter: LineCutter::default(), last_lines: LastLines::default() }
    }

    /// The output of a worker that a parent of before has started.
    pub(super) fn inherited(pipe: Option<OwnedFd>, written: Written) -> Self {
        let mut last_lines = LastLines::default();
        for line in &written.last_lines {
            last_lines.push(line);
        }
        Self { pipe, cutter: LineCutter { unfinished: written.unfinished }, last_lines }
    }

    /// What has been read and is still of use, to be handed down.
    pub(super) fn written(&self) -> Written {
        Written {
            unfinished: self.cutter.unfinished.clone(),
            last_lines: self.last_lines.lines.iter().cloned().collect(),
        }
    }

    /// What to poll for reading.
    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads one turn's worth.
    pub(super) fn read_turn(&mut self, each: &mut dyn FnMut(&str)) {
        self.read_up_to(TURN_BYTES, TURN_LINES, each);
    }

    /// The last lines so far, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last_lines.lines.iter().cloned().collect()
    }

    /// Reads what is left when the worker has ended, and gives its last lines.
    pub(super) fn finish(mut self, each: &mut dyn FnMut(&str)) -> Vec<String> {
        self.read_up_to(LAST_BYTES, usize::MAX, each);
        self.close(each);
        self.last_lines.lines.into()
    }

    fn read_up_to(&mut self, bytes: usize, lines: usize, each: &mut dyn FnMut(&str)) {
        let mut portion = [0; 4096];
        let (mut bytes_read, mut lines_read) = (0_usize, 0_usize);
        while bytes_read < bytes && lines_read < lines {
            let Some(pipe) = &self.pipe else { return };
            match read(pipe, &mut portion) {
                Ok(0) => return self.close(each),
                Ok(size) => {
                    bytes_read = bytes_read.saturating_add(size);
                    let last_lines = &mut self.last_lines;
                    self.cutter.cut(portion.get(..size).unwrap_or_default(), &mut |line| {
                        lines_read = lines_read.saturating_add(1);
                        last_lines.push(line);
                        each(line);
                    });
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_broken) => return self.close(each),
            }
        }
    }

    fn close(&mut self, each: &mut dyn FnMut(&str)) {
        self.pipe = None;
        let last_lines = &mut self.last_lines;
        self.cutter.finish(&mut |line| {
            last_lines.push(line);
            each(line);
        });
    }
}

/// Makes lines of bytes.
#[derive(Debug, Default)]
struct LineCutter {
    unfinished: Vec<u8>,
}

impl LineCutter {
    fn cut(&mut self, bytes: &[u8], each: &mut dyn FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            self.unfinished.extend_from_slice(text);
            while LINE_LIMIT < self.unfinished.len() {
                let rest = self.unfinished.split_off(whole_characters(&self.unfinished, LINE_LIMIT));
                emit(&self.unfinished, each);
                self.unfinished = rest;
            }
            if ended {
                self.finish(each);
            }
        }
    }

    /// What is there is a line, newline or not.
    fn finish(&mut self, each: &mut dyn FnMut(&str)) {
        emit(&self.unfinished, each);
        self.unfinished.clear();
    }
}

/// How many of the first `limit` bytes to take so that no character is torn.
fn whole_characters(bytes: &[u8], limit: usize) -> usize {
    let begins_character = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xC0 != 0x80);
    (limit.saturating_sub(3)..=limit).rev().find(begins_character).unwrap_or(limit)
}

/// Blank lines say nothing and would cost as much as others.
fn emit(bytes: &[u8], each: &mut dyn FnMut(&str)) {
    let line = clean(bytes);
    if !line.is_empty() {
        each(&line);
    }
}

/// Makes a worker's bytes harmless in a log and on a terminal.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The last lines of a worker, which explain its end.
#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<String>,
    bytes: usize,
}

impl LastLines {
    fn push(&mut self, line: &str) {
        let line = line.get(..line.floor_char_boundary(LAST_LINES_BYTES)).unwrap_or_default();
        self.bytes = self.bytes.saturating_add(line.len());
        self.lines.push_back(line.to_owned());
        while LAST_LINES < self.lines.len() || LAST_LINES_BYTES < self.bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(portions: &[&[u8]]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut cutter = LineCutter::default();
        for portion in portions {
            cutter.cut(portion, &mut |line| lines.push(line.to_owned()));
        }
        cutter.finish(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_do_not_depend_on_how_they_arrive() {
        let text = b"one\ntwo\r\n\nthree";
        let whole = lines_of(&[text]);
        assert_eq!(whole, ["one", "two", "three"]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines_of(&bytes), whole);
    }

    #[test]
    fn control_bytes_and_broken_text_are_made_visible() {
        assert_eq!(lines_of(&[b"\x1b[31mred\x07\tx\n"]), ["\\u{1b}[31mred\\u{7}\tx"]);
        assert_eq!(lines_of(&[b"a\xff\xfeb\n"]), ["a\u{fffd}\u{fffd}b"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_loses_nothing() {
        let text = "ä€x".repeat(10_000);
        let lines = lines_of(&[text.as_bytes()]);
        assert!(lines.iter().all(|line| line.len() <= LINE_LIMIT && !line.contains('\u{fffd}')));
        assert_eq!(lines.concat(), text);
    }

    #[test]
    fn bytes_that_never_begin_a_character_are_cut_too() {
        let lines = lines_of(&[&vec![0x80; 3 * LINE_LIMIT]]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_flood_is_read_in_turns_and_loses_nothing() {
        use nix::fcntl::OFlag;
        use nix::unistd::{pipe2, write};
        let (ours, theirs) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let written = write(&theirs, &b"x\n".repeat(30_000)).unwrap();
        let mut output = Output::new(ours);
        let mut lines = 0;
        output.read_turn(&mut |_line| lines += 1);
        assert!((TURN_LINES..TURN_LINES + 4096).contains(&lines), "{lines} lines in one turn");
        // The worker has ended, and somebody else still holds its pipe.
        output.finish(&mut |_line| lines += 1);
        assert_eq!(lines, written / 2);
        drop(theirs);
    }

    #[test]
    fn the_last_lines_are_few_and_small() {
        let mut last = LastLines::default();
        for number in 0..100 {
            last.push(&number.to_string());
        }
        assert_eq!(last.lines.len(), LAST_LINES);
        assert_eq!(last.lines.back().map(String::as_str), Some("99"));
        last.push(&"x".repeat(LINE_LIMIT));
        assert_eq!(last.lines.len(), 1);
        assert_eq!(last.bytes, LAST_LINES_BYTES);
        last.push("and this");
        assert_eq!(last.lines, ["and this"]);
    }
}
