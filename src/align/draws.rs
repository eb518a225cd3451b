//! How often the implied reward prefers the set that won its draw: the accuracy of the paper's Figure 8.
//!
//! A draw's pairs are trained on in different steps, unless the loss takes sets. So a set is counted in the
//! step that trains on the last of its pairs, with each pair's reward as it was when it was trained on: the
//! winners' set is preferred if its mean implied reward is above that of the losers' set. Ties count half.

use std::collections::BTreeMap;

/// What is known of a set whose pairs have not all been visited.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Seen {
    /// Pairs so far.
    pub pairs: u32,
    /// By how much their winners lead, added up, without β.
    pub lead: f64,
}

/// The sets of a list of pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Draws {
    /// Pairs of each draw.
    sizes: BTreeMap<u32, u32>,
    open: BTreeMap<u32, Seen>,
}

impl Draws {
    /// Draws of so many pairs each.
    pub fn new(sizes: BTreeMap<u32, u32>) -> Self {
        Self {
            sizes,
            open: BTreeMap::new(),
        }
    }

    /// Those with pairs still to come.
    pub fn open(&self) -> &BTreeMap<u32, Seen> {
        &self.open
    }

    /// Goes on from there.
    pub fn restore(&mut self, open: BTreeMap<u32, Seen>) {
        self.open = open;
    }

    /// Takes a step's pairs: the draw of each and by how much its winner leads. Gives the accuracy of the
    /// sets that end with them, if any does.
    pub fn see(&mut self, pairs: impl IntoIterator<Item = (u32, f64)>) -> Option<f64> {
        let (mut right, mut sets) = (0.0, 0u32);
        for (draw, lead) in pairs {
            let seen = self.open.entry(draw).or_default();
            seen.pairs += 1;
            seen.lead += lead;
            if self.sizes.get(&draw) == Some(&seen.pairs) {
                right += match seen.lead.partial_cmp(&0.0) {
                    Some(std::cmp::Ordering::Greater) => 1.0,
                    Some(std::cmp::Ordering::Equal) => 0.5,
                    _ => 0.0,
                };
                sets += 1;
                self.open.remove(&draw);
            }
        }
        (sets > 0).then(|| right / f64::from(sets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_when_its_last_pair_is_seen() {
        let mut draws = Draws::new(BTreeMap::from([(3, 2), (4, 2), (5, 1)]));
        assert_eq!(draws.see([(3, 1.0), (4, -2.0)]), None);
        assert_eq!(draws.open().len(), 2);
        let mut other = draws.clone();
        // One of two sets leads, though three of four pairs do.
        assert_eq!(draws.see([(4, 1.5), (3, 0.5)]), Some(0.5));
        assert!(draws.open().is_empty());
        assert_eq!(draws.see([(5, 0.0)]), Some(0.5), "a tie");
        // The next pass begins anew, and a resumed run goes on where it was.
        assert_eq!(draws.see([(3, -1.0)]), None);
        draws.restore(other.open().clone());
        assert_eq!(draws.see([(4, 2.5)]), Some(1.0));
        assert_eq!(other.see([(4, 2.5)]), Some(1.0));
    }
}
