//! The last reply to a job with a key, until the broker certainly has it: a router that dies
//! with it unread asks for the same work again, and nobody could tell it that it is done.

/// What may have to be sent again.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<Vec<Vec<u8>>>);

impl Kept {
    /// A reply that is being sent.
    pub(crate) fn keep(&mut self, frames: &[Vec<u8>]) {
        self.0 = Some(frames.to_vec());
    }

    /// A job has come. It is given to a worker that has nothing in hand, so all that was
    /// replied before has been read.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// What to send over another connection.
    pub(crate) fn again(&self) -> Option<Vec<Vec<u8>>> {
        self.0.clone()
    }
}

/// A name that no other worker has. Who announces one promises to keep replies; where the kernel
/// gives no random bytes, nothing is promised.
pub(crate) fn draw_instance() -> Option<String> {
    let halves = [getrandom::u64().ok()?, getrandom::u64().ok()?];
    Some(halves.map(|half| format!("{half:016x}")).concat())
}
