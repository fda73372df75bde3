//! A device plugin for the scenarios: gadgets are null devices.
//!
//! `gadgets FOLDER SOCKETS` serves `example.com/gadget` on a socket in SOCKETS, where it registers whenever the node's
//! socket is made anew, and writes every call into `FOLDER/calls`. The gadgets are the names in `FOLDER/gadgets`, one
//! per line; one whose line ends in `!` is ill. With each come the devices that `FOLDER/named` lists.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use plugins::answer::{Answer, Asked, answer, answer_with_stream, serve, unknown};
use plugins::devices::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, DeviceSpec, HEALTHY,
    ListAndWatchRequest, ListAndWatchResponse, Mount, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, RegisterRequest, VERSION,
};
use plugins::{Call, Plugin, Status};

const RESOURCE: &str = "example.com/gadget";
const SOCKET: &str = "gadgets.sock";
/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Gadgets {
    folder: Arc<PathBuf>,
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || PathBuf::from(args.next().expect("FOLDER SOCKETS"));
    let (folder, sockets) = (next(), next());
    let gadgets = Gadgets {
        folder: Arc::new(folder),
    };
    let node = sockets.join("kubelet.sock");
    let mut known = None;
    let mut serving: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        let there = fs::metadata(&node)
            .ok()
            .map(|found| (found.ino(), found.ctime_nsec()));
        if there.is_some() && there != known {
            if let Some(serving) = serving.take() {
                serving.abort();
            }
            let (own, socket) = (gadgets.clone(), sockets.join(SOCKET));
            serving = Some(tokio::spawn(async move {
                let ended = serve(&socket, move |asked| own.clone().dispatch(asked)).await;
                panic!("no more calls: {ended:?}");
            }));
            if register(&node).await.is_ok() {
                known = there;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn register(node: &Path) -> Result<(), Status> {
    let options = DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    let wish = RegisterRequest {
        version: VERSION.to_owned(),
        endpoint: SOCKET.to_owned(),
        resource_name: RESOURCE.to_owned(),
        options: Some(options),
    };
    let patience = Duration::from_secs(10);
    Plugin::at(node).call(wish, patience).await.map(drop)
}

impl Gadgets {
    async fn dispatch(self, asked: Asked) -> Answer {
        match asked.uri().path() {
            ListAndWatchRequest::METHOD => {
                answer_with_stream(asked, |_: ListAndWatchRequest| self.lists()).await
            }
            PreferredAllocationRequest::METHOD => answer(asked, |r| async move { self.prefer(r) }).await,
            AllocateRequest::METHOD => answer(asked, |r| async move { self.allocate(r) }).await,
            PreStartContainerRequest::METHOD => answer(asked, |r| async move { self.pre_start(r) }).await,
            _ => unknown(&asked),
        }
    }

    /// The gadgets as they are, and whenever that changes.
    fn lists(self) -> impl stream::Stream<Item = Result<ListAndWatchResponse, Status>> + Send + 'static {
        stream::unfold((self, None), |(gadgets, known)| async move {
            loop {
                let text = fs::read_to_string(gadgets.folder.join("gadgets")).unwrap_or_default();
                if known.as_ref() != Some(&text) {
                    let list = ListAndWatchResponse {
                        devices: text.lines().map(device).collect(),
                    };
                    return Some((Ok(list), (gadgets, Some(text))));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }

    /// The last ones rather than the first.
    fn prefer(self, asked: PreferredAllocationRequest) -> Result<PreferredAllocationResponse, Status> {
        let choose = |one: plugins::devices::ContainerPreferredAllocationRequest| {
            let size = usize::try_from(one.allocation_size).unwrap_or_default();
            let mut ids = one.must_include_device_ids.clone();
            let mut rest = one.available_device_ids;
            rest.retain(|id| !ids.contains(id));
            rest.sort();
            ids.extend(rest.into_iter().rev());
            ids.truncate(size);
            ContainerPreferredAllocationResponse { device_ids: ids }
        };
        Ok(PreferredAllocationResponse {
            container_responses: asked.container_requests.into_iter().map(choose).collect(),
        })
    }

    fn allocate(self, asked: AllocateRequest) -> Result<AllocateResponse, Status> {
        let mut answer = AllocateResponse::default();
        for one in asked.container_requests {
            let mut ids = one.devices_ids;
            ids.sort();
            self.note(&format!("allocate {}", ids.join(",")));
            let devices = ids.iter().map(|id| DeviceSpec {
                container_path: format!("/dev/gadget-{id}"),
                host_path: "/dev/null".to_owned(),
                permissions: "rw".to_owned(),
            });
            answer.container_responses.push(ContainerAllocateResponse {
                envs: [("GADGETS".to_owned(), ids.join(","))].into(),
                mounts: vec![Mount {
                    container_path: "/gadgets".to_owned(),
                    host_path: self.folder.display().to_string(),
                    read_only: true,
                }],
                devices: devices.collect(),
                cdi_devices: self.named(),
                ..ContainerAllocateResponse::default()
            });
        }
        Ok(answer)
    }

    /// The devices that the file `named` lists, which other files describe.
    fn named(&self) -> Vec<CdiDevice> {
        let list = fs::read_to_string(self.folder.join("named")).unwrap_or_default();
        list.lines()
            .map(|name| CdiDevice {
                name: name.to_owned(),
            })
            .collect()
    }

    fn pre_start(self, asked: PreStartContainerRequest) -> Result<PreStartContainerResponse, Status> {
        let mut ids = asked.devices_ids;
        ids.sort();
        self.note(&format!("start {}", ids.join(",")));
        Ok(PreStartContainerResponse {})
    }

    fn note(&self, line: &str) {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("calls"));
        writeln!(file.expect("a file"), "{line}").expect("a line");
    }
}

fn device(line: &str) -> Device {
    let (id, health) = match line.strip_suffix('!') {
        Some(id) => (id, "Unhealthy"),
        None => (line, HEALTHY),
    };
    Device {
        id: id.to_owned(),
        health: health.to_owned(),
    }
}
