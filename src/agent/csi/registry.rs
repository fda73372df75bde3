//! Plugins' introduction: whoever puts a socket into the registry's folder is asked who it is.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::csi::{NodeAbility, NodeGetCapabilitiesRequest, NodeGetInfoRequest};
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use plugins::{Plugin, Status};

use super::drivers::{Driver, Facts};
use super::{Csi, PATIENCE, info, told};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a plugin may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(10);

/// Which file a socket is: another with the same name is another plugin's, or the same one begun anew.
type Identity = (u64, i64, i64);

/// What became of a socket.
struct Seen {
    identity: Identity,
    /// The driver that came of it; none if it is to be asked again.
    driver: Option<String>,
}

impl Csi {
    /// Takes in drivers as they come, and gives up those that go. Never ends.
    pub async fn follow_registry(self) {
        let folder = self.paths.plugins_registry();
        for made in [folder.clone(), self.paths.plugins()] {
            if let Err(error) = fs::create_dir_all(&made) {
                tracing::error!(folder = %made.display(), %error, "plugins have nowhere to put their sockets");
            }
        }
        let mut seen: HashMap<PathBuf, Seen> = HashMap::new();
        loop {
            let found = sockets(&folder);
            let gone = |path: &PathBuf| !found.iter().any(|(there, _)| there == path);
            let left: Vec<PathBuf> = seen.keys().filter(|path| gone(path)).cloned().collect();
            for path in left {
                if let Some(name) = seen.remove(&path).and_then(|seen| seen.driver) {
                    self.give_up(&name).await;
                }
            }
            for (path, identity) in found {
                let known = seen.get(&path);
                if known.is_some_and(|known| known.identity == identity && known.driver.is_some()) {
                    continue;
                }
                let driver = self.introduce(&path).await;
                seen.insert(path, Seen { identity, driver });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks a socket who listens there, takes it in, and tells it what became of that.
    async fn introduce(&self, socket: &Path) -> Option<String> {
        let door = Plugin::at(socket);
        let who = match door.call(InfoRequest {}, INTRODUCTION).await {
            Ok(who) => who,
            Err(status) => {
                tracing::debug!(socket = %socket.display(), %status, "a plugin does not say who it is");
                return None;
            }
        };
        let name = who.name.clone();
        let taken = self.take_in(socket, who).await;
        let answer = RegistrationStatus {
            plugin_registered: taken.is_ok(),
            error: taken.as_ref().err().cloned().unwrap_or_default(),
        };
        if let Err(status) = door.call(answer, INTRODUCTION).await {
            tracing::debug!(name, %status, "a plugin was not told what became of it");
        }
        match taken {
            Ok(()) => Some(name),
            Err(error) => {
                tracing::warn!(name, error, "a plugin was not registered, trying again");
                None
            }
        }
    }

    async fn take_in(&self, socket: &Path, who: PluginInfo) -> Result<(), String> {
        check(&who)?;
        let endpoint = match who.endpoint.as_str() {
            "" => socket.to_owned(),
            path => PathBuf::from(path.strip_prefix("unix://").unwrap_or(path)),
        };
        let driver = ask(who.name, Plugin::at(&endpoint)).await;
        let driver = driver.map_err(|status| told(&status))?;
        info::write(&self.client, &self.node, &driver).await?;
        tracing::info!(
            name = driver.name,
            node_id = driver.facts.node_id,
            "a CSI driver is here"
        );
        let name = driver.name.clone();
        self.drivers.add(driver);
        self.clear_stages(&name).await;
        Ok(())
    }

    async fn give_up(&self, name: &str) {
        tracing::info!(name, "a CSI driver has gone");
        self.drivers.remove(name);
        if let Err(error) = info::remove(&self.client, &self.node, name).await {
            tracing::warn!(name, error, "the CSINode still names a driver that has gone");
        }
    }
}

/// Whether it is something that this node takes in.
fn check(who: &PluginInfo) -> Result<(), String> {
    if who.r#type != "CSIPlugin" {
        return Err(format!(
            "plugins of type {:?} are not registered here",
            who.r#type
        ));
    }
    let fits = |version: &String| version.trim_start_matches('v').starts_with("1.");
    if who.supported_versions.iter().any(fits) {
        Ok(())
    } else {
        Err(format!(
            "none of the versions of CSI that it speaks ({}) is 1.x",
            who.supported_versions.join(", ")
        ))
    }
}

/// What a driver says of itself and of the node.
async fn ask(name: String, plugin: Plugin) -> Result<Driver, Status> {
    let node = plugin.call(NodeGetInfoRequest {}, PATIENCE).await?;
    let can = plugin.call(NodeGetCapabilitiesRequest {}, PATIENCE).await?;
    let abilities = can.capabilities.iter().filter_map(|one| one.rpc.as_ref());
    let abilities = abilities.filter_map(|rpc| NodeAbility::from_i32(rpc.r#type));
    Ok(Driver {
        name,
        plugin,
        abilities: abilities.collect(),
        facts: Facts {
            node_id: node.node_id,
            topology: node
                .accessible_topology
                .map(|topology| topology.segments.into_iter().collect())
                .unwrap_or_default(),
            volumes_max: i32::try_from(node.max_volumes_per_node)
                .ok()
                .filter(|max| *max > 0),
        },
    })
}

/// The sockets of a folder, with which files they are.
fn sockets(folder: &Path) -> Vec<(PathBuf, Identity)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        let identity = (meta.ino(), meta.ctime(), meta.ctime_nsec());
        meta.file_type().is_socket().then(|| (entry.path(), identity))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drivers_of_version_1_are_taken_in() {
        let who = |kind: &str, versions: &[&str]| PluginInfo {
            r#type: kind.to_owned(),
            supported_versions: versions.iter().map(|&v| v.to_owned()).collect(),
            ..PluginInfo::default()
        };
        assert_eq!(check(&who("CSIPlugin", &["0.3.0", "1.0.0"])), Ok(()));
        assert!(
            check(&who("CSIPlugin", &["0.3.0"]))
                .unwrap_err()
                .contains("0.3.0")
        );
        assert!(
            check(&who("DRAPlugin", &["1.0.0"]))
                .unwrap_err()
                .contains("DRAPlugin")
        );
    }
}
