//! Connections of `zmtp` as their peers see them: any pieces, any rubbish, any library.
//!
//! `HPTEST_SEEDS=100000` plays that many random streams instead of the suite's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test's helper cannot read fails the test"
)]
#![expect(clippy::disallowed_methods, reason = "the number of seeds is in the environment")]

mod zmtp {
    mod beside_libzmq;
    mod random;
    mod refused;
    mod version_2;
}
