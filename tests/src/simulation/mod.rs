//! A world for the core: clients, workers, a parent, operators and their
//! accidents, all virtual, all from one seed. `model` keeps the same books by
//! another hand, `laws` compares. Time jumps from one happening to the next.
//!
//! `run(seed, events)` is everything; a law that is broken panics with the seed
//! and the step, and the same two numbers play the same run again.

/// What must hold in the run of a model, or the run ends here.
macro_rules! law {
    ($model:expr, $holds:expr, $($why:tt)+) => {
        assert!($holds, "seed {} step {}: {}", $model.seed, $model.step, format_args!($($why)+))
    };
}

mod world;
mod faults;
mod crowd;
mod nursery;
mod peer;
mod workers;
mod calendar;
mod model;
mod clients;
mod ends;
mod parts;
mod streams;
mod ended;
mod quarantine;
mod books;
mod trial;
mod eras;
mod wishes;
mod laws;
mod checks;
mod order;
mod ahead;
mod renewal;
mod wear;
mod load;
mod early;
mod measures;
mod random;
mod report;
pub mod keys;
pub mod services;

use hornpipe::core::RequestId;

pub use report::Report;
pub use world::run;

/// Stands for the request in whose name a probe is made, which no client has sent.
const PROBE: RequestId = RequestId(0);

type Core = hornpipe::core::Core<Body>;

/// What stands for the bytes of a request or a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Body {
    /// The request that it belongs to.
    request: RequestId,
    /// 0 for the request; no two replies have the same.
    number: u64,
}
