//! Giving a container its devices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use plugins::devices::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, PreStartContainerRequest, PreferredAllocationRequest,
};

use super::ledger::{Choice, Given, Grant, GrantedMount, first_ones, none_well};
use super::{Devices, Provider, cdi};
use crate::pods::spec;

/// How long a plugin may take to answer: it may have to make a device ready.
const PATIENCE: Duration = Duration::from_secs(30);

impl Devices {
    /// Gives all of a pod's containers the devices that they want, before any of them begins.
    ///
    /// # Errors
    /// When there are too few, or a plugin refuses; nothing is given then. The text is the kubelet's.
    pub async fn admit(&self, pod: &Pod) -> Result<(), String> {
        for (_, container) in spec::containers(pod) {
            for (resource, wanted) in self.provided(container) {
                if let Err(why) = self.ensure(pod, container, &resource, wanted).await {
                    self.release(spec::uid(pod));
                    return Err(format!("Allocate failed due to {why}, which is unexpected"));
                }
            }
        }
        Ok(())
    }

    /// What a container gets with the devices that it wants: the ones that it has, or new ones. Its plugins hear that
    /// it is about to start.
    ///
    /// # Errors
    /// When there are too few, or a plugin refuses; the text says which.
    pub async fn grant(&self, pod: &Pod, container: &Container) -> Result<Grant, String> {
        let mut whole = Grant::default();
        for (resource, wanted) in self.provided(container) {
            let given = self.ensure(pod, container, &resource, wanted).await?;
            self.announce(&resource, &given).await?;
            whole.extend(given.grant);
        }
        let (names, own) = (std::mem::take(&mut whole.cdi), self.cdi.clone());
        let described = tokio::task::spawn_blocking(move || cdi::look_up(&names, &own)).await;
        whole.extend(described.map_err(|error| error.to_string())??);
        Ok(whole)
    }

    /// What a container wants that plugins provide.
    fn provided(&self, container: &Container) -> BTreeMap<String, usize> {
        let mut all = wanted(container);
        all.retain(|resource, _| self.lock().ledger.knows(resource));
        all
    }

    /// The devices that a container has, or new ones.
    async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
    ) -> Result<Given, String> {
        let _turn = self.choosing.lock().await;
        let uid = spec::uid(pod);
        let known = self.lock().ledger.find(uid, &container.name, resource).cloned();
        let provider = self.lock().providers.get(resource).cloned();
        match (known, &provider) {
            (Some(known), _) => Ok(known),
            (None, Some(provider)) => self.allocate(pod, container, resource, wanted, provider).await,
            (None, None) => Err(none_well(resource)),
        }
    }

    /// Tells a plugin that wants to hear of it that a container with its devices starts.
    async fn announce(&self, resource: &str, given: &Given) -> Result<(), String> {
        let provider = self.lock().providers.get(resource).cloned();
        let Some(provider) = provider.filter(|provider| provider.options.pre_start_required) else {
            return Ok(());
        };
        let devices_ids = given.ids.iter().cloned().collect();
        let told = provider
            .plugin
            .call(PreStartContainerRequest { devices_ids }, PATIENCE);
        let told = told.await.map_err(|status| status.message().to_owned());
        told.map(drop)
            .map_err(|why| format!("device plugin PreStartContainer rpc failed with err: {why}"))
    }

    async fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
        provider: &Provider,
    ) -> Result<Given, String> {
        let uid = spec::uid(pod);
        let before = spec::ended_before(pod, &container.name);
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let choice = self.lock().ledger.choose(uid, &before, resource, wanted)?;
        let ids = prefer(provider, &choice, wanted).await?;
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest {
                devices_ids: ids.iter().cloned().collect(),
            }],
        };
        let answer = provider.plugin.call(request, PATIENCE).await;
        let answer = answer.map_err(|status| status.message().to_owned())?;
        let [answer] = <[ContainerAllocateResponse; 1]>::try_from(answer.container_responses)
            .map_err(|_| format!("no answer of the plugin for {resource}"))?;
        let given = Given {
            uid: uid.to_owned(),
            container: container.name.clone(),
            resource: resource.to_owned(),
            ids,
            grant: grant_of(answer),
        };
        self.lock().ledger.give(given.clone());
        self.keep().map_err(|error| error.to_string())?;
        Ok(given)
    }
}

/// Which ones the plugin would rather give, if it has a say.
async fn prefer(provider: &Provider, choice: &Choice, wanted: usize) -> Result<BTreeSet<String>, String> {
    let list = |ids: &BTreeSet<String>| ids.iter().cloned().collect::<Vec<_>>();
    let plain = first_ones(choice, wanted);
    if !provider.options.get_preferred_allocation_available || choice.available.len() == wanted {
        return Ok(plain);
    }
    let request = PreferredAllocationRequest {
        container_requests: vec![ContainerPreferredAllocationRequest {
            available_device_ids: list(&choice.available),
            must_include_device_ids: list(&choice.must),
            allocation_size: i32::try_from(wanted).unwrap_or(i32::MAX),
        }],
    };
    let answer = provider.plugin.call(request, PATIENCE).await;
    let answer = answer.map_err(|status| status.message().to_owned())?;
    let preferred: BTreeSet<String> = answer
        .container_responses
        .into_iter()
        .flat_map(|one| one.device_ids)
        .collect();
    // It is a wish: what it may not have is not given.
    let fits = preferred.len() == wanted
        && preferred.is_subset(&choice.available)
        && choice.must.is_subset(&preferred);
    Ok(if fits { preferred } else { plain })
}

/// What a container wants that is not the node's own: whole numbers of somebody's resources.
fn wanted(container: &Container) -> BTreeMap<String, usize> {
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let somebodys = limits
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.contains('/'));
    let number = |text: &str| {
        let amount: api::quantity::Quantity = text.parse().ok()?;
        usize::try_from(amount.value()).ok().filter(|n| *n > 0)
    };
    somebodys
        .filter_map(|(name, amount)| Some((name.clone(), number(&amount.0)?)))
        .collect()
}

fn grant_of(answer: ContainerAllocateResponse) -> Grant {
    let named = answer.cdi_devices.into_iter().map(|device| device.name);
    let cdi = named
        .chain(cdi::of_annotations(answer.annotations.iter()))
        .collect();
    let mounts = answer.mounts.into_iter().map(|mount| GrantedMount {
        host: mount.host_path,
        path: mount.container_path,
        read_only: mount.read_only,
    });
    let devices = answer.devices.into_iter().map(|device| oci::Device {
        host: device.host_path.into(),
        path: device.container_path,
        permissions: device.permissions,
    });
    Grant {
        env: answer.envs.into_iter().collect(),
        mounts: mounts.collect(),
        devices: devices.collect(),
        cdi,
        ..Grant::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resources_of_others_are_counted_whole() {
        let container: Container = serde_json::from_value(json!({"name": "c", "resources": {"limits":
            {"cpu": "1", "example.com/gadget": "2", "example.com/none": "0"}}}))
        .unwrap();
        assert_eq!(wanted(&container), [("example.com/gadget".to_owned(), 2)].into());
    }
}
