//! What a client was told, kept beside the server that told it: after each
//! crash of the server its state is compared with this.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What an object must be like: its contents, or `None` for one that must not be there.
pub type Contents = Option<String>;

/// What is known of one object.
#[derive(Clone, Debug, Default)]
struct Known {
    contents: Contents,
    uid: String,
    /// The revision of the last acknowledged write.
    revision: u64,
    /// A write that was not answered: the server may have carried it out or not.
    doubtful: Option<Contents>,
}

/// Everything that was acknowledged, by the object's name.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Whether others change the objects too, if not what counts of them: their status, say.
    shared: bool,
    objects: BTreeMap<String, Known>,
    /// Revisions of acknowledged writes, and of which object.
    acknowledged: HashMap<u64, String>,
    highest: u64,
}

/// An object as the server shows it.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Revision of its last change.
    pub revision: u64,
    /// What is in it.
    pub contents: String,
}

impl Ledger {
    /// A ledger of objects that others change too, but not what counts of them.
    pub fn shared() -> Self {
        Self {
            shared: true,
            ..Self::default()
        }
    }

    /// The highest revision that was acknowledged.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether a write to that object is still in doubt.
    pub fn doubts(&self, name: &str) -> bool {
        self.objects
            .get(name)
            .is_some_and(|known| known.doubtful.is_some())
    }

    /// What is acknowledged of an object.
    pub fn contents(&self, name: &str) -> Contents {
        self.objects.get(name).and_then(|known| known.contents.clone())
    }

    /// A write is about to be sent. If no answer comes, it stays in doubt.
    pub fn sent(&mut self, name: &str, contents: Contents) {
        self.objects.entry(name.to_owned()).or_default().doubtful = Some(contents);
    }

    /// The server refused: nothing happened.
    pub fn refused(&mut self, name: &str) {
        self.objects.entry(name.to_owned()).or_default().doubtful = None;
    }

    /// The server acknowledged. `started_at` is [`Ledger::highest`] when the write was sent.
    pub fn done(&mut self, shown: Option<&Shown>, name: &str, started_at: u64) -> Result<(), String> {
        let known = self.objects.entry(name.to_owned()).or_default();
        let contents = known.doubtful.take().flatten();
        let Some(shown) = shown else {
            *known = Known::default();
            return Ok(());
        };
        if contents.as_deref() != Some(&shown.contents) {
            return Err(format!("{name}: sent {contents:?}, got back {shown:?}"));
        }
        if shown.revision <= known.revision || shown.revision <= started_at {
            return Err(format!(
                "{name}: a write after revision {started_at} got {}, the one before {}",
                shown.revision, known.revision
            ));
        }
        *known = Known {
            contents,
            uid: shown.uid.clone(),
            revision: shown.revision,
            doubtful: None,
        };
        self.highest = self.highest.max(shown.revision);
        match self.acknowledged.insert(shown.revision, name.to_owned()) {
            None => Ok(()),
            Some(other) => Err(format!(
                "revision {} was given to {other} and to {name}",
                shown.revision
            )),
        }
    }

    /// Compares everything with what the server shows at `revision`, and takes
    /// over what became of the doubtful.
    pub fn check(&mut self, shown: &[Shown], revision: u64) -> Result<(), String> {
        if revision < self.highest {
            return Err(format!(
                "the server is at revision {revision}, it has acknowledged {}",
                self.highest
            ));
        }
        let mut names = BTreeSet::new();
        for object in shown {
            if !names.insert(object.name.clone()) {
                return Err(format!("{} is there twice", object.name));
            }
            let known = self
                .objects
                .get_mut(&object.name)
                .ok_or_else(|| format!("nobody made {object:?}"))?;
            known.agree(object, self.shared)?;
        }
        let missing = self.objects.iter_mut().filter(|(name, _)| !names.contains(*name));
        missing
            .into_iter()
            .try_for_each(|(name, known)| known.be_missing(name))
    }

    /// Compares one object with what the server shows of it, and takes over
    /// what became of a doubtful write.
    pub fn settle(&mut self, name: &str, shown: Option<&Shown>) -> Result<(), String> {
        let known = self.objects.entry(name.to_owned()).or_default();
        match shown {
            Some(object) => known.agree(object, self.shared),
            None => known.be_missing(name),
        }
    }

    /// Fails unless a watch has told of every acknowledged write.
    pub fn all_told(&self, told: &BTreeMap<u64, String>) -> Result<(), String> {
        for (revision, name) in &self.acknowledged {
            match told.get(revision) {
                Some(found) if found == name => {}
                other => return Err(format!("{name} at {revision} was told as {other:?}")),
            }
        }
        Ok(())
    }
}

impl Known {
    fn be_missing(&mut self, name: &str) -> Result<(), String> {
        if self.contents.is_some() && self.doubtful != Some(None) {
            return Err(format!("{name} is lost: {self:?}"));
        }
        *self = Known::default();
        Ok(())
    }

    fn agree(&mut self, object: &Shown, shared: bool) -> Result<(), String> {
        let as_known = self.contents.as_deref() == Some(&object.contents);
        let as_doubted = self
            .doubtful
            .as_ref()
            .is_some_and(|c| c.as_deref() == Some(&object.contents));
        let untouched = object.revision == self.revision || (shared && object.revision > self.revision);
        if as_known && object.uid == self.uid && untouched {
            self.doubtful = None;
            return Ok(());
        }
        // A doubtful write came through: the same object, later, or another one of its name.
        let same = self.uid.is_empty() || object.uid == self.uid;
        if as_doubted && same && object.revision > self.revision {
            *self = Known {
                contents: Some(object.contents.clone()),
                uid: object.uid.clone(),
                revision: object.revision,
                doubtful: None,
            };
            return Ok(());
        }
        Err(format!("{object:?} should be {self:?}"))
    }
}
