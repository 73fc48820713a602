//! The units of agent and proxy, which joining starts.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The agent first: a proxy that finds a table which it cannot use is ready only with the agent's next one.
const UNITS: [&str; 2] = ["lapstrake-agent.service", "lapstrake-proxy.service"];

/// Whether systemd runs this machine and has both units.
pub fn can_start() -> bool {
    Path::new("/run/systemd/system").is_dir()
        && UNITS.iter().all(|unit| systemctl(&["cat", unit]).is_ok_and(|known| known.is_empty()))
}

/// Starts both anew; returns when they are ready. A running agent is that of the node that this machine was before.
pub fn start() -> Result<()> {
    let [agent, proxy] = UNITS;
    for (verb, unit) in [("restart", agent), ("start", proxy)] {
        let said = systemctl(&[verb, unit])?;
        if !said.is_empty() {
            bail!("this machine has joined, but {unit} did not start: {said}; see: systemctl status {unit}");
        }
    }
    Ok(())
}

/// What systemctl complains of; nothing when all is well.
fn systemctl(arguments: &[&str]) -> Result<String> {
    let done = Command::new("systemctl").args(arguments).output().context("cannot run systemctl")?;
    if done.status.success() {
        return Ok(String::new());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', " ");
    Ok(if said.is_empty() { format!("systemctl ended with {}", done.status) } else { said })
}
