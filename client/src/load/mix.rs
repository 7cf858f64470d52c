//! Several of a thing, each as often as its weight says.

use std::fmt;

/// Several of a thing, each as often as its weight says. At least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix<T> {
    /// Each with the sum of its weight and those before it.
    kinds: Vec<(T, u64)>,
}

/// There is nothing in it: no kinds, or no weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmptyMix;

impl<T> Mix<T> {
    /// Nothing but this.
    pub fn of(kind: T) -> Self {
        Self { kinds: vec![(kind, 1)] }
    }

    /// Each of these as often as its weight says.
    ///
    /// # Errors
    /// If there is none, or none with a weight.
    pub fn weighted(kinds: impl IntoIterator<Item = (T, u32)>) -> Result<Self, EmptyMix> {
        let mut sum = 0;
        let kinds = kinds.into_iter().filter(|(_, weight)| *weight > 0);
        let kinds: Vec<_> = kinds
            .map(|(kind, weight)| {
                sum += u64::from(weight);
                (kind, sum)
            })
            .collect();
        if kinds.is_empty() { Err(EmptyMix) } else { Ok(Self { kinds }) }
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &T> {
        self.kinds.iter().map(|(kind, _)| kind)
    }

    /// The kind that a number of 32 bits stands for; numbers at random give the mix.
    pub(super) fn pick(&self, number: u32) -> Option<&T> {
        let total = self.kinds.last().map_or(1, |(_, sum)| *sum);
        let place = (u64::from(number) * total) >> 32;
        self.kinds.iter().find(|(_, sum)| place < *sum).map(|(kind, _)| kind)
    }
}

impl fmt::Display for EmptyMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mix needs something with a weight of at least 1")
    }
}

impl std::error::Error for EmptyMix {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_as_often_as_its_weight_says() {
        let mix = Mix::weighted([('a', 1), ('b', 0), ('c', 3)]).unwrap();
        let picked: String = (0..8).map(|eighth: u32| *mix.pick(eighth << 29).unwrap()).collect();
        assert_eq!(picked, "aacccccc");
        assert_eq!(mix.pick(u32::MAX), Some(&'c'));
        assert_eq!(Mix::weighted([('a', 0)]), Err(EmptyMix));
    }
}
