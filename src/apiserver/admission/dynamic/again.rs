//! Who is asked a second time because the object changed after their turn (`reinvocationPolicy`). Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// What happened in the first round, and what that means for the second one.
#[derive(Default)]
pub struct Again {
    second: bool,
    /// Those who wish to be asked again, and have been asked.
    asked: BTreeSet<String>,
    /// Those for whom the object has changed since.
    due: BTreeSet<String>,
    /// The object as the first round left it.
    left: Value,
}

impl Again {
    /// Begins a round; in the second one others may have changed the object in between.
    pub fn begin(&mut self, second: bool, object: &Value) {
        self.second = second;
        if second && *object != self.left {
            self.due.append(&mut self.asked);
        }
    }

    /// Ends a round.
    pub fn end(&mut self, object: &Value) {
        self.left = object.clone();
    }

    /// The number of the round, as audit annotations have it.
    pub fn round(&self) -> usize {
        usize::from(self.second)
    }

    /// Whether it is not somebody's turn: in the second round nobody is asked for the first time.
    pub fn skips(&self, who: &str) -> bool {
        self.second && !self.due.contains(who)
    }

    /// Somebody has been asked.
    pub fn asked(&mut self, who: &str, wishes_again: bool, changed: bool) {
        if changed {
            self.due.append(&mut self.asked);
        }
        if wishes_again {
            self.asked.insert(who.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_before_a_change_are_asked_again() {
        let mut again = Again::default();
        again.begin(false, &json!(1));
        assert!(!again.skips("a"));
        again.asked("a", true, true);
        again.asked("b", false, false);
        again.asked("c", true, true);
        again.end(&json!(2));
        again.begin(true, &json!(2));
        assert!(!again.skips("a"), "c changed it after a");
        assert!(again.skips("b"), "it does not wish to");
        assert!(again.skips("c"), "nothing changed after it");
        again.begin(true, &json!(3));
        assert!(!again.skips("c"), "plugins changed it");
    }
}
