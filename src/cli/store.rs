//! `store`: the room that the servers' stores take.

use apiserver::room::{Compacted, Defragmented};
use clap::{Args, Subcommand};
use http::Method;
use indicatif::HumanBytes;

use super::servers::Access;

#[derive(Args)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Subcommand)]
enum StoreVerb {
    /// Forget what was before a revision, on all servers
    #[command(after_help = "\
The store does this by itself, see --compaction-interval. Watches and lists from before begin anew.")]
    Compact {
        /// The revision [default: the latest]
        revision: Option<u64>,
        #[command(flatten)]
        access: Access,
    },

    /// Make the files of the servers smaller, one server after the other, while they work
    #[command(after_help = "\
The store does this by itself when its files are much larger than what is in them.")]
    Defragment {
        /// Of this server alone
        name: Option<String>,
        #[command(flatten)]
        access: Access,
    },
}

pub(super) fn run(args: StoreArgs) -> anyhow::Result<()> {
    super::once::block_on(async {
        match args.verb {
            StoreVerb::Compact { revision, access } => compact(&access, revision).await,
            StoreVerb::Defragment { name, access } => defragment(&access, name.as_deref()).await,
        }
    })
}

async fn compact(access: &Access, revision: Option<u64>) -> anyhow::Result<()> {
    let (server, _) = access.open()?.reachable().await?;
    let query = revision.map_or_else(String::new, |revision| format!("?revision={revision}"));
    let done: Compacted = server
        .change(Method::POST, &format!("store/compact{query}"))
        .await?;
    println!("forgot what was before revision {}", done.revision);
    Ok(())
}

/// One after the other: it takes a disk's time, and the others have theirs meanwhile.
async fn defragment(access: &Access, name: Option<&str>) -> anyhow::Result<()> {
    let servers = access.open()?;
    let (_, members) = servers.reachable().await?;
    let wanted = |member: &&apiserver::members::wire::Member| match name {
        Some(name) => member.name == name || member.id == name,
        // A witness has no objects.
        None => !member.witness,
    };
    let chosen: Vec<_> = members.items.iter().filter(wanted).collect();
    if chosen.is_empty() {
        anyhow::bail!(
            "no server is named {:?}: see `coracle member list`",
            name.unwrap_or_default()
        );
    }
    for member in chosen {
        let server = servers.address(&member.address)?;
        let done: Defragmented = server.long_change(Method::POST, "store/defragment").await?;
        println!(
            "{}: {} of files, {} before",
            member.name,
            HumanBytes(done.file_bytes),
            HumanBytes(done.file_bytes_before)
        );
    }
    Ok(())
}
