//! Telling programs of this machine which pod has which devices (the kubelet's pod resources API): monitors of
//! devices ask for it.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use plugins::answer::{self, Answer, Asked};
use plugins::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use plugins::{Call, Status};

use super::{Devices, socket};
use crate::pods::spec::{self, Role};
use crate::pods::table::PodTable;

/// Answers who asks which pod has which devices. Cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    /// Where the socket is.
    pub folder: PathBuf,
    /// Who has what.
    pub devices: Devices,
    /// The pods that are here.
    pub table: PodTable,
}

impl Reporter {
    /// Answers. Never ends, unless the folder cannot be used.
    ///
    /// # Errors
    /// The disk.
    pub async fn serve(self) -> std::io::Result<()> {
        let folder = self.folder.clone();
        socket::serve(&folder, move |asked| self.clone().answer(asked)).await
    }

    async fn answer(self, asked: Asked) -> Answer {
        match asked.uri().path() {
            ListPodResourcesRequest::METHOD => {
                answer::answer(asked, |_: ListPodResourcesRequest| async move { Ok(self.list()) }).await
            }
            AllocatableResourcesRequest::METHOD => {
                answer::answer(asked, |_: AllocatableResourcesRequest| async move {
                    Ok(self.allocatable())
                })
                .await
            }
            GetPodResourcesRequest::METHOD => {
                answer::answer(asked, |wish| async move { self.get(&wish) }).await
            }
            _ => answer::unknown(&asked),
        }
    }

    fn list(&self) -> ListPodResourcesResponse {
        let mut pods = self.table.all();
        pods.retain(|view| view.active);
        pods.sort_by_key(|view| spec::full_name(&view.pod));
        ListPodResourcesResponse {
            pod_resources: pods.iter().map(|view| self.of(&view.pod)).collect(),
        }
    }

    fn allocatable(&self) -> AllocatableResourcesResponse {
        let well = self.devices.lock().ledger.well();
        AllocatableResourcesResponse {
            devices: well.into_iter().map(devices).collect(),
        }
    }

    fn get(&self, wish: &GetPodResourcesRequest) -> Result<GetPodResourcesResponse, Status> {
        let (namespace, name) = (&wish.pod_namespace, &wish.pod_name);
        let found = self.table.find(namespace, name);
        let found =
            found.ok_or_else(|| Status::unknown(format!("pod {name} in namespace {namespace} not found")))?;
        let pod = found.borrow().pod.clone();
        Ok(GetPodResourcesResponse {
            pod_resources: Some(self.of(&pod)),
        })
    }

    /// What a pod's containers have; one that has nothing is named, too.
    fn of(&self, pod: &Pod) -> PodResources {
        let ledger = &self.devices.lock().ledger;
        // Init containers that have ended have given theirs on.
        let staying = spec::containers(pod).filter(|(role, _)| *role != Role::Init);
        let containers = staying.map(|(_, container)| {
            let own = ledger.given().iter();
            let own = own.filter(|given| given.uid == spec::uid(pod) && given.container == container.name);
            let listed = own.map(|given| (given.resource.clone(), given.ids.iter().cloned().collect()));
            ContainerResources {
                name: container.name.clone(),
                devices: listed.map(devices).collect(),
            }
        });
        PodResources {
            name: spec::name(pod).to_owned(),
            namespace: spec::namespace(pod).to_owned(),
            containers: containers.collect(),
        }
    }
}

fn devices((resource_name, device_ids): (String, Vec<String>)) -> ContainerDevices {
    ContainerDevices {
        resource_name,
        device_ids,
    }
}
