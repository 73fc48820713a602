//! To which job a stream leads that an operator opens, and whether it may be opened as it is asked for.

use crate::assignment::ServicePath;
use crate::audit::{Deed, LONGEST_COMMAND};
use crate::cluster::Cluster;
use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::{Revision, Service, Slot};
use crate::cluster::status::{SlotJobStatus, SlotStatus};
use crate::ids::{JobId, NodeId};
use crate::message::Way;
use crate::quote::{quoted, words};
use crate::report::{Health, JobPhase};
use crate::time::Tick;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// All words of a command together, in bytes. It stands in an address, where each byte may take three, and addresses end at
/// 64 KiB; what is longer is better given as input.
pub const COMMAND_BYTES: usize = 16 << 10;

/// Words of a command.
pub const COMMAND_WORDS: usize = 1024;

/// An operator wants a stream to a job of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enter {
    /// The service.
    pub service: ServicePath,
    /// Which of its jobs.
    pub which: Which,
    /// What for.
    pub way: Way,
}

/// Which of a service's jobs is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The first healthy one, else the first that runs.
    First,
    /// The healthy one in the slot of this number; of two, the one that is to fill it.
    Slot(u32),
    /// This one.
    Job(JobId),
}

/// The job to which a stream leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The job.
    pub job: JobId,
    /// `web.1`.
    pub slot: String,
    /// Its node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// How many jobs of the service run, this one among them.
    pub running: u32,
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, job {} on {}", self.slot, self.job, self.node_name)
    }
}

impl Enter {
    /// As the audit tells it: the command with every word as it is, so that what was run can be read.
    pub(crate) fn deed(&self) -> Deed {
        match &self.way {
            Way::Exec(exec) => Deed::of_line("exec", &self.service, &words(&exec.command)),
            Way::Forward { port } => Deed::new("forward", &self.service, format!("port {port}")),
        }
    }
}

/// A job that could be meant.
struct Candidate<'a> {
    slot: &'a SlotStatus,
    record: Option<&'a Slot>,
    job: &'a SlotJobStatus,
}

impl Candidate<'_> {
    /// The smallest is the best: healthy before others; the job that shall fill the slot before the one that leaves it, so
    /// that what is opened after a replacement leads to the new one.
    fn rank(&self) -> (bool, bool, u32, bool) {
        let is_wanted = self.record.and_then(|slot| slot.job).is_some_and(|wanted| wanted.job == self.job.job);
        let is_healthy = self.job.health == Health::Healthy;
        (!is_healthy, self.slot.revision.is_none(), self.slot.slot.number, !is_wanted)
    }
}

impl Cluster {
    /// Where an operator would be led now, without any record of it; none if it would be refused. For what has to be made
    /// ready before the command is carried out.
    pub fn entrance(&self, live: &Live, enter: &Enter, now: Tick) -> Option<Entrance> {
        match self.find_entrance(live, enter, now).ok()?.answer {
            Answer::Entrance(entrance) => Some(entrance),
            _ => None,
        }
    }

