//! Which container has processors for itself. Pure.

use serde::{Deserialize, Serialize};

use super::set::CpuSet;

/// Processors of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// UID of its pod.
    pub uid: String,
    /// Its name.
    pub container: String,
    /// The processors, as the kernel writes them.
    pub cpus: String,
}

impl Given {
    fn set(&self) -> CpuSet {
        self.cpus.parse().unwrap_or_default()
    }
}

/// All processors of the machine, and who has some for itself.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    all: CpuSet,
    /// Given to nobody for itself.
    reserved: CpuSet,
    given: Vec<Given>,
}

impl Pool {
    /// A pool in which this has been given. What the machine has no more, or what is reserved by now, was not.
    pub fn new(all: CpuSet, reserved: CpuSet, given: Vec<Given>) -> Pool {
        let free = all.without(&reserved);
        let mut given = given;
        given.retain(|given| given.set().is_within(&free));
        Pool { all, reserved, given }
    }

    /// All that has been given.
    pub fn given(&self) -> &[Given] {
        &self.given
    }

    /// What those use that have none for themselves.
    pub fn shared(&self) -> CpuSet {
        let mut given = self.given.iter().map(Given::set);
        let taken = given.by_ref().fold(CpuSet::default(), |all, one| all.with(&one));
        self.all.without(&taken)
    }

    /// What a container runs on: its own, or what all share.
    pub fn of(&self, uid: &str, container: &str) -> CpuSet {
        self.find(uid, container)
            .map_or_else(|| self.shared(), Given::set)
    }

    fn find(&self, uid: &str, container: &str) -> Option<&Given> {
        self.given
            .iter()
            .find(|given| given.uid == uid && given.container == container)
    }

    /// Gives a container processors, unless it has some; those of containers that have ended before it first.
    ///
    /// # Errors
    /// When there are too few, in the kubelet's words.
    pub fn give(
        &mut self,
        uid: &str,
        container: &str,
        before: &[String],
        wanted: usize,
    ) -> Result<(), String> {
        if self.find(uid, container).is_some() {
            return Ok(());
        }
        let ended = self
            .given
            .iter()
            .filter(|given| given.uid == uid && before.contains(&given.container));
        let again = ended
            .map(Given::set)
            .fold(CpuSet::default(), |all, one| all.with(&one));
        let free = self.shared().without(&self.reserved);
        let reused = again.first(wanted.min(again.len())).unwrap_or_default();
        let more = free.first(wanted - reused.len()).ok_or_else(|| {
            let available = free.len() + reused.len();
            format!("not enough cpus available to satisfy request: requested={wanted}, available={available}")
        })?;
        self.given.push(Given {
            uid: uid.to_owned(),
            container: container.to_owned(),
            cpus: reused.with(&more).to_string(),
        });
        Ok(())
    }

    /// Takes back what a pod has, or one container of it; whether it had some.
    pub fn take_back(&mut self, uid: &str, container: Option<&str>) -> bool {
        let before = self.given.len();
        let is_it = |given: &Given| given.uid == uid && container.is_none_or(|name| given.container == name);
        self.given.retain(|given| !is_it(given));
        self.given.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    #[test]
    fn who_has_some_for_itself_shares_with_nobody() {
        let mut pool = Pool::new(set("0-3"), set("0"), Vec::new());
        pool.give("p", "a", &[], 2).unwrap();
        assert_eq!(pool.of("p", "a"), set("1-2"));
        assert_eq!(pool.of("q", "other"), set("0,3"));
        // Nothing changes for who has some.
        pool.give("p", "a", &[], 2).unwrap();
        assert_eq!(
            pool.give("q", "b", &[], 2).unwrap_err(),
            "not enough cpus available to satisfy request: requested=2, available=1"
        );
        // One that begins after another has ended gets that one's.
        pool.give("p", "later", &["a".to_owned()], 3).unwrap();
        assert_eq!(pool.of("p", "later"), set("1-3"));
        assert_eq!(pool.shared(), set("0"));
        assert!(pool.take_back("p", Some("later")) && !pool.take_back("p", Some("later")));
        assert_eq!(pool.shared(), set("0,3"));
        assert!(pool.take_back("p", None));
        assert_eq!(pool.shared(), set("0-3"));
    }

    #[test]
    fn what_is_reserved_by_now_was_not_given() {
        let given = Given {
            uid: "p".to_owned(),
            container: "a".to_owned(),
            cpus: "1".to_owned(),
        };
        let pool = |reserved| Pool::new(set("0-1"), set(reserved), vec![given.clone()]);
        assert_eq!((pool("0").given().len(), pool("0-1").given().len()), (1, 0));
    }
}
