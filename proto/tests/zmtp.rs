//! Connections of `zmtp` as their peers see them: any pieces, any rubbish, any library.
//!
//! `HPTEST_SEEDS=100000` plays that many random streams instead of the suite's.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test's helper cannot read fails the test")]

mod zmtp {
    mod beside_libzmq;
    mod random;
    mod refused;
}
