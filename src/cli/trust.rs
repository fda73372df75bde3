//! `trust`: the secrets that a cluster proves itself with, changed while it works.

use std::time::Duration;

use apiserver::trust::wire::{TrustItem, TrustList};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::servers::{Access, print_table};

/// How long the servers are given to take up a step, before those that have not are named.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at who has.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Args)]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    verb: TrustVerb,
}

/// What may be changed.
#[derive(Clone, Copy, ValueEnum)]
enum Secret {
    /// With which servers join
    ServerToken,
    /// With which nodes join
    AgentToken,
    /// Signs the tokens of service accounts
    ServiceAccountKey,
    /// Signs the certificates of people and nodes
    ClientCa,
    /// Signs the certificates by which servers know each other
    PeerCa,
    /// Signs the servers' certificates
    ServingCa,
    /// Signs the certificates of front proxies
    FrontProxyCa,
    /// All four authorities together
    Authorities,
}

/// A step with a key or an authority.
#[derive(Args)]
struct StepArgs {
    /// What
    #[arg(value_enum)]
    secret: Secret,
    #[command(flatten)]
    access: Access,
}

/// A step that may leave somebody behind.
#[derive(Args)]
struct LastingArgs {
    #[command(flatten)]
    step: StepArgs,
    /// Also if servers, nodes or pods are left behind that have not taken up the step before
    #[arg(long)]
    force: bool,
}

#[derive(Subcommand)]
enum TrustVerb {
    /// List tokens, keys and authorities: what they are for, since when, until when, and who is a step behind
    List {
        #[command(flatten)]
        access: Access,
    },

    /// Make a new token; the old one is refused from then on, or after a grace
    #[command(after_help = "\
Examples:
  coracle trust rotate agent-token
  coracle trust rotate server-token --grace 3600
The new token stands in the file of that name in the data folder of every server.")]
    Rotate {
        #[command(flatten)]
        step: StepArgs,
        /// Seconds for which the old token is good as well
        #[arg(long, default_value_t = 0)]
        grace: u32,
    },

    /// Make another key or authority, which everybody trusts from then on and which does not sign yet
    Prepare(StepArgs),

    /// Let what was prepared sign; what signed before is trusted still
    Activate(LastingArgs),

    /// Trust what signed before no more
    Retire(LastingArgs),

    /// Throw away what was prepared
    Cancel(StepArgs),
}

pub(super) fn run(args: TrustArgs) -> anyhow::Result<()> {
    super::once::block_on(async {
        match args.verb {
            TrustVerb::List { access } => {
                let (server, _) = access.open()?.reachable().await?;
                show(&server.trust().await?);
                Ok(())
            }
            TrustVerb::Rotate { step, grace } => make(&step, "rotate", &format!("?grace={grace}")).await,
            TrustVerb::Prepare(step) => make(&step, "prepare", "").await,
            TrustVerb::Activate(args) => make(&args.step, "activate", force(args.force)).await,
            TrustVerb::Retire(args) => make(&args.step, "retire", force(args.force)).await,
            TrustVerb::Cancel(step) => make(&step, "cancel", "").await,
        }
    })
}

fn force(force: bool) -> &'static str {
    if force { "?force=true" } else { "" }
}

/// Makes a step, waits until the servers have taken it up, and shows what there is then.
async fn make(args: &StepArgs, step: &str, query: &str) -> anyhow::Result<()> {
    let value = args.secret.to_possible_value();
    let name = value.as_ref().map_or("", |value| value.get_name());
    let (server, _) = args.access.open()?.reachable().await?;
    let path = format!("trust/{name}/{step}{query}");
    let made = server.change(http::Method::POST, &path).await?;
    show(&taken_up(&args.access, made).await);
    Ok(())
}

/// Waits until all servers have taken up a step; for nodes nobody waits, they may be away for weeks.
async fn taken_up(access: &Access, made: TrustList) -> TrustList {
    let (mut now, until) = (made, tokio::time::Instant::now() + PATIENCE);
    while !now.servers.is_empty() && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        // By the kubeconfig as it is now: who signed the server's certificate a moment ago may not be the same.
        let asked: anyhow::Result<TrustList> =
            async { access.open()?.reachable().await?.0.trust().await }.await;
        now = asked.unwrap_or(now);
    }
    now
}

fn show(trust: &TrustList) {
    let heading = ["SECRET", "STATE", "ID", "SINCE", "ENDS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(trust.items.iter().map(row));
    print_table(&rows);
    for (what, names) in [("servers", &trust.servers), ("nodes", &trust.nodes)] {
        if !names.is_empty() {
            println!(
                "{what} that have not taken up the last step: {}",
                names.join(", ")
            );
        }
    }
}

fn row(item: &TrustItem) -> Vec<String> {
    let time = |second: i64| {
        Timestamp::from_second(second)
            .ok()
            .map(|at| at.to_string())
            .unwrap_or_default()
    };
    let since = match item.since {
        0 => "the beginning".to_owned(),
        since => time(since),
    };
    vec![
        item.secret.clone(),
        item.state.clone(),
        item.id.clone(),
        since,
        item.ends.map(time).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_a_key_is_for_and_when_it_ends() {
        let mut item = TrustItem {
            secret: "client-ca".into(),
            state: "retiring".into(),
            id: "ab12".into(),
            since: 0,
            ends: Some(86_400),
        };
        assert_eq!(row(&item)[3..], ["the beginning", "1970-01-02T00:00:00Z"]);
        (item.since, item.ends) = (1, None);
        assert_eq!(row(&item)[3..], ["1970-01-01T00:00:01Z", ""]);
    }

    #[test]
    fn what_can_be_named_is_what_servers_know() {
        for secret in Secret::value_variants() {
            let name = secret.to_possible_value().unwrap();
            let name = name.get_name();
            let known = apiserver::pki::Secret::named(name).is_some();
            assert!(known || name == apiserver::trust::wire::AUTHORITIES, "{name}");
        }
        assert_eq!(
            Secret::value_variants().len(),
            apiserver::pki::Secret::ALL.len() + 1
        );
    }
}
