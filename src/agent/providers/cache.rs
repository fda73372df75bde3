//! What providers have said, and how long it holds. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use oci::Credentials;

/// For which images an answer holds (`cacheKeyType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Image,
    Registry,
    Global,
}

/// What a provider said.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// By the places that they are for.
    pub(super) credentials: Vec<(String, Credentials)>,
    pub(super) scope: Scope,
    /// How long it holds; `None`: as long as the configuration says.
    pub(super) holds_for: Option<Duration>,
}

/// The answers of one provider that still hold.
#[derive(Default)]
pub(super) struct Cache {
    /// With the moment from which each no longer does.
    answers: BTreeMap<Key, (Answer, Duration)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    place: Place,
    /// For whom; empty: for everybody.
    whom: String,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Image(String),
    Registry(String),
    Global,
}

impl Key {
    fn of(scope: Scope, repository: &str, whom: &str) -> Key {
        let registry = repository.split('/').next().unwrap_or_default();
        let place = match scope {
            Scope::Image => Place::Image(repository.to_owned()),
            Scope::Registry => Place::Registry(registry.to_owned()),
            Scope::Global => Place::Global,
        };
        Key {
            place,
            whom: whom.to_owned(),
        }
    }
}

impl Cache {
    /// What was said about the repository to whom it may be told; what is about it alone comes first.
    pub(super) fn find(&self, repository: &str, whom: &str, now: Duration) -> Option<Answer> {
        let scopes = [Scope::Image, Scope::Registry, Scope::Global];
        let keys = scopes.map(|scope| Key::of(scope, repository, whom));
        let mut found = keys.iter().filter_map(|key| self.answers.get(key));
        found
            .find(|(_, end)| now < *end)
            .map(|(answer, _)| answer.clone())
    }

    /// Keeps what was said about it, unless it holds for no time at all.
    pub(super) fn keep(
        &mut self,
        (repository, whom): (&str, &str),
        answer: &Answer,
        default: Duration,
        now: Duration,
    ) {
        // What holds no longer would stay for ever if its image were never asked for again.
        self.answers.retain(|_, (_, end)| now < *end);
        let holds_for = answer.holds_for.unwrap_or(default);
        if holds_for.is_zero() {
            return;
        }
        let key = Key::of(answer.scope, repository, whom);
        self.answers
            .insert(key, (answer.clone(), now.saturating_add(holds_for)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Duration = Duration::from_secs(60);

    fn answer(scope: Scope, holds_for: Option<u64>, user: &str) -> Answer {
        let credentials = Credentials {
            username: user.to_owned(),
            password: String::new(),
        };
        Answer {
            credentials: vec![("r.io".to_owned(), credentials)],
            scope,
            holds_for: holds_for.map(Duration::from_secs),
        }
    }

    fn user(cache: &Cache, repository: &str, at: u64) -> Option<String> {
        let found = cache.find(repository, "", Duration::from_secs(at))?;
        Some(found.credentials[0].1.username.clone())
    }

    #[test]
    fn an_answer_holds_for_what_it_says_and_as_long() {
        let mut cache = Cache::default();
        let mut keep = |answer: Answer| cache.keep(("r.io:5000/a", ""), &answer, DEFAULT, Duration::ZERO);
        keep(answer(Scope::Image, Some(10), "image"));
        keep(answer(Scope::Registry, None, "registry"));
        keep(answer(Scope::Global, Some(100), "global"));
        let at = |repository, at| user(&cache, repository, at).unwrap_or_default();
        assert_eq!(at("r.io:5000/a", 9), "image");
        assert_eq!(at("r.io:5000/a", 10), "registry");
        assert_eq!(at("r.io:5000/b", 0), "registry");
        assert_eq!(at("r.io/a", 0), "global");
        assert_eq!(at("r.io:5000/a", 60), "global");
        assert_eq!(at("r.io:5000/a", 100), "");
    }

    #[test]
    fn what_was_said_to_one_account_is_told_to_no_other() {
        let mut cache = Cache::default();
        let said = answer(Scope::Global, None, "x");
        cache.keep(("r.io/a", "bot"), &said, DEFAULT, Duration::ZERO);
        let found = |whom| cache.find("r.io/b", whom, Duration::ZERO).is_some();
        assert_eq!([found("bot"), found("other"), found("")], [true, false, false]);
    }

    #[test]
    fn what_holds_no_longer_goes_and_what_never_does_is_not_kept() {
        let mut cache = Cache::default();
        cache.keep(
            ("r.io/a", ""),
            &answer(Scope::Image, Some(0), "x"),
            DEFAULT,
            Duration::ZERO,
        );
        assert!(cache.answers.is_empty());
        cache.keep(
            ("r.io/a", ""),
            &answer(Scope::Image, None, "x"),
            Duration::ZERO,
            Duration::ZERO,
        );
        assert!(cache.answers.is_empty());
        cache.keep(
            ("r.io/a", ""),
            &answer(Scope::Image, None, "x"),
            DEFAULT,
            Duration::ZERO,
        );
        cache.keep(("r.io/b", ""), &answer(Scope::Image, None, "x"), DEFAULT, DEFAULT);
        assert_eq!(cache.answers.len(), 1);
    }
}
