//! Hornpipe: a ZeroMQ load-balancing broker with a preforked worker pool.
//!
//! *Core decides, router talks, parent breeds*: see `docs/ARCHITECTURE.md`.

#[doc(hidden)]
pub mod core;
pub mod config;
pub mod link;
pub mod logging;
pub mod parent;
mod router;
