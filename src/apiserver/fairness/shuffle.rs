//! Shuffle sharding: which queues a flow may use. Pure.
//!
//! Each flow has a hand of a few queues, dealt from all of them by its hash. Two flows seldom have the same hand, so one
//! that fills its queues leaves most others a queue of their own.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The hash of a flow. `seed` is the server's own: nobody outside can choose a name that shares a hand with another's.
pub fn flow(seed: u64, schema: &str, distinguisher: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    schema.hash(&mut hasher);
    distinguisher.hash(&mut hasher);
    hasher.finish()
}

/// The cards of a hand: `hand` different numbers below `deck`, all of them when the deck has no more.
pub fn deal(hash: u64, deck: usize, hand: usize) -> impl Iterator<Item = usize> {
    let mut rest = hash;
    let mut dealt: Vec<usize> = Vec::with_capacity(hand.min(deck));
    (0..hand.min(deck)).map(move |already| {
        let left = (deck - already) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // The number counts only cards that are still in the deck; `dealt` is in order.
        let mut place = 0;
        while dealt.get(place).is_some_and(|gone| *gone <= card) {
            card += 1;
            place += 1;
        }
        dealt.insert(place, card);
        card
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hand(hash: u64, deck: usize, hand: usize) -> BTreeSet<usize> {
        deal(hash, deck, hand).collect()
    }

    #[test]
    fn hands_are_different_cards_of_the_deck() {
        for seed in 0..2_000 {
            let hash = flow(seed, "a", "b");
            let cards = hand(hash, 64, 6);
            assert_eq!(cards.len(), 6);
            assert!(cards.iter().all(|card| *card < 64));
        }
        assert_eq!(hand(flow(1, "a", ""), 3, 8), BTreeSet::from([0, 1, 2]));
        assert!(hand(7, 0, 4).is_empty());
    }

    #[test]
    fn every_card_comes_as_often_as_any_other() {
        let mut seen = [0_u32; 16];
        for user in 0..4_000 {
            for card in hand(flow(9, "schema", &user.to_string()), 16, 4) {
                seen[card] += 1;
            }
        }
        assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
    }

    #[test]
    fn few_flows_share_a_whole_hand_with_an_elephant() {
        let elephant = hand(flow(3, "s", "elephant"), 64, 6);
        let squeezed = (0..10_000)
            .filter(|mouse| hand(flow(3, "s", &mouse.to_string()), 64, 6).is_subset(&elephant))
            .count();
        assert!(squeezed <= 1, "{squeezed}");
    }

    #[test]
    fn a_flow_is_its_schema_and_its_distinguisher() {
        assert_ne!(flow(1, "ab", "c"), flow(1, "a", "bc"));
        assert_ne!(flow(1, "a", "b"), flow(2, "a", "b"));
        assert_eq!(flow(1, "a", "b"), flow(1, "a", "b"));
    }
}
