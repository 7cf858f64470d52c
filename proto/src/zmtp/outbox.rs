//! Bytes to write: small frames gathered, large ones as they are, for one vectored write.

use std::collections::VecDeque;

use super::frame::{HEAD_LIMIT, Head};

/// A frame of at least so many bytes is not copied.
const LARGE: usize = 4096;

/// Gathered up to about this size; what comes after begins another piece.
const PIECE: usize = 16 * 1024;

/// What is to be written, in order.
#[derive(Debug)]
pub(super) struct Outbox<F> {
    pieces: VecDeque<Piece<F>>,
    /// Bytes of the first piece that are written.
    sent: usize,
    /// Bytes of all pieces that are not.
    unsent: usize,
    /// A piece's memory, for the next one.
    spare: Vec<u8>,
}

#[derive(Debug)]
enum Piece<F> {
    Gathered(Vec<u8>),
    Large(F),
}

impl<F: AsRef<[u8]>> Piece<F> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Large(frame) => frame.as_ref(),
        }
    }
}

impl<F> Default for Outbox<F> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), sent: 0, unsent: 0, spare: Vec::new() }
    }
}

impl<F: AsRef<[u8]> + Clone> Outbox<F> {
    /// A large frame's clone waits.
    pub(super) fn push_clone(&mut self, head: Head, frame: &F) {
        if frame.as_ref().len() < LARGE {
            self.push_copy(head, frame.as_ref());
        } else {
            self.push_large(head, frame.clone());
        }
    }
}

impl<F: AsRef<[u8]>> Outbox<F> {
    pub(super) fn push_raw(&mut self, bytes: &[u8]) {
        self.unsent += bytes.len();
        self.gathered(bytes.len()).extend(bytes);
    }

    pub(super) fn push_frame(&mut self, head: Head, frame: impl AsRef<[u8]> + Into<F>) {
        if frame.as_ref().len() < LARGE {
            self.push_copy(head, frame.as_ref());
        } else {
            self.push_large(head, frame.into());
        }
    }

    pub(super) fn push_copy(&mut self, head: Head, bytes: &[u8]) {
        let gathered = self.gathered(HEAD_LIMIT + bytes.len());
        let before = gathered.len();
        head.encode(gathered);
        gathered.extend(bytes);
        let grown = gathered.len() - before;
        self.unsent += grown;
    }

    fn push_large(&mut self, head: Head, frame: F) {
        let gathered = self.gathered(HEAD_LIMIT);
        let before = gathered.len();
        head.encode(gathered);
        let grown = gathered.len() - before;
        self.unsent += grown + frame.as_ref().len();
        self.pieces.push_back(Piece::Large(frame));
    }

    /// Where small things go, with room for so many bytes.
    fn gathered(&mut self, room: usize) -> &mut Vec<u8> {
        let full = match self.pieces.back() {
            Some(Piece::Gathered(bytes)) => PIECE < bytes.len() + room,
            Some(Piece::Large(_)) | None => true,
        };
        if full {
            self.pieces.push_back(Piece::Gathered(std::mem::take(&mut self.spare)));
        }
        match self.pieces.back_mut() {
            Some(Piece::Gathered(bytes)) => bytes,
            // Pushed above; a spare buffer is as good as any if that could ever be untrue.
            Some(Piece::Large(_)) | None => &mut self.spare,
        }
    }

    pub(super) fn unsent(&self) -> impl Iterator<Item = &[u8]> {
        let skips = std::iter::once(self.sent).chain(std::iter::repeat(0));
        self.pieces.iter().zip(skips).map(|(piece, skip)| piece.bytes().get(skip..).unwrap_or_default())
    }

    pub(super) fn unsent_bytes(&self) -> usize {
        self.unsent
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.unsent = self.unsent.saturating_sub(count);
        self.sent += count;
        while let Some(first) = self.pieces.front() {
            let len = first.bytes().len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            if let Some(Piece::Gathered(mut bytes)) = self.pieces.pop_front() {
                bytes.clear();
                // One frame just below the limit may have made it larger than a piece.
                if self.spare.capacity() < bytes.capacity() && bytes.capacity() <= 2 * PIECE {
                    self.spare = bytes;
                }
            }
        }
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outbox: &Outbox<Vec<u8>>) -> Vec<u8> {
        outbox.unsent().flatten().copied().collect()
    }

    #[test]
    fn small_frames_are_gathered_and_large_ones_are_not_copied() {
        let mut outbox = Outbox::<Vec<u8>>::default();
        let large = vec![7; LARGE];
        let address = large.as_ptr();
        outbox.push_frame(Head::of_message(1, true), *b"a");
        outbox.push_frame(Head::of_message(1, true), *b"b");
        outbox.push_frame(Head::of_message(LARGE, false), large);
        let pieces: Vec<_> = outbox.unsent().collect();
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[0], b"\x01\x01a\x01\x01b\x02\0\0\0\0\0\0\x10\0");
        assert_eq!(pieces[1].as_ptr(), address);
        assert_eq!(outbox.unsent_bytes(), 15 + LARGE);
    }

    #[test]
    fn whatever_is_written_at_a_time_all_comes_once_and_in_order() {
        for step in [53, 100, 5000, 100_000] {
            let mut outbox = Outbox::<Vec<u8>>::default();
            for size in [3, 0, 5000, 1, 1, 4095, 4095, 4095, 4095, 4096] {
                outbox.push_frame(Head::of_message(size, false), vec![1; size]);
            }
            let whole = written(&outbox);
            let mut seen: Vec<u8> = Vec::new();
            while seen.len() < whole.len() {
                let left = written(&outbox);
                let count = left.len().min(step);
                seen.extend(&left[..count]);
                outbox.sent(count);
                assert_eq!(outbox.unsent_bytes(), whole.len() - seen.len());
            }
            assert!(seen == whole, "step {step}");
        }
    }
}
