//! In which order a list of pairs is visited.

use crate::random::shuffle;
use crate::random::{Purpose, Stream};

/// The second address word of permutations of a whole list; blocks of draws have 0.
const EPOCH: u32 = 1;

/// A list that is gone through again and again, in its own order or each time in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Pairs of the list.
    pub pairs: usize,
    /// Pairs that stay together; the list holds whole sets.
    pub set: usize,
    /// Seed of a permutation for each pass; none for the list's own order.
    pub shuffled: Option<u64>,
}

impl Order {
    /// The places in the list of `count` visits, from number `first` on.
    pub fn visits(&self, first: usize, count: usize) -> Vec<usize> {
        let mut pass = None;
        let visit = |number: usize| {
            let (own, place) = (number / self.pairs, number % self.pairs);
            if pass.as_ref().is_none_or(|(known, _)| *known != own) {
                pass = Some((own, self.pass(own)));
            }
            let sets = pass.as_ref().and_then(|(_, sets)| sets.as_deref());
            sets.map_or(place, |sets| {
                sets[place / self.set] as usize * self.set + place % self.set
            })
        };
        (first..first + count).map(visit).collect()
    }

    /// The order of the sets in a pass, unless it is the list's.
    fn pass(&self, number: usize) -> Option<Vec<u32>> {
        let seed = self.shuffled?;
        let mut sets: Vec<u32> = (0..(self.pairs / self.set) as u32).collect();
        let mut stream = Stream::new(seed, Purpose::Shuffle, number as u32, EPOCH, 0);
        shuffle(&mut sets, &mut stream);
        Some(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pass_visits_every_pair_once_in_another_order() {
        let order = Order {
            pairs: 30,
            set: 1,
            shuffled: Some(4),
        };
        let all = order.visits(0, 90);
        let passes: Vec<&[usize]> = all.chunks(30).collect();
        for pass in &passes {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..30).collect::<Vec<_>>());
        }
        assert!(passes[0] != passes[1] && passes[1] != passes[2]);
        assert_ne!(passes[0], (0..30).collect::<Vec<_>>());
        // However it is cut.
        let cut: Vec<usize> = (0..13).flat_map(|i| order.visits(7 * i, 7)).collect();
        assert_eq!(cut[..90], all);
    }

    #[test]
    fn sets_stay_together_and_a_plain_list_is_followed() {
        let order = Order {
            pairs: 12,
            set: 3,
            shuffled: Some(0),
        };
        for set in order.visits(12, 24).chunks(3) {
            assert!(set[0] % 3 == 0 && set[1] == set[0] + 1 && set[2] == set[0] + 2);
        }
        let plain = Order {
            shuffled: None,
            ..order
        };
        assert_eq!(plain.visits(10, 4), [10, 11, 0, 1]);
    }
}
