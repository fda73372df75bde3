//! Admission of one request: plugins, then those whom users configured.

use std::time::{Duration, Instant};

use api::status::Status;
use serde_json::Value;

use crate::admission::dynamic::settled::settled;
use crate::admission::metrics::{Phase, Taken};
use crate::admission::{Operation, Plugin, Review};

use super::{Core, scale};

impl Core {
    /// Lets everybody concerned complete the object or refuse the request; the second time plugins see what
    /// others made of it.
    pub(super) async fn admit(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let (began, operation) = (Instant::now(), review.operation);
        let admitted = self.admit_uncounted(review).await;
        let took = taken(Phase::Admit, operation, &admitted, began.elapsed());
        self.inner.admission.step(took);
        admitted
    }

    async fn admit_uncounted(&self, review: &mut Review<'_>) -> Result<(), Status> {
        self.plug_in(review)?;
        let dynamic = &self.inner.dynamic;
        if review.subresource == "scale" {
            return self.admit_scale(review).await;
        }
        let Some(mut turn) = dynamic.mutators(review) else {
            return Ok(());
        };
        if turn.mutate(review, self).await? {
            self.plug_in(review)?;
            turn.mutate(review, self).await?;
        }
        Ok(())
    }

    /// Both: for what is not changed any more between the two.
    pub(super) async fn admit_at_once(&self, review: &mut Review<'_>) -> Result<(), Status> {
        self.admit(review).await?;
        self.admit_finally(review).await
    }

    fn plug_in(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let operation = review.operation;
        self.each_plugin(Phase::Admit, operation, |plugin| plugin.admit(review, self))
    }

    /// Gives plugins their turns, until one refuses the request.
    fn each_plugin(
        &self,
        phase: Phase,
        operation: Operation,
        mut turn: impl FnMut(&dyn Plugin) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut began = Instant::now();
        for (place, plugin) in self.inner.plugins.iter().enumerate() {
            let done = turn(&**plugin);
            let now = Instant::now();
            let took = taken(phase, operation, &done, now - began);
            self.inner.admission.plugin(place, took);
            done?;
            began = now;
        }
        Ok(())
    }

    /// Whoever is asked about a scale is shown one, not the object that it belongs to.
    async fn admit_scale(&self, review: &mut Review<'_>) -> Result<(), Status> {
        let (mut new, old) = scales(review)?;
        let mut shown = shown(review, new.as_mut(), old.as_ref());
        let Some(mut turn) = self.inner.dynamic.mutators(&shown) else {
            return Ok(());
        };
        if turn.mutate(&mut shown, self).await? {
            turn.mutate(&mut shown, self).await?;
        }
        if let (Some(new), Some(object)) = (&new, review.object.as_deref_mut()) {
            *object = scale::merge(&review.kind, object, new);
        }
        Ok(())
    }

    /// Lets everybody whom users configured refuse a stream. What they would change of what is wanted is not
    /// heeded.
    ///
    /// # Errors
    /// The refusal.
    pub async fn admit_stream(&self, mut review: Review<'_>) -> Result<(), Status> {
        let dynamic = &self.inner.dynamic;
        if let Some(mut turn) = dynamic.mutators(&review) {
            turn.mutate(&mut review, self).await?;
        }
        dynamic.validate(&review, self).await
    }

    /// Lets everybody concerned refuse the request.
    pub(super) async fn admit_finally(&self, review: &Review<'_>) -> Result<(), Status> {
        let began = Instant::now();
        let admitted = self.admit_finally_uncounted(review).await;
        let took = taken(Phase::Validate, review.operation, &admitted, began.elapsed());
        self.inner.admission.step(took);
        admitted
    }

    async fn admit_finally_uncounted(&self, review: &Review<'_>) -> Result<(), Status> {
        // Who may do what is for others to say, too, and plugins do not wait.
        let validated = settled(self, |world| {
            self.each_plugin(Phase::Validate, review.operation, |plugin| {
                plugin.validate(review, world)
            })
        });
        validated.await?;
        if review.subresource != "scale" {
            return self.inner.dynamic.validate(review, self).await;
        }
        let (mut new, old) = scales(review)?;
        let shown = shown(review, new.as_mut(), old.as_ref());
        self.inner.dynamic.validate(&shown, self).await
    }
}

fn taken(phase: Phase, operation: Operation, done: &Result<(), Status>, took: Duration) -> Taken {
    Taken {
        phase,
        operation,
        rejected: done.is_err(),
        took,
    }
}

fn scales(review: &Review<'_>) -> Result<(Option<Value>, Option<Value>), Status> {
    let view = |value: &Value| scale::view(&review.kind, value);
    let new = review.object.as_deref().map(view).transpose()?;
    Ok((new, review.old.map(view).transpose()?))
}

/// The same review of other objects.
fn shown<'a>(review: &Review<'a>, object: Option<&'a mut Value>, old: Option<&'a Value>) -> Review<'a> {
    Review {
        operation: review.operation,
        kind: review.kind.clone(),
        subresource: review.subresource,
        namespace: review.namespace,
        name: review.name,
        user: review.user,
        options: review.options,
        notes: review.notes,
        object,
        old,
    }
}
