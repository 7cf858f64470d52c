//! What a client wants its worker to know beside the body: passed on, never read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes;

/// Names and values of more bytes than this, all together, are refused.
pub const HEADERS_BYTES: usize = 2048;

/// More headers than this are refused.
pub const HEADERS_COUNT: usize = 64;

/// Names with their values. A name that is given twice has the last of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(BTreeMap<String, Value>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Value(#[serde(with = "bytes")] Vec<u8>);

impl Headers {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one, in place of an earlier one of that name.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), Value(value.into()));
    }

    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.0.as_slice())
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.0.as_slice()))
    }

    /// Whether they are few and small enough to travel in a job's map.
    #[must_use]
    pub fn fit(&self) -> bool {
        let bytes: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.0.len() <= HEADERS_COUNT && bytes <= HEADERS_BYTES
    }
}

impl<N: Into<String>, V: Into<Vec<u8>>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(headers.into_iter().map(|(name, value)| (name.into(), Value(value.into()))).collect())
    }
}
