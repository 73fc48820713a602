//! `lapstrake-agent doctor`: looks at this machine as the agent will need it. Asks, and changes nothing.

use crate::config::Config;
use crate::identity::{Identity, IdentityError};
use crate::network::nft;
use crate::observe::{cgroup, disks};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::{Owner, Runtime as _};
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::node::disk::{Fullness, Marks};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// A controller that does not take a connection for so long is not reached.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

/// Below so much free space an image of usual size does not fit.
const FREE_BYTES: u64 = 2 << 30;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// The agent cannot do its work so.
    Fail,
}

/// What one check has found. Its `Display` is the line, and a second one with what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub check: &'static str,
    /// In a sentence.
    pub said: String,
    /// What would help; empty if nothing has to.
    pub hint: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        write!(f, "{word:<4}  {:<10}  {}", self.check, self.said)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n      {:<10}  {}", "", self.hint) }
    }
}

fn ok(check: &'static str, said: String) -> Finding {
    Finding { verdict: Verdict::Ok, check, said, hint: "" }
}

fn warn(check: &'static str, said: String, hint: &'static str) -> Finding {
    Finding { verdict: Verdict::Warn, check, said, hint }
}

fn fail(check: &'static str, said: String, hint: &'static str) -> Finding {
    Finding { verdict: Verdict::Fail, check, said, hint }
}

/// Everything, in the order in which an operator would mend it.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let identity = Identity::load(&config.state_dir);
    let mut findings = vec![joined(&identity)];
    if let Ok(identity) = &identity {
        findings.push(controller(&identity.controller).await);
    }
    let root = engine(config, identity.as_ref().ok(), &mut findings).await;
    findings.push(rules().await);
    findings.push(cgroups(Path::new(cgroup::ROOT)));
    let marks = config.disk.marks();
    findings.push(disk("disk", &config.state_dir, marks));
    findings.extend(root.map(|root| disk("disk", &root, marks)));
    findings.push(proxies(&config.proxy.control_dir));
    findings
}

fn joined(identity: &Result<Identity, IdentityError>) -> Finding {
    match identity {
        Ok(identity) => ok("identity", format!("this machine is the node {}", identity.name)),
        Err(error @ IdentityError::NotJoined(_)) => {
            fail("identity", error.to_string(), "`lap node token create` prints a token")
        }
        Err(error) => fail("identity", error.to_string(), "run it as root; a lost identity joins again with --replace"),
    }
}

async fn controller(address: &str) -> Finding {
    const HINT: &str =
        "the agent dials out to the controller's agents' port: look at the name and the firewalls between";
    match tokio::time::timeout(REACHED_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => ok("controller", format!("{address} takes connections")),
        Ok(Err(error)) => fail("controller", format!("{address} is not reached: {error}"), HINT),
        Err(_) => fail("controller", format!("{address} does not answer within {} s", REACHED_WITHIN.as_secs()), HINT),
    }
}

/// Gives the folder where the engine keeps its images.
async fn engine(config: &Config, identity: Option<&Identity>, findings: &mut Vec<Finding>) -> Option<PathBuf> {
    let owner = identity.map_or(Owner { cluster: ClusterId(0), node: NodeId(0) }, |identity| Owner {
        cluster: identity.cluster,
        node: identity.node,
    });
    match DockerRuntime::new(&config.docker_host, owner).root().await {
        Ok(root) => {
            findings.push(ok(
                "engine",
                format!("{} answers and keeps its images in {}", config.docker_host, root.display()),
            ));
            Some(root)
        }
        Err(error) => {
            let said = format!("{} does not answer: {error}", config.docker_host);
            findings.push(fail(
                "engine",
                said,
                "is Docker installed and running, and is this root or of the group docker?",
            ));
            None
        }
    }
}

async fn rules() -> Finding {
    match nft::answers().await {
        Ok(()) => ok("nft", "the kernel takes rules of nftables".into()),
        Err(error) => fail("nft", error.to_string(), "install nftables, and run this as root"),
    }
}

fn cgroups(root: &Path) -> Finding {
    if root.join("cgroup.controllers").exists() {
        ok("cgroups", "version 2".into())
    } else if root.join("memory").exists() {
        ok("cgroups", "version 1".into())
    } else {
        warn("cgroups", format!("none are mounted at {}", root.display()), "what jobs use cannot be read without them")
    }
}

fn disk(check: &'static str, folder: &Path, marks: Marks) -> Finding {
    const HINT: &str = "remove what is not needed: a full disk stops nothing, and starts nothing either";
    let Some((used, total)) = disks::bytes(folder) else {
        return warn(check, format!("{} cannot be looked at", folder.display()), "it is made when the agent starts");
    };
    let free = total.saturating_sub(used);
    let said = format!("{} has {} of {} MiB free", folder.display(), free >> 20, total >> 20);
    let fullness = marks.read(Fullness::Roomy, disks::used_percent(folder).unwrap_or(0));
    match (free, fullness) {
        (_, Fullness::Critical) => {
            let mark = marks.critical_percent;
            fail(check, format!("{said}: above its critical mark of {mark} %, no new job begins on this node"), HINT)
        }
        (0..FREE_BYTES, _) => fail(check, said, HINT),
        (_, Fullness::High) => warn(check, format!("{said}: above its high mark of {} %", marks.high_percent), HINT),
        _ if free < total / 10 => warn(check, said, HINT),
        (_, Fullness::Roomy) => ok(check, said),
    }
}

fn proxies(folder: &Path) -> Finding {
    let sockets = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = sockets.filter(|entry| crate::proxies::pid_of(&entry.file_name()).is_some()).count();
    match count {
        0 => {
            let said = format!("no proxy has a socket in {}", folder.display());
            warn("proxy", said, "without `systemctl start lapstrake-proxy` no request reaches the jobs of this node")
        }
        _ => ok("proxy", format!("{count} listen for tables in {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_that_has_not_joined_is_told_how_and_every_check_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default().completed().expect("the usual one");
        config.state_dir = folder.path().to_owned();
        config.proxy.control_dir = folder.path().join("proxy");
        config.docker_host = format!("unix://{}", folder.path().join("nothing.sock").display());
        let findings = examine(&config).await;
        let of = |check: &str| findings.iter().find(|finding| finding.check == check).expect("it was looked at");
        assert_eq!(of("identity").verdict, Verdict::Fail);
        assert!(of("identity").said.contains("lapstrake-agent join TOKEN"), "{}", of("identity").said);
        assert_eq!(of("engine").verdict, Verdict::Fail);
        assert_eq!(of("proxy").verdict, Verdict::Warn);
        assert!(of("disk").said.contains("MiB free"), "{}", of("disk").said);
        let lines = of("identity").to_string();
        assert!(lines.starts_with("fail  identity    ") && lines.lines().count() == 2, "{lines}");
    }
}
