//! What applications and environments have and may have.

use super::Session;
use super::nodes::noted;
use crate::address::Below;
use crate::args::{Good, Limit};
use crate::error::LapError;
use crate::show::listing;
use lapstrake_api::{ask, view};

/// `lap quota ls`.
pub async fn list(session: &mut Session, below: Option<&Below>) -> Result<(), LapError> {
    let below = below.map(|below| format!("?below={below}")).unwrap_or_default();
    let answer = session.client.get(&format!("/v1/quotas{below}")).await?;
    if session.output.is_json() {
        return session.output.json(&answer);
    }
    let quotas: Vec<view::Quota> = answer.read()?;
    session.output.table(&listing::quotas(&quotas))
}

/// `lap quota set`.
pub async fn set(session: &mut Session, of: &Below, limits: &[Limit]) -> Result<(), LapError> {
    let mut ask = ask::Quota::default();
    for Limit { good, limit } in limits {
        let field = match good {
            Good::Services => &mut ask.services,
            Good::Jobs => &mut ask.jobs,
            Good::Cpu => &mut ask.cpu_milli,
            Good::Memory => &mut ask.memory_bytes,
        };
        *field = Some(*limit);
    }
    let answer = session.client.post(&format!("/v1/quotas/{of}"), &ask).await?;
    noted(session, &answer, &format!("set the quota of {of}"), "the quota was so already")
}
