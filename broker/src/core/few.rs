//! Requests of one client, in the order of their numbers. Most clients have one, and some have
//! thousands, which end in about the order in which they began.

use std::collections::VecDeque;

use super::ids::RequestId;

/// One or more.
#[derive(Debug)]
pub(super) enum Few {
    One(RequestId),
    #[expect(clippy::box_collection, reason = "there are as many of these as clients, and most have one")]
    Many(Box<VecDeque<RequestId>>),
}

/// What a removal has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Some,
    None,
}

impl Few {
    pub(super) fn insert(&mut self, request: RequestId) {
        match self {
            Self::One(one) => {
                let earlier = *one;
                if earlier != request {
                    let both = [earlier.min(request), earlier.max(request)];
                    *self = Self::Many(Box::new(VecDeque::from(both)));
                }
            }
            Self::Many(many) if many.back().is_none_or(|last| *last < request) => many.push_back(request),
            Self::Many(many) => {
                if let Err(place) = many.binary_search(&request) {
                    many.insert(place, request);
                }
            }
        }
    }

    /// One that is there. Nothing happens if it is not. An empty one must be thrown away.
    pub(super) fn remove(&mut self, request: RequestId) -> Left {
        match self {
            Self::One(one) if *one == request => Left::None,
            Self::One(_) => Left::Some,
            Self::Many(many) => {
                if many.front() == Some(&request) {
                    many.pop_front();
                } else if let Ok(place) = many.binary_search(&request) {
                    many.remove(place);
                }
                // What thousands have needed is given back.
                if many.len() < many.capacity() / 8 && many.capacity() > 64 {
                    many.shrink_to(many.capacity() / 4);
                }
                if many.is_empty() { Left::None } else { Left::Some }
            }
        }
    }

    /// The one with the lowest number.
    pub(super) fn first(&self) -> Option<RequestId> {
        match self {
            Self::One(one) => Some(*one),
            Self::Many(many) => many.front().copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    /// All of them, the lowest number first.
    pub(super) fn iter(&self) -> impl Iterator<Item = RequestId> + '_ {
        let (one, many) = match self {
            Self::One(one) => (Some(*one), None),
            Self::Many(many) => (None, Some(many.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stay_in_order_however_they_come_and_go() {
        assert_eq!(size_of::<Few>(), 16);
        let mut few = Few::One(RequestId(5));
        for number in [9, 2, 7, 7, 1, 12] {
            few.insert(RequestId(number));
        }
        let numbers = |few: &Few| few.iter().map(|request| request.0).collect::<Vec<_>>();
        assert_eq!(numbers(&few), [1, 2, 5, 7, 9, 12]);
        assert_eq!((few.first(), few.len()), (Some(RequestId(1)), 6));
        for number in [7, 1, 3, 12, 5, 9] {
            assert_eq!(few.remove(RequestId(number)), Left::Some);
        }
        assert_eq!(numbers(&few), [2]);
        assert_eq!(few.remove(RequestId(2)), Left::None);
    }

    #[test]
    fn room_that_thousands_have_needed_is_given_back() {
        let mut few = Few::One(RequestId(0));
        (1..5000).for_each(|number| few.insert(RequestId(number)));
        assert!((0..4990).all(|number| few.remove(RequestId(number)) == Left::Some));
        let Few::Many(many) = few else { panic!("there were many") };
        assert!(many.capacity() < 256, "room for {}", many.capacity());
    }
}
