//! What a node's picture proves about the slots that it was given.
//!
//! Only a picture of a set that already said so is evidence for a slot. Phases only move forward, so of two reports the
//! later phase is right, and a report that comes twice or late changes nothing. An ended replacement is reported until the
//! next set comes; when it was missed, the jobs tell the same.

use crate::assignment::Traffic;
use crate::cluster::event::{Event, EventKind};
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context};
use crate::ids::NodeId;
use crate::report::{Failure, JobPhase, JobReport, NodeReport, ReplacementPhase, ReplacementReport};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// What a picture proves about one slot.
enum Proof {
    /// Nothing yet.
    None,
    /// It went so.
    Outcome(SlotOutcome),
    /// Nothing of it is left there.
    Empty,
}

impl Cluster {
    /// Records how it went with each slot of a node for which that was not known, or whose job was given up after all: an
    /// agent that lost its ledger starts what has ended meanwhile as if for the first time.
    pub(crate) fn settle_slots(&mut self, live: &Live, node: NodeId, report: &NodeReport) {
        let open: Vec<Slot> =
            self.slots_on(node).filter(|slot| slot.outcome.is_none() || is_given_up(slot, report)).cloned().collect();
        for slot in open {
            if !self.is_acknowledged(live, &slot) {
                continue;
            }
            let proof = match &slot.job {
                Some(job) => proof(&slot, job, report),
                None => self.proof_of_end(&slot, report),
            };
            match proof {
                Proof::None => {}
                Proof::Empty => self.drop_slot(&slot.id),
                Proof::Outcome(outcome) => {
                    let is_settled = outcome == SlotOutcome::Settled;
                    // Whatever it was told to leave to others: there are no others in its slot any more.
                    let has_less = is_settled && slot.traffic != Traffic::Full;
                    let generation = if has_less { self.bump(slot.node) } else { slot.generation };
                    self.edit::<Slot>(&slot.id, |slot| {
                        if is_settled {
                            slot.previous.clear();
                            slot.traffic = Traffic::Full;
                        }
                        slot.generation = generation;
                        slot.outcome = Some(outcome);
                    });
                }
            }
        }
    }

    /// What a picture proves of a slot that is being emptied. A node that has lost its ledger has no job of it, and its container
    /// may run all the same.
    fn proof_of_end(&self, slot: &Slot, report: &NodeReport) -> Proof {
        let under_way = report.replacements.iter().any(|it| it.slot == slot.id && !it.phase.is_final());
        let alive = jobs_of(report, slot).any(|job| !job.phase.is_final());
        let may_run = report.may_have_stray(&slot.id) && self.next_is_alone(slot);
        if alive || under_way || may_run { Proof::None } else { Proof::Empty }
    }

    /// Records how far each replacement is, in the deployment that asked for it. What a node says of another node's slot is
    /// no evidence.
    pub(crate) fn take_outcomes(&mut self, node: NodeId, report: &NodeReport, cx: &Context<'_>) {
        let is_its_own = |cluster: &Cluster, slot| cluster.get::<Slot>(slot).is_some_and(|slot| slot.node == node);
        for replacement in &report.replacements {
            if !is_its_own(self, &replacement.slot) {
                continue;
            }
            let Some(service) = self.get::<Service>(&replacement.slot.service).cloned() else { continue };
            let Some(deployment) = self.deployments_of(service.id).rev().find(|it| it.id == replacement.deployment)
            else {
                continue;
            };
            let number = deployment.number;
            let place = deployment.outcomes.binary_search_by(|it| it.slot.cmp(&replacement.slot));
            let known = place.ok().map(|i| deployment.outcomes[i].clone());
            if !self.is_news(known.as_ref(), replacement) {
                continue;
            }
            self.edit::<Deployment>(&(service.id, number), |deployment| match place {
                Ok(i) => deployment.outcomes[i] = replacement.clone(),
                Err(i) => deployment.outcomes.insert(i, replacement.clone()),
            });
            self.tell_phases(&service, known.as_ref(), replacement, cx);
        }
    }

    /// Whether a report of a replacement is later than what is known of the slot in its deployment.
    fn is_news(&self, known: Option<&ReplacementReport>, report: &ReplacementReport) -> bool {
        match known {
            Some(known) if known.new == report.new => {
                (!known.phase.is_final() && report.phase > known.phase)
                    || (known.phase == report.phase && known.stopped_at.is_none() && report.stopped_at.is_some())
            }
            Some(_) | None => {
                let slot = self.get::<Slot>(&report.slot);
                let current = slot.and_then(|slot| slot.job).map(|job| job.job);
                // A slot's first report in its deployment may be of a job that a newer deployment has replaced already.
                let earlier = slot.is_some_and(|slot| slot.previous.iter().any(|it| Some(it.job) == report.new));
                report.new.is_some() && (report.new == current || (known.is_none() && earlier))
            }
        }
    }

