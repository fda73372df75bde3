//! The steps by which a secret gets another one in its place. Pure, but for the making of keys.

use jiff::Timestamp;

use super::PkiError;
use super::trust::{Item, Secret, State, Trust};

/// The tokens that pods get live for so long, and somewhat more (`admission::service_account`).
pub const POD_TOKEN_SECONDS: i64 = 3_700;

/// What is done with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another one is made, and trusted.
    Prepare,
    /// What was prepared signs from now on; the old one is still trusted.
    Activate,
    /// The old one is trusted no more.
    Retire,
    /// What was prepared is thrown away.
    Cancel,
    /// A token: another one at once, the old one good for so many seconds more.
    Rotate {
        /// Seconds; 0 for not at all.
        grace: i64,
    },
}

impl Step {
    /// The step of that name.
    pub fn named(name: &str, grace: i64) -> Option<Self> {
        Some(match name {
            "prepare" => Self::Prepare,
            "activate" => Self::Activate,
            "retire" => Self::Retire,
            "cancel" => Self::Cancel,
            "rotate" => Self::Rotate { grace },
            _ => return None,
        })
    }

    /// Whether everybody must have taken up the step before, for this one to leave nobody behind.
    pub fn waits_for_all(self) -> bool {
        matches!(self, Self::Activate | Self::Retire)
    }
}

/// Why a step is not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It is not its turn; the text says whose it is.
    #[error("{0}")]
    OutOfOrder(String),
    /// A key could not be made.
    #[error(transparent)]
    Make(#[from] PkiError),
}

fn out_of_order(why: String) -> StepError {
    StepError::OutOfOrder(why)
}

impl Trust {
    /// The document after a step with those secrets. `force` is for what would take a pod's way in.
    ///
    /// # Errors
    /// When it is not the turn of that step.
    pub fn after(
        &self,
        step: Step,
        secrets: &[Secret],
        force: bool,
        now: Timestamp,
    ) -> Result<Self, StepError> {
        let mut next = self.clone();
        next.generation += 1;
        for secret in secrets {
            match step {
                Step::Prepare => next.prepare(*secret, now)?,
                Step::Activate => next.activate(*secret, now)?,
                Step::Retire => next.retire(*secret, force, now)?,
                Step::Cancel => next.cancel(*secret)?,
                Step::Rotate { grace } => next.rotate(*secret, grace, now)?,
            }
        }
        Ok(next)
    }

    fn items_of(&mut self, secret: Secret) -> &mut Vec<Item> {
        self.items.entry(secret).or_default()
    }

    fn prepare(&mut self, secret: Secret, now: Timestamp) -> Result<(), StepError> {
        let name = secret.name();
        if secret.role().is_some() {
            let why = format!("{name} is changed in one step: rotate it");
            return Err(out_of_order(why));
        }
        if self.in_state(secret, State::Next).is_some() {
            let why = format!("another {name} is prepared already: activate it, or cancel");
            return Err(out_of_order(why));
        }
        if self.in_state(secret, State::Retiring).is_some() {
            let why = format!("the {name} before this one is still trusted: retire it first");
            return Err(out_of_order(why));
        }
        let made = Item::make(secret, now)?;
        self.items_of(secret).push(made);
        Ok(())
    }

    fn activate(&mut self, secret: Secret, now: Timestamp) -> Result<(), StepError> {
        if self.in_state(secret, State::Next).is_none() {
            let why = format!("no other {} is prepared: prepare it first", secret.name());
            return Err(out_of_order(why));
        }
        for item in self.items_of(secret) {
            item.state = match item.state {
                State::Next => State::Active,
                State::Active | State::Retiring => State::Retiring,
            };
            item.since = now.as_second();
        }
        Ok(())
    }

    fn retire(&mut self, secret: Secret, force: bool, now: Timestamp) -> Result<(), StepError> {
        let (name, now) = (secret.name(), now.as_second());
        let Some(old) = self.in_state(secret, State::Retiring) else {
            let why = match self.in_state(secret, State::Next) {
                Some(_) => format!("the new {name} does not sign yet: activate it first"),
                None => format!("no {name} is retiring: prepare and activate another one first"),
            };
            return Err(out_of_order(why));
        };
        let wait = old.since + POD_TOKEN_SECONDS - now;
        if secret == Secret::ServiceAccountKey && wait > 0 && !force {
            let why = format!(
                "pods may still hold tokens that the old {name} has signed: wait {wait} seconds until they have got new \
                 ones, or force it if the key has leaked"
            );
            return Err(out_of_order(why));
        }
        if secret == Secret::ServingCa {
            let hashes: Vec<String> = self.hashes(State::Retiring);
            self.past.extend(hashes);
        }
        self.items_of(secret).retain(|item| item.state != State::Retiring);
        Ok(())
    }

    fn cancel(&mut self, secret: Secret) -> Result<(), StepError> {
        if self.in_state(secret, State::Next).is_none() {
            let why = format!(
                "no other {} is prepared: there is nothing to cancel",
                secret.name()
            );
            return Err(out_of_order(why));
        }
        self.items_of(secret).retain(|item| item.state != State::Next);
        Ok(())
    }

