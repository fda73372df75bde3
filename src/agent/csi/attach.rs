//! Waiting until a volume is attached to this node: the controller asks for it, the driver's attacher does it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::storage::v1::VolumeAttachment;

use super::Csi;
use super::wanted::Wanted;

/// How long it is waited for at a time; then the pod is told and it begins anew.
const ATTEMPT: Duration = Duration::from_secs(30);
/// How often it is looked: a node may only read single attachments.
const LOOK: Duration = Duration::from_millis(500);

impl Csi {
    /// What the attacher wants the driver to be told.
    pub(super) async fn attached(&self, wanted: &Wanted) -> Result<BTreeMap<String, String>, String> {
        let name = api::csi::attachment_name(&wanted.driver, &wanted.handle, &self.node);
        let mut last = format!("VolumeAttachment {name} does not exist yet");
        let waited = tokio::time::timeout(ATTEMPT, async {
            loop {
                match self.client.find::<VolumeAttachment>("", &name).await {
                    Ok(Some(found)) => match verdict(&found) {
                        Ok(context) => return context,
                        Err(why) => last = why,
                    },
                    Ok(None) => {}
                    Err(status) => last = status.message,
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        let context = waited.await;
        context.map_err(|_| format!("volume {} is not attached: {last}", wanted.name))
    }
}

/// The context once it is attached, else why it is not.
fn verdict(found: &VolumeAttachment) -> Result<BTreeMap<String, String>, String> {
    if found.metadata.deletion_timestamp.is_some() {
        return Err("volume attachment is being deleted".to_owned());
    }
    let status = found.status.as_ref();
    if let Some(status) = status.filter(|status| status.attached) {
        return Ok(status.attachment_metadata.clone().unwrap_or_default());
    }
    let error = status.and_then(|status| status.attach_error.as_ref()?.message.clone());
    Err(error.unwrap_or_else(|| "waiting for its attacher".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_attached_counts() {
        let of = |status: serde_json::Value| {
            let found = json!({"metadata": {}, "spec": {"attacher": "d", "nodeName": "n", "source": {}}, "status": status});
            verdict(&serde_json::from_value(found).unwrap())
        };
        assert_eq!(
            of(json!({"attached": true, "attachmentMetadata": {"a": "b"}})).unwrap()["a"],
            "b"
        );
        assert_eq!(
            of(json!({"attached": false, "attachError": {"message": "no"}})).unwrap_err(),
            "no"
        );
        assert!(of(json!({"attached": false})).unwrap_err().contains("attacher"));
    }
}
