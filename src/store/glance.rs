//! Whether two values have the same keys, as far as that can be told without making sets of them.
#![forbid(unsafe_code)]

/// What a look at keys in their order says of the sets of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glanced {
    Same,
    Different,
    /// They come in another order, or more than once, or one by one they differ.
    Unclear,
}

impl Glanced {
    /// Of the keys of two values.
    pub(super) fn of<K: Eq>(
        old: impl IntoIterator<Item = K>,
        new: impl IntoIterator<Item = K>,
    ) -> Self {
        let (mut old, mut new) = (old.into_iter(), new.into_iter());
        let mut pair = (old.next(), new.next());
        if pair.0 != pair.1 {
            // One key at most on either side.
            let is_all = (pair.0.is_none() || old.next().is_none())
                && (pair.1.is_none() || new.next().is_none());
            return if is_all {
                Glanced::Different
            } else {
                Glanced::Unclear
            };
        }
        while pair.0.is_some() && pair.0 == pair.1 {
            pair = (old.next(), new.next());
        }
        if pair.0 == pair.1 {
            Glanced::Same
        } else {
            Glanced::Unclear
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glanced::{self, Different, Same, Unclear};
    use std::collections::BTreeSet;

    #[test]
    fn a_glance_says_nothing_that_sets_would_deny() {
        let all = |digits: u32| -> Vec<u32> {
            let digit = |at: u32| (digits / 4_u32.pow(at)) % 4;
            (0..3).map(digit).take_while(|digit| *digit > 0).collect()
        };
        for (old, new) in (0..64).flat_map(|old| (0..64).map(move |new| (all(old), all(new)))) {
            let set = |keys: &[u32]| keys.iter().copied().collect::<BTreeSet<_>>();
            match Glanced::of(&old, &new) {
                Same => assert_eq!(set(&old), set(&new)),
                Different => assert_ne!(set(&old), set(&new)),
                Unclear => {}
            }
        }
        assert_eq!(Glanced::of(Some(1), Some(1)), Same);
        assert_eq!(Glanced::of(None, None::<u32>), Same);
        assert_eq!(Glanced::of(Some(1), Some(2)), Different);
        assert_eq!(Glanced::of(None, Some(2)), Different);
        assert_eq!(Glanced::of([1, 2], [2, 1]), Unclear);
    }
}