    fn tell_phases(
        &mut self,
        service: &Service,
        known: Option<&ReplacementReport>,
        report: &ReplacementReport,
        cx: &Context<'_>,
    ) {
        let slot = self.get::<Slot>(&report.slot);
        let node = slot.map(|slot| self.node_name(slot.node)).unwrap_or_default();
        let path = self.path_of(service).to_string();
        let word = slot_word(&report.slot);
        let known = known.filter(|known| known.new == report.new);
        let told = |phase: ReplacementPhase| known.is_some_and(|known| known.reached.iter().any(|it| it.0 == phase));
        let mut lines: Vec<_> = report
            .reached
            .iter()
            .filter(|(phase, _)| !told(*phase))
            .map(|(phase, wall)| match (&report.failure, phase.is_final()) {
                (Some(failure), true) => (*wall, format!("{word} on {node} is {}: {failure}", phase.word())),
                _ => (*wall, format!("{word} on {node} is {}", phase.word())),
            })
            .collect();
        if let Some(wall) = report.stopped_at
            && known.is_none_or(|known| known.stopped_at.is_none())
        {
            lines.push((wall, format!("{word} on {node}: the old job got its stop signal")));
        }
        if lines.is_empty() {
            lines.push((cx.wall, format!("{word} on {node} is {}", report.phase.word())));
        }
        lines.sort_by_key(|(wall, _)| *wall);
        for (wall, sentence) in lines {
            self.note(Event { kind: EventKind::Replacement, path: path.clone(), sentence, wall, by: None });
        }
    }
}

/// What a picture of a set that named the slot so proves of the job that it was given.
fn proof(slot: &Slot, job: &SlotJob, report: &NodeReport) -> Proof {
    let replacement = report.replacements.iter().find(|it| it.slot == slot.id);
    let under_way = replacement.is_some_and(|it| !it.phase.is_final());
    // What a newer assignment has overtaken runs to its end first.
    if under_way {
        return Proof::None;
    }
    if let Some(ended) = replacement.filter(|it| it.new == Some(job.job)) {
        return Proof::Outcome(match ended.phase {
            ReplacementPhase::Done => SlotOutcome::Settled,
            _ => {
                let failure = ended.failure.clone().unwrap_or_else(|| unsaid(ended.phase.word()));
                SlotOutcome::Failed { failure, old: ended.old }
            }
        });
    }
    let Some(own) = jobs_of(report, slot).find(|it| it.job == job.job) else { return Proof::None };
    match own.phase {
        JobPhase::Running => Proof::Outcome(SlotOutcome::Settled),
        JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => {
            let others = jobs_of(report, slot).filter(|it| it.job != job.job);
            let old = others.filter(|it| it.phase == JobPhase::Running).map(|it| it.job).max();
            let failure = own.failure.clone().unwrap_or_else(|| unsaid("ended"));
            Proof::Outcome(SlotOutcome::Failed { failure, old })
        }
        JobPhase::Assigned | JobPhase::Pulling | JobPhase::Creating | JobPhase::Starting | JobPhase::Stopping => {
            Proof::None
        }
    }
}

/// Whether a picture tells that the slot's own job did not get ready, or not for good.
fn is_given_up(slot: &Slot, report: &NodeReport) -> bool {
    let ended =
        |it: &&ReplacementReport| matches!(it.phase, ReplacementPhase::Abandoned | ReplacementPhase::SwitchedBack);
    let own = slot.job.map(|job| job.job);
    slot.outcome == Some(SlotOutcome::Settled)
        && report.replacements.iter().filter(ended).any(|it| it.slot == slot.id && it.new == own)
}

/// What a picture says of a slot's jobs.
pub(crate) fn jobs_of<'a>(report: &'a NodeReport, slot: &'a Slot) -> impl Iterator<Item = &'a JobReport> {
    report.jobs.iter().filter(move |job| job.slot == slot.id)
}

/// An agent that does not say why: that is said too.
fn unsaid(word: &str) -> Failure {
    Failure::CannotStart { said: format!("the agent says only that it is {word}") }
}
