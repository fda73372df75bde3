//! Removing everything that we made on the host.

use std::io;
use std::path::Path;

use sys::link::Routing;
use sys::netns;
use sys::nft::{Batch, Family, Nft};

use crate::config::{NetworkError, netns_dir, state_dir};
use crate::names;

/// Removes routes, links (and so addresses), namespaces and nftables
/// tables of an instance, and its address records. What is absent already is
/// not an error; what cannot be removed does not keep the rest from being
/// removed, and the first such error is returned.
///
/// Blocks for some milliseconds. Call it when no process uses the instance.
pub fn cleanup(instance_id: &str, data_dir: &Path) -> Result<(), NetworkError> {
    let steps = [
        remove_tables(instance_id),
        remove_links(instance_id).map_err(NetworkError::from),
        remove_namespaces(instance_id, data_dir).map_err(NetworkError::from),
        absent_is_fine(std::fs::remove_dir_all(state_dir(data_dir))).map_err(NetworkError::from),
    ];
    steps.into_iter().collect()
}

fn remove_tables(instance: &str) -> Result<(), NetworkError> {
    let ours = [names::services_table(instance), names::pods_table(instance)];
    let mut nft = Nft::open()?;
    for family in Family::ALL {
        let mut batch = Batch::new(family);
        for table in nft.tables(family)?.iter().filter(|table| ours.contains(table)) {
            batch.delete_table(table);
        }
        nft.commit(&batch)?;
    }
    Ok(())
}

fn remove_links(instance: &str) -> io::Result<()> {
    let mut routing = Routing::open()?;
    let links = routing.links()?;
    let forgotten = crate::peers::forget(instance, &mut routing);
    let ours = links
        .iter()
        .filter(|link| names::is_link_of(instance, &link.name));
    let results: Vec<io::Result<()>> = ours.map(|link| routing.delete_link(&link.name)).collect();
    results.into_iter().chain([forgotten]).collect()
}

fn remove_namespaces(instance: &str, data_dir: &Path) -> io::Result<()> {
    let dir = netns_dir(data_dir);
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let prefix = format!("{instance}-");
    let ours = entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    let results: Vec<io::Result<()>> = ours.map(|entry| netns::delete(&entry.path())).collect();
    results.into_iter().collect::<io::Result<()>>()?;
    absent_is_fine(std::fs::remove_dir(&dir))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
