//! The invariants of one-off jobs, as far as the controller decides them.

use crate::check::Violation;
use crate::check::cluster::broken;
use crate::cluster::Cluster;
use crate::cluster::state::*;
use crate::ids::JobId;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// What must hold of every state.
pub(super) fn of_state(cluster: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut jobs: BTreeMap<JobId, u32> = BTreeMap::new();
    let mut releases = BTreeMap::new();
    for one in cluster.all::<OneOff>() {
        if let Some(other) = jobs.insert(one.job, one.number) {
            violations.push(broken(3, format!("the one-off jobs {other} and {} are one job", one.number)));
        }
        if let Purpose::Release { deployment } = one.purpose
            && let Some(other) = releases.insert((one.service, deployment), one.number)
        {
            let sentence = format!("deployment {deployment} runs its release command as {other} and as {}", one.number);
            violations.push(broken(3, sentence));
        }
        let bindings = cluster.bindings_of(one.service, one.bound_by);
        if bindings.iter().any(|bound| cluster.version(bound).is_none()) {
            violations.push(broken(8, format!("the one-off job {} has lost a value", one.number)));
        }
        if cluster.get::<Revision>(&(one.service, one.revision)).is_none() {
            violations.push(broken(8, format!("the revision of the one-off job {} is not kept", one.number)));
        }
    }
    violations
}

/// 3, 4, 6: a one-off job has its node, its command and its end for life; it comes only to a node that is given to its
/// environment and not cordoned; and a deployment touches a slot only when its release command has ended well.
pub(super) fn of_change(before: &Cluster, after: &Cluster) -> Vec<Violation> {
    let mut violations = Vec::new();
    for one in after.all::<OneOff>() {
        let name = format!("the one-off job {}", one.number);
        let Some(was) = before.get::<OneOff>(&(one.service, one.number)) else {
            let service = after.get::<Service>(&one.service);
            if !service.is_some_and(|service| after.is_allotted(service.environment, one.node)) {
                violations.push(broken(6, format!("{name} came to a node that its environment was not given")));
            }
            if after.get::<Node>(&one.node).is_some_and(|node| node.wish.cordon().is_some()) {
                violations.push(broken(6, format!("{name} came to a cordoned node")));
            }
            continue;
        };
        if (was.job, was.node, &was.command, was.revision) != (one.job, one.node, &one.command, one.revision) {
            violations.push(broken(4, format!("{name} was changed")));
        }
        // That nobody knows how one ended may turn into a good end, when its node comes back.
        let succeeded = one.end.as_ref().is_some_and(|end| end.how == Ending::Succeeded);
        let is_known_now = was.end.as_ref().is_some_and(OneOffEnd::is_unknown) && succeeded;
        if was.end.is_some() && was.end != one.end && !is_known_now {
            violations.push(broken(4, format!("{name} had ended and ended otherwise")));
        }
    }
    for deployment in after.all::<Deployment>() {
        let was = before.get::<Deployment>(&(deployment.service, deployment.number));
        if was.is_some_and(|was| was.release.is_some() && was.release != deployment.release) {
            violations.push(broken(3, format!("deployment {} runs another release command", deployment.number)));
        }
        let leaves = was.is_some_and(|was| was.phase == DeploymentPhase::Preparing)
            && matches!(deployment.phase, DeploymentPhase::Placing | DeploymentPhase::Rolling);
        let ended_well = deployment.release.and_then(|one| after.get::<OneOff>(&(deployment.service, one)));
        let ended_well = ended_well.and_then(|one| one.end.as_ref()).is_some_and(|end| end.how == Ending::Succeeded);
        if leaves && !ended_well {
            violations.push(broken(6, format!("deployment {} went on without its release command", deployment.number)));
        }
    }
    violations
}
