//! `member`: the servers of a cluster.

use apiserver::members::wire::Member;
use clap::{Args, Subcommand};
use http::Method;

use super::servers::{Access, print_table};

#[derive(Args)]
pub(super) struct MemberArgs {
    #[command(subcommand)]
    verb: MemberVerb,
}

#[derive(Subcommand)]
enum MemberVerb {
    /// List the servers: name, role, address
    List {
        #[command(flatten)]
        access: Access,
    },

    /// Remove a server for good
    #[command(after_help = "\
A server that is removed stops, and can come back only with an empty data folder and --join.
The one that leads cannot be removed: hand leadership over first, with `coracle member transfer-leader`.
What would leave too few servers to go on is refused.

To replace a dead server, remove it and join a new one; both may have the same name:
  coracle member remove edge-2
  coracle server --join https://10.0.0.5:6443 --token-file server-token")]
    Remove {
        /// Its name, or its id
        name: String,
        #[command(flatten)]
        access: Access,
    },

    /// Let a server that has joined vote; it does this by itself as soon as it has caught up
    Promote {
        /// Its name, or its id
        name: String,
        #[command(flatten)]
        access: Access,
    },

    /// Hand leadership to another server, before work on the one that leads
    #[command(after_help = "\
Writes wait for some milliseconds and no watch breaks.")]
    TransferLeader {
        /// The name, or the id, of the server that shall lead
        name: String,
        #[command(flatten)]
        access: Access,
    },
}

pub(super) fn run(args: MemberArgs) -> anyhow::Result<()> {
    super::once::block_on(async {
        match args.verb {
            MemberVerb::List { access } => list(&access).await,
            MemberVerb::Remove { name, access } => {
                change(&access, Method::DELETE, &format!("members/{name}")).await?;
                println!("removed {name}");
                Ok(())
            }
            MemberVerb::Promote { name, access } => {
                change(&access, Method::POST, &format!("members/{name}/promote")).await?;
                println!("{name} is a voter");
                Ok(())
            }
            MemberVerb::TransferLeader { name, access } => {
                change(&access, Method::POST, &format!("members/{name}/lead")).await?;
                println!("{name} leads");
                Ok(())
            }
        }
    })
}

async fn change(access: &Access, method: Method, path: &str) -> anyhow::Result<()> {
    let (server, _) = access.open()?.reachable().await?;
    let _: Member = server.change(method, path).await?;
    Ok(())
}

async fn list(access: &Access) -> anyhow::Result<()> {
    let (_, members) = access.open()?.reachable().await?;
    let heading = ["NAME", "ID", "ROLE", "LEADER", "ADDRESS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for member in members.items {
        let leads = if member.leader { "yes" } else { "" };
        rows.push(vec![
            member.name,
            member.id,
            member.role,
            leads.to_owned(),
            member.address,
        ]);
    }
    print_table(&rows);
    Ok(())
}