    fn rotate(&mut self, secret: Secret, grace: i64, now: Timestamp) -> Result<(), StepError> {
        if secret.role().is_none() {
            let why = format!(
                "{} is changed in steps, so that nobody is left behind: prepare, activate, retire",
                secret.name()
            );
            return Err(out_of_order(why));
        }
        let mut made = Item::make(secret, now)?;
        made.state = State::Active;
        let now = now.as_second();
        let items = self.items_of(secret);
        for item in items.iter_mut().filter(|item| item.state == State::Active) {
            item.state = State::Retiring;
            item.since = now;
            item.until = Some(now.saturating_add(grace));
        }
        items.retain(|item| !item.is_over(now));
        items.push(made);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Trust {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pki")).unwrap();
        Trust::open(dir.path(), at(0)).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn states(trust: &Trust, secret: Secret) -> Vec<State> {
        trust.of(secret).iter().map(|item| item.state).collect()
    }

    fn refused(trust: &Trust, step: Step, secret: Secret) -> String {
        match trust.after(step, &[secret], false, at(9)) {
            Err(StepError::OutOfOrder(why)) => why,
            other => panic!(
                "{step:?} was not refused: {:?}",
                other.map(|trust| trust.generation)
            ),
        }
    }

    #[test]
    fn an_authority_is_replaced_step_by_step_and_in_no_other_order() {
        let ca = Secret::ServingCa;
        let first = fresh();
        let old = first.active(ca).unwrap().id();
        assert!(refused(&first, Step::Activate, ca).contains("prepare it first"));
        assert!(refused(&first, Step::Retire, ca).contains("prepare and activate"));
        assert!(refused(&first, Step::Cancel, ca).contains("nothing to cancel"));
        assert!(refused(&first, Step::Rotate { grace: 0 }, ca).contains("in steps"));

        let prepared = first.after(Step::Prepare, &[ca], false, at(1)).unwrap();
        assert_eq!(prepared.generation, 1);
        assert_eq!(states(&prepared, ca), [State::Active, State::Next]);
        assert_eq!(prepared.active(ca).unwrap().id(), old);
        assert!(refused(&prepared, Step::Prepare, ca).contains("prepared already"));
        assert!(refused(&prepared, Step::Retire, ca).contains("activate it first"));
        let cancelled = prepared.after(Step::Cancel, &[ca], false, at(2)).unwrap();
        assert_eq!(cancelled.of(ca).len(), 1);

        let active = prepared.after(Step::Activate, &[ca], false, at(3)).unwrap();
        assert_eq!(states(&active, ca), [State::Retiring, State::Active]);
        assert_ne!(active.active(ca).unwrap().id(), old);
        assert!(refused(&active, Step::Prepare, ca).contains("retire it first"));
        let bundle = active.bundle(ca);
        assert!(bundle.starts_with(&active.active(ca).unwrap().certificate));
        assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 2);

        let done = active.after(Step::Retire, &[ca], false, at(4)).unwrap();
        assert_eq!(states(&done, ca), [State::Active]);
        assert_eq!(done.past, [first.serving_hash()], "old tokens name it");
    }

    #[test]
    fn tokens_are_replaced_at_once_and_the_old_one_ends_with_its_grace() {
        let first = fresh();
        let token = Secret::AgentToken;
        assert!(refused(&first, Step::Prepare, token).contains("rotate it"));
        let hard = first
            .after(Step::Rotate { grace: 0 }, &[token], false, at(1))
            .unwrap();
        assert_eq!(states(&hard, token), [State::Active]);
        assert_ne!(hard.active(token).unwrap().key, first.active(token).unwrap().key);
        let soft = hard
            .after(Step::Rotate { grace: 60 }, &[token], false, at(2))
            .unwrap();
        assert_eq!(states(&soft, token), [State::Retiring, State::Active]);
        let old = &soft.of(token)[0];
        assert!(!old.is_over(at(61).as_second()) && old.is_over(at(62).as_second()));
        // Another one while the grace lasts: both are good until theirs ends. After it, the old one is gone.
        let twice = soft
            .after(Step::Rotate { grace: 5 }, &[token], false, at(3))
            .unwrap();
        assert_eq!(twice.of(token).len(), 3);
        let late = soft
            .after(Step::Rotate { grace: 5 }, &[token], false, at(100))
            .unwrap();
        assert_eq!(late.of(token).len(), 2);
        let hurry = soft.after(Step::Retire, &[token], false, at(3)).unwrap();
        assert_eq!(hurry.of(token).len(), 1);
    }

    #[test]
    fn the_key_of_tokens_stays_good_while_pods_may_have_such_tokens() {
        let key = Secret::ServiceAccountKey;
        let step = |trust: &Trust, step, second| trust.after(step, &[key], false, at(second));
        let prepared = step(&fresh(), Step::Prepare, 1).unwrap();
        let active = step(&prepared, Step::Activate, 2).unwrap();
        assert!(refused(&active, Step::Retire, key).contains("wait 3693 seconds"));
        assert_eq!(
            active
                .after(Step::Retire, &[key], true, at(3))
                .unwrap()
                .of(key)
                .len(),
            1
        );
        assert_eq!(step(&active, Step::Retire, 4_000).unwrap().of(key).len(), 1);
    }

    #[test]
    fn the_document_is_read_as_it_was_written_and_a_newer_one_refused() {
        let trust = fresh();
        assert!(Trust::parse(trust.text().as_bytes()).unwrap() == trust);
        let newer = trust.text().replacen("\"version\":1", "\"version\":2", 1);
        assert!(Trust::parse(newer.as_bytes()).err().unwrap().contains("newer"));
        assert!(Trust::parse(br#"{"version":1,"generation":1,"seal":"","items":{}}"#).is_err());
        assert!(Trust::parse(b"x").is_err());
    }
}
