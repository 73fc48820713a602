//! How a service's jobs are replaced: what the fields of its `deploy` say together.

use super::defaults;
use super::problem::Findings;
use super::read::Values;
use super::service::small;
use super::values::print_span;
use lapstrake_core::spec::{
    CanaryStep, DEFAULT_CANARY, DEFAULT_RELEASE_TIMEOUT, DeployPolicy, MOST_CANARY_STEPS, ReleaseCommand, Strategy,
};
use lapstrake_core::time::Millis;

/// The policy with all defaults, and what is wrong with it.
pub(super) fn policy(given: Option<&Values>, scale: u32, findings: &mut Findings) -> DeployPolicy {
    let millis = |name, default| given.and_then(|deploy| deploy.number(name)).map_or(default, Millis);
    let count = |name, default| given.and_then(|deploy| small(deploy.number(name))).unwrap_or(default);
    let word = given.and_then(|deploy| deploy.text("strategy"));
    let named = word.and_then(|word| Strategy::ALL.into_iter().find(|strategy| strategy.name() == word));
    let strategy = named.unwrap_or(defaults::DEPLOY.strategy);
    let policy = DeployPolicy {
        strategy,
        overlap: millis("overlap", defaults::DEPLOY.overlap),
        drain: millis("drain", defaults::DEPLOY.drain),
        stop_grace: millis("stop_grace", defaults::DEPLOY.stop_grace),
        min_healthy: millis("min_healthy", defaults::DEPLOY.min_healthy),
        timeout: millis("timeout", defaults::DEPLOY.timeout),
        max_surge: count("max_surge", defaults::DEPLOY.max_surge),
        max_unavailable: count("max_unavailable", defaults::DEPLOY.max_unavailable),
        steps: steps(given, strategy, findings),
        max_attempts: count("max_attempts", defaults::DEPLOY.max_attempts),
        release: given.and_then(|deploy| release(deploy, findings)),
    };
    if let Some(given) = given {
        judge(&policy, given, scale, findings);
    }
    policy
}

fn judge(policy: &DeployPolicy, given: &Values, scale: u32, findings: &mut Findings) {
    if policy.timeout <= policy.min_healthy {
        let place = if given.has("timeout") { given.place("timeout") } else { given.place("min_healthy") };
        let (timeout, least) = (print_span(policy.timeout.0), print_span(policy.min_healthy.0));
        let message = format!("a `timeout` of {timeout} ends before `min_healthy` ({least}) can be reached");
        findings.error(place, message);
    }
    let recreates = policy.strategy == Strategy::Recreate;
    if policy.max_surge == 0 && policy.max_unavailable == 0 && !recreates {
        let message = "with `max_surge: 0` and without `max_unavailable` no job can be replaced";
        let hint = "`max_unavailable: 1` ends one job before the next one starts";
        findings.error_with_hint(given.place("max_surge"), message.to_owned(), hint.to_owned());
    }
    if recreates && given.has("max_surge") {
        let message = "`recreate` never has two jobs of a slot up together, so `max_surge` says nothing".to_owned();
        findings.warning(given.place("max_surge"), message, "`max_unavailable` says how many slots end at once");
    }
    let overlap = print_span(policy.overlap.0);
    if policy.overlap > Millis(0) && recreates {
        let message = format!("`recreate` ends the old job first, so there is no overlap of {overlap}");
        findings.warning(given.place("overlap"), message, "leave it out, or choose another strategy");
    } else if policy.overlap > Millis(0) && scale == 1 {
        let message = format!(
            "with `scale: 1` the one new job gets every new request for the overlap of {overlap}, and its node needs room for two"
        );
        findings.warning(given.place("overlap"), message, "with `scale: 2` or more the load is shared meanwhile");
    }
}

/// The release command, if there is a whole one.
fn release(given: &Values, findings: &mut Findings) -> Option<ReleaseCommand> {
    let entry = given.object("release")?;
    super::service::missing(&super::fields::RELEASE, "the release command", entry.span, entry, findings);
    let command = entry.words("command")?;
    if command.is_empty() {
        let hint = "leave `release` out if nothing shall run";
        findings.error_with_hint(entry.place("command"), "the release command is empty".to_owned(), hint.to_owned());
        return None;
    }
    let timeout = entry.number("timeout").map_or(DEFAULT_RELEASE_TIMEOUT, Millis);
    Some(ReleaseCommand { command: command.to_vec(), timeout })
}

/// The steps of a canary: weights that rise.
fn steps(given: Option<&Values>, strategy: Strategy, findings: &mut Findings) -> Vec<CanaryStep> {
    let Some(given) = given.filter(|given| given.has("steps")) else {
        return if strategy == Strategy::Canary { DEFAULT_CANARY.to_vec() } else { Vec::new() };
    };
    if strategy != Strategy::Canary {
        let message = format!("`{}` has no `steps`", strategy.name());
        findings.error_with_hint(given.key("steps"), message, "only `strategy: canary` has them".to_owned());
        return Vec::new();
    }
    let entries = given.list("steps").unwrap_or_default();
    if entries.is_empty() || entries.len() > MOST_CANARY_STEPS {
        let message = format!("`steps` has {} entries; 1 to {MOST_CANARY_STEPS} are allowed", entries.len());
        findings.error(given.place("steps"), message);
        return Vec::new();
    }
    let mut steps: Vec<CanaryStep> = Vec::new();
    for entry in entries {
        super::service::missing(&super::fields::CANARY_STEP, "this step", entry.span, entry, findings);
        let Some(weight) = small(entry.number("weight")) else { continue };
        if let Some(before) = steps.last().filter(|before| before.weight >= weight) {
            let message = format!("a step of {weight} % after one of {} %: a canary only grows", before.weight);
            findings.error(entry.place("weight"), message);
        }
        steps.push(CanaryStep { weight, hold: entry.number("hold").map(Millis) });
    }
    steps
}
