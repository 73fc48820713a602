//! The nftables table of our own: what jobs may reach.
//!
//! An environment's jobs reach each other and the outside. They do not reach the host, another environment, or link-local
//! addresses (169.254.169.254 hands out a cloud's credentials). The host reaches the jobs: the proxy is there. Nobody else
//! does: ports are closed unless the proxy opens them. Docker's own rules stand beside ours; a packet must pass both.

use super::Bridge;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;

/// The kernel answers in milliseconds; a stuck call must not stop the audit for ever.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the rules do not stand.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The program is missing or cannot be started.
    #[error("nft cannot be started (is the package nftables installed?): {0}")]
    CannotStart(#[source] std::io::Error),
    /// It did not end in time.
    #[error("nft did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
    /// It refused, most often for want of rights.
    #[error("nft said: {0}")]
    Refused(String),
}

/// One table, kept as it should be.
pub struct Nft {
    table: String,
    standing: Mutex<Option<Standing>>,
}

struct Standing {
    bridges: BTreeSet<Bridge>,
    /// As the kernel listed it right after it was set: any difference later is somebody else's doing.
    listing: String,
}

impl Nft {
    /// A table of this name in the family `inet`.
    pub fn new(table: &str) -> Self {
        Nft { table: table.to_owned(), standing: Mutex::new(None) }
    }

    /// The rules for these bridges stand: compared with the kernel's, and set in one transaction when they differ.
    pub async fn stand(&self, bridges: &BTreeSet<Bridge>) -> Result<(), NftError> {
        let mut standing = self.standing.lock().await;
        if let Some(known) = &*standing
            && known.bridges == *bridges
        {
            match self.list().await {
                Ok(listing) if listing == known.listing => return Ok(()),
                Ok(_) | Err(NftError::Refused(_)) => {
                    tracing::warn!(table = %self.table, "somebody changed our rules; they are set again");
                }
                Err(error) => return Err(error),
            }
        }
        *standing = None;
        nft(&["-f", "-"], &ruleset(&self.table, bridges)).await?;
        *standing = Some(Standing { bridges: bridges.clone(), listing: self.list().await? });
        Ok(())
    }

    /// Takes the table away, for tests and for a node that leaves.
    pub async fn remove(&self) -> Result<(), NftError> {
        *self.standing.lock().await = None;
        let table = &self.table;
        nft(&["-f", "-"], &format!("table inet {table}\ndelete table inet {table}\n")).await.map(drop)
    }

    async fn list(&self) -> Result<String, NftError> {
        nft(&["list", "table", "inet", &self.table], "").await
    }
}

/// Whether the program is there and the kernel takes its words.
pub async fn answers() -> Result<(), NftError> {
    nft(&["list", "tables"], "").await.map(drop)
}

async fn nft(arguments: &[&str], input: &str) -> Result<String, NftError> {
    let work = async {
        let mut child = Command::new("nft")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NftError::CannotStart)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A refusal closes the pipe early; the exit code says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(NftError::CannotStart)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(NftError::Refused(said.lines().next().unwrap_or("nothing").trim().to_owned()))
    };
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(NftError::TimedOut))
}

/// The whole table, replacing the one that stands, in one transaction: making it first lets the deletion succeed.
pub fn ruleset(table: &str, bridges: &BTreeSet<Bridge>) -> String {
    let mut text = format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    set(&mut text, "bridges", "ifname", bridges.iter().map(|bridge| format!("\"{bridge}\"")));
    set(&mut text, "within", "ifname . ifname", bridges.iter().map(|bridge| format!("\"{bridge}\" . \"{bridge}\"")));
    text.push_str(CHAINS);
    text.push_str("}\n");
    text
}

/// Before Docker's and the operator's filters (priority 0): a drop is final wherever it happens, an accept is not.
const CHAINS: &str = r#"	chain input {
		type filter hook input priority filter - 5; policy accept;
		iifname @bridges ct state established,related accept
		iifname @bridges icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		iifname @bridges drop
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname . oifname @within accept
		iifname @bridges oifname @bridges drop
		iifname @bridges ip daddr 169.254.0.0/16 drop
		iifname @bridges ip6 daddr fe80::/10 drop
		oifname @bridges ct state established,related accept
		oifname @bridges drop
	}
"#;

fn set(text: &mut String, name: &str, kind: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    // An empty list of elements is a syntax error.
    let elements =
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }};", elements.join(", ")) };
    let _ = writeln!(text, "\tset {name} {{ type {kind};{elements} }}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::{EnvironmentId, NodeId};

    #[test]
    fn jobs_of_two_environments_are_kept_apart_and_off_the_host() {
        let bridges = BTreeSet::from([1, 2].map(|n| Bridge::of(NodeId(0), EnvironmentId(n))));
        let expected = r#"table inet lapstrake
delete table inet lapstrake
table inet lapstrake {
	set bridges { type ifname; elements = { "lap00000000001", "lap00000000002" }; }
	set within { type ifname . ifname; elements = { "lap00000000001" . "lap00000000001", "lap00000000002" . "lap00000000002" }; }
	chain input {
		type filter hook input priority filter - 5; policy accept;
		iifname @bridges ct state established,related accept
		iifname @bridges icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		iifname @bridges drop
	}
	chain forward {
		type filter hook forward priority filter - 5; policy accept;
		iifname . oifname @within accept
		iifname @bridges oifname @bridges drop
		iifname @bridges ip daddr 169.254.0.0/16 drop
		iifname @bridges ip6 daddr fe80::/10 drop
		oifname @bridges ct state established,related accept
		oifname @bridges drop
	}
}
"#;
        assert_eq!(ruleset("lapstrake", &bridges), expected);
    }

    #[test]
    fn a_node_without_environments_has_a_table_without_elements() {
        let text = ruleset("t", &BTreeSet::new());
        assert!(text.contains("set bridges { type ifname; }") && !text.contains("elements"), "{text}");
    }
}