    /// Chooses the job, or says everything that stands against it.
    pub(crate) fn find_entrance(&self, live: &Live, enter: &Enter, now: Tick) -> Result<Outcome, Vec<Refusal>> {
        let service = self.service_at(&enter.service)?;
        if let Way::Exec(exec) = &enter.way {
            let mistakes = mistakes(&exec.command);
            if !mistakes.is_empty() {
                return Err(mistakes);
            }
        }
        if let (Which::Job(job), Way::Exec(_)) = (enter.which, &enter.way)
            && let Some(entrance) = self.entrance_of_one_off(live, service, job, now)
        {
            return Ok(Outcome { answer: Answer::Entrance(entrance), warnings: Vec::new(), touched: [].into() });
        }
        let status = self.status(live, service.id, now);
        let slots = status.as_ref().map(|status| status.slots.as_slice()).unwrap_or_default();
        let runs = |job: &&SlotJobStatus| matches!(job.phase, JobPhase::Running | JobPhase::Stopping);
        let running = slots.iter().flat_map(|slot| slot.jobs.iter().filter(runs).map(move |job| (slot, job)));
        let candidate = |(slot, job)| {
            let slot: &SlotStatus = slot;
            Candidate { slot, record: self.get::<Slot>(&slot.slot), job }
        };
        let all: Vec<Candidate<'_>> = running.map(candidate).collect();
        let meant = |candidate: &&Candidate<'_>| match enter.which {
            Which::First => true,
            Which::Slot(number) => candidate.slot.slot.number == number,
            Which::Job(job) => candidate.job.job == job,
        };
        let reachable = |candidate: &&Candidate<'_>| live.is_reachable(candidate.slot.node, now);
        let chosen = all.iter().filter(meant).filter(reachable).min_by_key(|candidate| candidate.rank());
        let Some(chosen) = chosen else { return Err(self.no_entrance(enter, slots, all.iter().find(meant)).into()) };
        if let Way::Forward { port } = enter.way {
            self.refuse_port(service, chosen, port)?;
        }
        let entrance = Entrance {
            job: chosen.job.job,
            slot: slot_word(&chosen.slot.slot),
            node: chosen.slot.node,
            node_name: self.node_name(chosen.slot.node),
            running: u32::try_from(all.len()).unwrap_or(u32::MAX),
        };
        Ok(Outcome { answer: Answer::Entrance(entrance), warnings: Vec::new(), touched: [].into() })
    }

    /// The way to a one-off job that runs, on a node that can be reached.
    fn entrance_of_one_off(&self, live: &Live, service: &Service, job: JobId, now: Tick) -> Option<Entrance> {
        let one = self.one_offs_of(service.id).find(|one| one.job == job && one.is_under_way())?;
        let report = live.report(one.node).filter(|_| live.is_reachable(one.node, now))?;
        let told = report.jobs.iter().find(|told| told.job == job)?;
        matches!(told.phase, JobPhase::Running | JobPhase::Stopping).then(|| Entrance {
            job,
            slot: slot_word(&one.slot()),
            node: one.node,
            node_name: self.node_name(one.node),
            running: 1,
        })
    }

    /// Why there is no job to enter. One that is meant, but cannot be reached, is said to be so.
    fn no_entrance(&self, enter: &Enter, slots: &[SlotStatus], meant: Option<&Candidate<'_>>) -> Refusal {
        let path = &enter.service;
        let why = || format!("`lap why {path}` says why");
        if let Some(Candidate { slot, .. }) = meant {
            let (slot_name, node) = (slot_word(&slot.slot), self.node_name(slot.node));
            return Refusal::conflict(format!("{slot_name} of {path} is on {node}, which cannot be reached now"))
                .hint(format!("`lap node show {node}` says more"));
        }
        match enter.which {
            Which::First => Refusal::conflict(format!("no job of {path} runs")).hint(why()),
            Which::Slot(number) if slots.iter().any(|slot| slot.slot.number == number) => {
                Refusal::conflict(format!("no job runs in slot {number} of {path}")).hint(why())
            }
            Which::Slot(number) => {
                let numbers: Vec<String> = slots.iter().map(|slot| slot.slot.number.to_string()).collect();
                let refusal = Refusal::not_found(format!("{path} has no slot {number}"));
                if numbers.is_empty() { refusal } else { refusal.hint(format!("it has {}", numbers.join(", "))) }
            }
            Which::Job(job) => Refusal::not_found(format!("no job {job} of {path} runs"))
                .hint(format!("`lap ps {path} -o json` names them")),
        }
    }

    /// Only what the service declares is led to: a stream is no way around what it keeps closed.
    fn refuse_port(&self, service: &Service, chosen: &Candidate<'_>, port: u16) -> Result<(), Refusal> {
        let held = chosen.record.and_then(|slot| {
            slot.job.iter().chain(&slot.previous).find(|held| held.job == chosen.job.job).map(|held| held.revision)
        });
        let revision = held.and_then(|number| self.get::<Revision>(&(service.id, number)));
        let ports = revision.map_or(&service.spec, |revision| &revision.spec).ports.iter().map(|port| port.port);
        let ports: Vec<u16> = ports.collect();
        if ports.contains(&port) {
            return Ok(());
        }
        let refusal = Refusal::conflict(format!("{} has no port {port}", self.path_of(service)));
        let named: Vec<String> = ports.iter().map(u16::to_string).collect();
        Err(match named.is_empty() {
            true => refusal.hint("its spec declares none"),
            false => refusal.hint(format!("its spec declares {}", named.join(", "))),
        })
    }
}

/// All that is wrong with a command.
pub(crate) fn mistakes(command: &[String]) -> Vec<Refusal> {
    let mut mistakes = Vec::new();
    match command.first() {
        None => mistakes.push(Refusal::invalid("no command is given")),
        Some(program) if program.is_empty() => mistakes.push(Refusal::invalid("the program's name is empty")),
        Some(_) => {}
    }
    if command.len() > COMMAND_WORDS {
        let sentence = format!("the command has {} words; {COMMAND_WORDS} are allowed", command.len());
        mistakes.push(Refusal::invalid(sentence));
    }
    let bytes: usize = command.iter().map(String::len).sum();
    if bytes > COMMAND_BYTES {
        let sentence = format!("the command has {bytes} bytes; {COMMAND_BYTES} are allowed");
        mistakes.push(
            Refusal::invalid(sentence).hint("what is long is better given as input: `lap exec -i … -- sh < file`"),
        );
    }
    // What the audit would have to cut is not run: the rest of it would be hidden.
    let characters = words(command).chars().count();
    if bytes <= COMMAND_BYTES && characters > LONGEST_COMMAND {
        let sentence = format!(
            "the command has {characters} characters with its quotes and escapes, as the audit writes it; {LONGEST_COMMAND} \
             are allowed"
        );
        mistakes.push(
            Refusal::invalid(sentence).hint("what is long is better given as input: `lap exec -i … -- sh < file`"),
        );
    }
    if let Some(word) = command.iter().find(|word| word.contains('\0')) {
        mistakes.push(Refusal::invalid(format!("the word {} has a NUL, which would end it", quoted(word))));
    }
    mistakes
}
