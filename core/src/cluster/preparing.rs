//! Preparing: a deployment's release command runs, once, before any slot is touched.
//!
//! It runs for a deployment that brings a revision which is not active, and for a redeploy: that resolves the values anew,
//! and is how people repeat what their release command does. It does not run for what goes back because a deployment
//! failed, nor for another number of jobs of what a deployment under way has prepared.
//!
//! It is given to a node once per deployment. Whatever other end than exit code 0 it comes to fails the deployment, and so
//! does the loss of its node: it may have had effects, and is not silently repeated.

use crate::cluster::live::Live;
use crate::cluster::one_offs::Errand;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::DeploymentId;
use crate::placement::place;
use crate::reason::Reason;
use crate::report::NodeReport;
use alloc::collections::BTreeMap;

impl Cluster {
    /// The phase that follows when the revision is known.
    pub(crate) fn phase_with_image(&self, service: &Service, deployment: &Deployment, number: u32) -> DeploymentPhase {
        let Some(revision) = self.get::<Revision>(&(service.id, number)) else { return DeploymentPhase::Placing };
        match revision.spec.deploy.release.is_some() && self.is_release_due(service, deployment, revision) {
            true => DeploymentPhase::Preparing,
            false => DeploymentPhase::Placing,
        }
    }

    /// Whether a deployment runs the release command of its revision: if it brings what is not active, or new values, and goes on
    /// with none for which that has come to its end.
    fn is_release_due(&self, service: &Service, deployment: &Deployment, revision: &Revision) -> bool {
        let is_active = service.active.is_some_and(|active| active.revision == revision.number);
        let is_prepared = |earlier: &Deployment| earlier.has_reached(DeploymentPhase::Placing);
        let switches = !is_active || deployment.renew_from.is_some();
        switches
            && !self.goes_on_with(deployment, revision.number).any(is_prepared)
            && self.release_so_far(deployment, revision.number).is_none()
    }

    /// The release command that has ended well for a deployment with which this one goes on.
    fn release_so_far(&self, deployment: &Deployment, revision: u32) -> Option<u32> {
        let ended_well = |number: &u32| {
            let one = self.get::<OneOff>(&(deployment.service, *number));
            one.and_then(|one| one.end.as_ref()).is_some_and(|end| end.how == Ending::Succeeded)
        };
        self.goes_on_with(deployment, revision).filter_map(|earlier| earlier.release).find(ended_well)
    }

    /// Preparing: gives the release command to a node, waits for its end, and goes on or fails. True if anything changed.
    pub(crate) fn prepare(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        number: u32,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(revision) = self.kept_or_fail(service, deployment, number, cx) else { return true };
        match (&revision.spec.deploy.release, deployment.release) {
            (None, _) => self.enter(service, deployment.number, DeploymentPhase::Placing, cx),
            (Some(_), None) => self.begin_release(live, service, deployment, &revision, cx, follow),
            (Some(_), Some(one)) => self.follow_release(live, service, deployment, one, cx, follow),
        }
    }

    fn begin_release(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        revision: &Revision,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(release) = revision.spec.deploy.release.clone() else { return false };
        // What would fail anyway fails before the command has effects.
        if let Some(failure) = self.why_it_cannot_be_placed(service, deployment, revision) {
            return self.fail(service, deployment.number, failure, cx);
        }
        if let Some(reason) = self.why_no_release_yet(live, service) {
            follow.wait(self.path_of(service), reason);
            return false;
        }
        // That of the deployment with which it goes on may have ended well before it heard that it was to stop.
        if let Some(one) = self.release_so_far(deployment, revision.number) {
            self.edit::<Deployment>(&(service.id, deployment.number), |it| it.release = Some(one));
            return true;
        }
        let candidates = self.candidates(live, service, Some(revision), cx);
        match place(1, revision.demand(), candidates).remove(0) {
            Ok(node) => {
                let errand = Errand {
                    purpose: Purpose::Release { deployment: deployment.number },
                    by: deployment.trigger.by.clone(),
                    // Not the deployment's own: what comes of the command shall not hold up its jobs on an agent that takes it
                    // for one of them.
                    deployment: DeploymentId(cx.ids.mint()),
                    revision: revision.number,
                    bound_by: deployment.number,
                    command: release.command,
                    env: BTreeMap::new(),
                    timeout: release.timeout,
                };
                let one = self.begin_one_off(service, errand, node, cx);
                self.edit::<Deployment>(&(service.id, deployment.number), |it| it.release = Some(one.number));
                true
            }
            Err(nodes) => {
                let environment = self.environment_path(service.environment);
                follow.wait(self.path_of(service), Reason::NoFittingNode { environment, nodes });
                false
            }
        }
    }

    /// What a release command waits for before it is given to a node. Two of them at once would meet in the same database.
    fn why_no_release_yet(&self, live: &Live, service: &Service) -> Option<Reason> {
        if live.restored {
            return Some(Reason::ReleaseRestored);
        }
        let releases = || self.one_offs_of(service.id).filter(|one| matches!(one.purpose, Purpose::Release { .. }));
        if let Some(earlier) = releases().find(|one| one.is_under_way()) {
            return Some(Reason::EarlierRelease { node: self.node_name(earlier.node) });
        }
        let unclear = releases().find(|one| self.may_run_still(live, one))?;
        Some(Reason::UnclearRelease { node: self.node_name(unclear.node) })
    }

    fn follow_release(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        number: u32,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(one) = self.get::<OneOff>(&(service.id, number)).cloned() else {
            let how = Ending::Unknown { said: "how it ended is not known any more".into() };
            let failure = DeploymentFailure::Release { node: "its node".into(), how };
            return self.fail(service, deployment.number, failure, cx);
        };
        match one.end.clone() {
            Some(OneOffEnd { how: Ending::Succeeded, .. }) => {
                self.enter(service, deployment.number, DeploymentPhase::Placing, cx)
            }
            Some(OneOffEnd { how, .. }) => {
                let failure = DeploymentFailure::Release { node: self.node_name(one.node), how };
                self.fail(service, deployment.number, failure, cx)
            }
            None => {
                let reason = self.why_release_runs(live, &one, cx);
                follow.wait(self.path_of(service), reason);
                false
            }
        }
    }

    fn why_release_runs(&self, live: &Live, one: &OneOff, cx: &Context<'_>) -> Reason {
        let node = self.node_name(one.node);
        if !live.is_reachable(one.node, cx.tick) {
            let silence = live.pulse(one.node).silence(cx.tick);
            return Reason::NodeSilent { node, silence, replaced_in: None, given_up_in: None };
        }
        let told = live.report(one.node).and_then(|report| report.jobs.iter().find(|told| told.job == one.job));
        match told {
            None => {
                let troubles = live.report(one.node).map(NodeReport::troubles_with_sets).unwrap_or_default();
                Reason::NotAcknowledged { node, troubles }
            }
            Some(told) => Reason::Releasing { node, phase: told.phase.word(), agent_waits: told.waits_for.clone() },
        }
    }
}
