//! What the tests of this package share: real brokers and their clients in
//! `harness`, a virtual world for the core in `simulation`.

pub mod harness;
pub mod simulation;
