//! The node's socket, on which plugins register, and their lists of devices.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use plugins::answer::{self, Answer, Asked};
use plugins::devices::{DevicePluginOptions, Empty, HEALTHY, ListAndWatchRequest, RegisterRequest, VERSION};
use plugins::{Call, Plugin, Status};

use super::socket::{self, SOCKET};
use super::{Devices, Provider};

impl Devices {
    /// Answers plugins that register. Never ends, unless the folder cannot be used.
    ///
    /// # Errors
    /// The disk.
    pub async fn serve(self) -> std::io::Result<()> {
        let folder = self.folder.clone();
        socket::make(&folder)?;
        // Plugins see their sockets go, and register again.
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        socket::serve(&folder, move |asked| self.clone().answer(asked)).await
    }

    async fn answer(self, asked: Asked) -> Answer {
        match asked.uri().path() {
            RegisterRequest::METHOD => answer::answer(asked, |wish| async move { self.register(wish) }).await,
            _ => answer::unknown(&asked),
        }
    }

    /// Takes a plugin in, and follows its list from now on.
    fn register(&self, wish: RegisterRequest) -> Result<Empty, Status> {
        check(&wish).map_err(Status::invalid_argument)?;
        let plugin = Plugin::at(&self.folder.join(&wish.endpoint));
        let turn = {
            let mut state = self.lock();
            state.turns += 1;
            let provider = Provider {
                plugin: plugin.clone(),
                options: wish.options.unwrap_or(DevicePluginOptions {
                    pre_start_required: false,
                    get_preferred_allocation_available: false,
                }),
                turn: state.turns,
            };
            state.providers.insert(wish.resource_name.clone(), provider);
            state.turns
        };
        tracing::info!(resource = wish.resource_name, "a device plugin registered");
        tokio::spawn(self.clone().follow(wish.resource_name, plugin, turn));
        Ok(Empty {})
    }

    /// Takes in the devices that a plugin lists, until it goes or another one takes its place.
    async fn follow(self, resource: String, plugin: Plugin, turn: u64) {
        let ended = self.listen(&resource, &plugin, turn).await;
        let current = |provider: &Provider| provider.turn == turn;
        if !self.lock().providers.get(&resource).is_some_and(current) {
            return;
        }
        self.lock().providers.remove(&resource);
        self.change(|ledger| ledger.lose(&resource));
        let why = ended.err().map(|status| status.message().to_owned());
        tracing::warn!(
            resource,
            why,
            "a device plugin is gone: none of its devices counts as well"
        );
    }

    async fn listen(&self, resource: &str, plugin: &Plugin, turn: u64) -> Result<(), Status> {
        let mut lists = plugin.watch(ListAndWatchRequest {}).await?;
        while let Some(list) = lists.message().await? {
            let replaced = |provider: &Provider| provider.turn != turn;
            if self.lock().providers.get(resource).is_none_or(replaced) {
                return Ok(());
            }
            let devices = list.devices.into_iter();
            let devices = devices
                .map(|device| (device.id, device.health == HEALTHY))
                .collect();
            self.change(|ledger| ledger.set(resource, devices));
        }
        Ok(())
    }
}

/// The kubelet's rules for who may register what.
fn check(wish: &RegisterRequest) -> Result<(), String> {
    if wish.version != VERSION {
        return Err(format!(
            "requested API version {:?} is not supported by kubelet. Supported versions are [\"{VERSION}\"]",
            wish.version
        ));
    }
    let name = &wish.resource_name;
    let domain = name.split_once('/').map(|(domain, _)| domain);
    let own = |domain: &str| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    if domain.is_none_or(own)
        || name.starts_with("requests.")
        || !api::names::is_qualified_name(name).is_empty()
    {
        return Err(format!(
            "the ResourceName {name:?} is invalid. Valid resource names are named with a domain of their owner's"
        ));
    }
    if wish.endpoint.is_empty() || wish.endpoint.contains('/') || wish.endpoint == SOCKET {
        return Err(format!(
            "the endpoint {:?} is not the name of a socket in this folder",
            wish.endpoint
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_somebodys_is_registered() {
        let wish = |version: &str, name: &str, endpoint: &str| {
            check(&RegisterRequest {
                version: version.to_owned(),
                endpoint: endpoint.to_owned(),
                resource_name: name.to_owned(),
                options: None,
            })
        };
        assert_eq!(wish("v1beta1", "example.com/gadget", "g.sock"), Ok(()));
        for (version, name, endpoint) in [
            ("v1", "example.com/gadget", "g.sock"),
            ("v1beta1", "cpu", "g.sock"),
            ("v1beta1", "kubernetes.io/gadget", "g.sock"),
            ("v1beta1", "example.com/-", "g.sock"),
            ("v1beta1", "example.com/gadget", "../g.sock"),
            ("v1beta1", "example.com/gadget", "kubelet.sock"),
        ] {
            assert!(wish(version, name, endpoint).is_err(), "{name} {endpoint}");
        }
    }
}
