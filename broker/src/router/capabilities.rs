//! What the linked libzmq can do, and what does not work without it.

/// Older ones lose metadata of polled messages and fail when a signal comes in.
const OLDEST: (i32, i32, i32) = (4, 3, 5);

/// Logs what is missing; `Err` if nothing would work.
pub(super) fn check() -> Result<(), super::setup::RouterError> {
    let version = zmq::version();
    if zmq::has("draft") != Some(true) {
        return Err(super::setup::RouterError::NoDrafts);
    }
    if version < OLDEST {
        let (major, minor, patch) = version;
        tracing::warn!(
            version = format!("{major}.{minor}.{patch}"),
            "old libzmq: the backend cannot tell local from remote workers; build with the zmq-sys of this project"
        );
    }
    if zmq::has("curve") != Some(true) {
        tracing::warn!("libzmq without curve: keys cannot be used; build zmq-sys with its feature `curve`");
    }
    Ok(())
}
