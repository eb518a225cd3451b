//! What a run's results depend on, by name, and whether two runs agree on it.

use std::collections::BTreeMap;

/// Facts by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// A fact on which two runs don't agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its name.
    pub(crate) key: String,
    /// What it was.
    pub(crate) was: String,
    /// What it is now.
    pub(crate) now: String,
}

/// The first difference between a run that was begun and one that is to go on with it; a fact that one
/// of them lacks is "nothing" there.
pub(crate) fn difference(was: &Facts, now: &Facts) -> Option<Difference> {
    let all = || was.keys().chain(now.keys());
    let key = all().find(|key| was.get(*key) != now.get(*key))?;
    let value = |facts: &Facts| facts.get(key).map_or("nothing", String::as_str).to_owned();
    Some(Difference {
        key: key.clone(),
        was: value(was),
        now: value(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_came_or_went_is_named() {
        let facts = |list: &[(&str, &str)]| -> Facts {
            let own = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
            list.iter().map(own).collect()
        };
        let one = facts(&[("a", "1"), ("b", "2")]);
        assert_eq!(difference(&one, &one), None);
        let named = |was: &Facts, now: &Facts| {
            let found = difference(was, now).unwrap();
            [found.key, found.was, found.now]
        };
        assert_eq!(
            named(&one, &facts(&[("a", "1"), ("b", "3")])),
            ["b", "2", "3"]
        );
        assert_eq!(named(&one, &facts(&[("a", "1")])), ["b", "2", "nothing"]);
        assert_eq!(named(&facts(&[("a", "1")]), &one), ["b", "nothing", "2"]);
    }
}
