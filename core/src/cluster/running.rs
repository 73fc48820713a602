//! `lap run`: a command of a person's, once, in a job of its own with what the active revision has.

use crate::assignment::ServicePath;
use crate::audit::Deed;
use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::enter::mistakes;
use crate::cluster::live::Live;
use crate::cluster::one_offs::Errand;
use crate::cluster::paths::slot_word;
use crate::cluster::queue::never_ran;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context};
use crate::ids::{DeploymentId, JobId};
use crate::placement::place;
use crate::quote::{is_acting, quoted, words};
use crate::reason::Reason;
use crate::time::Millis;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How long a command may run that is given no time: most of what people run by hand ends within minutes, and what is
/// forgotten shall not hold a node's room for days.
pub const DEFAULT_RUN_TIMEOUT: Millis = Millis::secs(60 * 60);
/// The longest time that may be given.
pub const LONGEST_RUN: Millis = Millis::secs(7 * 24 * 60 * 60);
/// So many one-off jobs of a service may run at once.
pub const MOST_RUNNING: usize = 8;
/// So many variables may be given.
const MOST_VARIABLES: usize = 100;
/// All variables that are given, names and values, in bytes.
const VARIABLE_BYTES: usize = 64 << 10;

/// A command that shall run once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOnce {
    /// The service whose image and settings it gets.
    pub service: ServicePath,
    /// The program, then its arguments.
    pub command: Vec<String>,
    /// Environment variables besides the service's, and before them.
    pub env: BTreeMap<String, String>,
    /// How long it may run; none for an hour.
    pub timeout: Option<Millis>,
}

impl RunOnce {
    /// As the audit tells it: the command with every word, and the names of the variables without what they are.
    pub(crate) fn deed(&self) -> Deed {
        let mut said = words(&self.command);
        if !self.env.is_empty() {
            let names: Vec<&str> = self.env.keys().map(String::as_str).collect();
            said = format!("{said} (with {})", names.join(", "));
        }
        Deed::of_line("run", &self.service, &said)
    }
}

impl Cluster {
    /// Gives the command to a node, or says everything that stands against it. It is not queued: who asks waits for it.
    pub(crate) fn run_once(
        &mut self,
        live: &Live,
        run: RunOnce,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let path = &run.service;
        let service = self.staying(path)?;
        let mistakes = mistakes_of(&run);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        if live.restored {
            let refusal = Refusal::conflict("the controller's store was restored, and nobody has accepted that yet");
            return Err(refusal.hint("see what runs, then `lapstrake-controller accept-restored`").into());
        }
        let active = service.active.ok_or_else(|| never_ran(path))?;
        let revision = self.get::<Revision>(&(service.id, active.revision)).cloned().ok_or_else(|| never_ran(path))?;
        let running = self.one_offs_of(service.id).filter(|one| one.is_under_way()).count();
        if running >= MOST_RUNNING {
            let sentence = format!("{running} one-off jobs of {path} run already; {MOST_RUNNING} may");
            return Err(Refusal::refused(sentence).hint(format!("`lap run {path} --list` lists them")).into());
        }
        let candidates = self.candidates(live, &service, Some(&revision), cx);
        let node = place(1, revision.demand(), candidates).remove(0).map_err(|nodes| {
            let environment = self.environment_path(service.environment);
            Refusal::conflict(format!("{}", Reason::NoFittingNode { environment, nodes }))
        })?;
        let errand = Errand {
            purpose: Purpose::Run,
            by: cx.by(),
            deployment: DeploymentId(cx.ids.mint()),
            revision: active.revision,
            bound_by: active.deployment_number,
            command: run.command,
            env: run.env,
            timeout: run.timeout.unwrap_or(DEFAULT_RUN_TIMEOUT),
        };
        let one = self.begin_one_off(&service, errand, node, cx);
        let answer = Answer::OneOff { service: service.id, number: one.number };
        Ok(Outcome { answer, warnings: Vec::new(), touched: [service.id].into() })
    }

    /// Ends a one-off job before it does by itself. Done twice, nothing more happens.
    pub(crate) fn end_run(
        &mut self,
        path: &ServicePath,
        job: JobId,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let service = self.service_at(path)?.id;
        let Some(one) = self.one_offs_of(service).find(|one| one.job == job).cloned() else {
            let refusal = Refusal::not_found(format!("{path} has no one-off job {job}"));
            return Err(refusal.hint(format!("`lap run {path} --list` lists them")).into());
        };
        let touched = [service].into();
        if one.stop.is_some() || !one.is_under_way() {
            return Ok(Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched });
        }
        let why = format!("{} stopped it", cx.by());
        self.stop_one_off(&one, why.clone());
        self.tell_one_off(&one, format!("{} is stopped: {why}", slot_word(&one.slot())), cx);
        Ok(Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched })
    }
}

/// All that is wrong with what shall run.
fn mistakes_of(run: &RunOnce) -> Vec<Refusal> {
    let mut mistakes = mistakes(&run.command);
    let invalid = |sentence: String| Refusal::invalid(sentence);
    for (name, value) in &run.env {
        if name.is_empty() || name.contains('=') || name.contains(is_acting) {
            mistakes.push(invalid(format!("{} is not the name of a variable", quoted(name))).at("env"));
        } else if value.contains('\0') {
            mistakes.push(invalid(format!("the variable {name} has a NUL, which would end it")).at("env"));
        }
    }
    let bytes: usize = run.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    if run.env.len() > MOST_VARIABLES || bytes > VARIABLE_BYTES {
        let sentence = format!(
            "{} variables with {bytes} bytes are given; {MOST_VARIABLES} with {VARIABLE_BYTES} are allowed",
            run.env.len()
        );
        mistakes.push(invalid(sentence).at("env"));
    }
    if run.timeout.is_some_and(|timeout| timeout < Millis::secs(1) || timeout > LONGEST_RUN) {
        mistakes.push(invalid(format!("a command may run for 1 s to {LONGEST_RUN}")).at("timeout_seconds"));
    }
    mistakes
}
