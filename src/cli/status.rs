//! `status`: how the servers of a cluster are, in a table.

use apiserver::members::wire::{Member, MemberList, ServerStatus};
use clap::Args;

use super::servers::{Access, Servers, print_table};

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(args: StatusArgs) -> anyhow::Result<()> {
    super::once::block_on(async {
        let servers = args.access.open()?;
        let (_, members) = servers.reachable().await?;
        let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
        let leaders = leader(&servers, &members).await.unwrap_or(members);
        for member in &leaders.items {
            rows.push(row(member, &state(&servers, member).await));
        }
        println!("cluster {}", leaders.cluster);
        print_table(&rows);
        Ok(())
    })
}

/// The members as the leader sees them, who alone knows how the others are.
async fn leader(servers: &Servers, members: &MemberList) -> Option<MemberList> {
    let leader = members.items.iter().find(|member| member.leader)?;
    if leader.id == members.answered_by {
        return None;
    }
    servers.address(&leader.address).ok()?.members().await.ok()
}

async fn state(servers: &Servers, member: &Member) -> Result<ServerStatus, String> {
    let state = async { servers.address(&member.address)?.status().await };
    state.await.map_err(|error| error.to_string())
}

const HEADING: [&str; 9] = [
    "NAME",
    "ROLE",
    "LEADER",
    "TERM",
    "LAG",
    "REVISION",
    "DISK FREE",
    "VERSION",
    "ALARMS",
];

fn row(member: &Member, state: &Result<ServerStatus, String>) -> Vec<String> {
    let leads = if member.leader { "yes" } else { "" };
    let lag = member.lag.map_or("?".to_owned(), |lag| lag.to_string());
    let head = [member.name.clone(), member.role.clone(), leads.to_owned()];
    let rest = match state {
        Ok(state) => [
            state.term.to_string(),
            lag,
            // A witness has no objects, and so no revision.
            if member.witness {
                String::new()
            } else {
                state.revision.to_string()
            },
            disk(state),
            state.version.clone(),
            state.alarms.join(", "),
        ],
        Err(why) => ["", &lag, "", "", "", &format!("unreachable: {why}")].map(str::to_owned),
    };
    head.into_iter().chain(rest).collect()
}

fn disk(state: &ServerStatus) -> String {
    match (state.disk_free_bytes * 100).checked_div(state.disk_bytes) {
        Some(percent) => format!("{} ({percent} %)", indicatif::HumanBytes(state.disk_free_bytes)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_how_a_server_is_or_why_that_is_not_known() {
        let member = Member {
            name: "n1".into(),
            role: "voter".into(),
            leader: true,
            lag: Some(3),
            ..Member::default()
        };
        let state = ServerStatus {
            term: 7,
            revision: 42,
            version: "0.1.0".into(),
            disk_free_bytes: 1 << 30,
            disk_bytes: 4 << 30,
            alarms: vec!["no leader".into(), "disk almost full".into()],
            ..ServerStatus::default()
        };
        let cells = [
            "n1",
            "voter",
            "yes",
            "7",
            "3",
            "42",
            "1.00 GiB (25 %)",
            "0.1.0",
            "no leader, disk almost full",
        ];
        assert_eq!(row(&member, &Ok(state)), cells);
        assert_eq!(row(&member, &Err("refused".into()))[8], "unreachable: refused");
        assert_eq!(row(&member, &Err("refused".into())).len(), HEADING.len());
    }
}
