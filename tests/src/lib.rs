//! What the tests of this package share: a virtual world for the core.

pub mod simulation;
