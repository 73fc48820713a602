//! What an agent tells: the agent's word to the controller.
//!
//! Phases only move forward, so of two reports about the same thing the later phase is right, whatever order they came
//! in. Health is a reading, not a phase: it may change back and is forgotten when the node falls silent.

use crate::assignment::Generation;
use crate::ids::{DeploymentId, JobId, SlotId};
use crate::spec::Size;
use crate::time::{Millis, Wall};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// A job's life. `Rejected` never ran. Only moves forward, within an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobPhase {
    /// The ledger holds it.
    Assigned,
    /// The image is on its way.
    Pulling,
    /// The container is made.
    Creating,
    /// The container is started.
    Starting,
    /// Its process runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// It ended because it was told to.
    Stopped,
    /// It was to run once, and ended with exit code 0.
    Succeeded,
    /// It ended by itself and shall not run again.
    Failed,
    /// It never ran.
    Rejected,
}

impl JobPhase {
    /// Whether nothing more will happen to it.
    pub const fn is_final(self) -> bool {
        matches!(self, JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected)
    }

    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            JobPhase::Assigned => "assigned",
            JobPhase::Pulling => "pulling",
            JobPhase::Creating => "creating",
            JobPhase::Starting => "starting",
            JobPhase::Running => "running",
            JobPhase::Stopping => "stopping",
            JobPhase::Stopped => "stopped",
            JobPhase::Succeeded => "succeeded",
            JobPhase::Failed => "failed",
            JobPhase::Rejected => "rejected",
        }
    }
}

/// A reading of a job's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nobody has looked yet, or the one who looks is silent.
    #[default]
    Unknown,
    /// It has not been healthy in this attempt.
    Starting,
    /// All checks answer.
    Healthy,
    /// A check has failed `restart_after` times in a row, or the process is not there.
    Unhealthy,
}

/// Where a replacement stands. Only moves forward; the last three are ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplacementPhase {
    /// The ledger holds it.
    Accepted,
    /// The new job's image is on its way.
    Pulling,
    /// Only where the new job comes in the place of the old one and not beside it: the old job ends.
    Emptying,
    /// The new job's container starts; its checks are asked.
    Starting,
    /// The new job was healthy for `min_healthy`. It waits to be released, or a table with it and without the old job is on
    /// its way to the proxies.
    Ready,
    /// Every live proxy has acknowledged that table.
    Switched,
    /// Both jobs are up.
    Overlapping,
    /// The old job ends: it finishes what it has, then gets its SIGTERM.
    Draining,
    /// The new job fills the slot alone.
    Done,
    /// The new job did not get ready. The old job never lost its traffic, or, where it had to end first, is started again.
    Abandoned,
    /// The new job failed after the switch and before the old job's SIGTERM; the old job has the traffic again.
    SwitchedBack,
}

impl ReplacementPhase {
    /// Whether it has ended.
    pub const fn is_final(self) -> bool {
        matches!(self, ReplacementPhase::Done | ReplacementPhase::Abandoned | ReplacementPhase::SwitchedBack)
    }
    /// Whether the new job has the traffic, or had it.
    pub const fn is_after_switch(self) -> bool {
        matches!(
            self,
            ReplacementPhase::Switched
                | ReplacementPhase::Overlapping
                | ReplacementPhase::Draining
                | ReplacementPhase::Done
                | ReplacementPhase::SwitchedBack
        )
    }
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            ReplacementPhase::Accepted => "accepted",
            ReplacementPhase::Pulling => "pulling",
            ReplacementPhase::Emptying => "emptying",
            ReplacementPhase::Starting => "starting",
            ReplacementPhase::Ready => "ready",
            ReplacementPhase::Switched => "switched",
            ReplacementPhase::Overlapping => "overlapping",
            ReplacementPhase::Draining => "draining",
            ReplacementPhase::Done => "done",
            ReplacementPhase::Abandoned => "abandoned",
            ReplacementPhase::SwitchedBack => "switched back",
        }
    }
}

/// Why a job is not, or did not get, healthy. Its `Display` is the sentence that people read everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Failure {
    /// The engine could not get the image.
    CannotPull {
        /// The image as the person wrote it.
        image: String,
        /// What the engine said.
        said: String,
    },
    /// The engine could not make or start the container.
    CannotStart {
        /// What the engine said.
        said: String,
    },
    /// The process ended.
    Exited {
        /// Its exit code; 128 + the signal's number when killed.
        code: i64,
        /// How long it had run.
        after: Millis,
        /// The last lines that it wrote, oldest first.
        last_lines: Vec<String>,
    },
    /// The kernel killed it at its memory limit.
    OutOfMemory {
        /// The limit in bytes.
        limit_bytes: u64,
        /// How long it had run.
        after: Millis,
    },
    /// A check did not pass.
    CheckFailed {
        /// The check, as `http GET :8080/healthz`.
        check: String,
        /// What was answered: a status, a body's beginning, an error.
        answered: String,
        /// How many times in a row.
        times: u32,
    },
    /// It was not healthy in time.
    NotReadyInTime {
        /// The replacement's time limit.
        timeout: Millis,
        /// The last answer of the check that did not pass, if one was asked.
        answered: Option<String>,
    },
    /// The node has no room for the new job beside the old one.
    NoRoom {
        /// What is missing, in words: `0.50 cpu wanted, 0.20 free`.
        short: String,
    },
    /// It was ready, and nobody let it have the traffic in time.
    NotReleased {
        /// The replacement's time limit.
        timeout: Millis,
    },
    /// A newer assignment made it needless.
    Superseded,
    /// It was to run once, and did not end in time.
    TimedOut {
        /// How long it might run.
        timeout: Millis,
        /// The last lines that it wrote, oldest first.
        last_lines: Vec<String>,
    },
}

impl Failure {
    /// The bad answer of a check that it tells of.
    pub const fn answered(&self) -> Option<&String> {
        match self {
            Failure::CheckFailed { answered, .. } | Failure::NotReadyInTime { answered: Some(answered), .. } => {
                Some(answered)
            }
            Failure::NotReadyInTime { answered: None, .. }
            | Failure::CannotPull { .. }
            | Failure::CannotStart { .. }
            | Failure::Exited { .. }
            | Failure::OutOfMemory { .. }
            | Failure::NoRoom { .. }
            | Failure::NotReleased { .. }
            | Failure::Superseded
            | Failure::TimedOut { .. } => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::CannotPull { image, said } => write!(f, "the image {image} cannot be pulled: {said}"),
            Failure::CannotStart { said } => write!(f, "the container cannot be started: {said}"),
            Failure::Exited { code, after, last_lines } => {
                write!(f, "the process exited with code {code} after {after}")?;
                match last_lines.last() {
                    Some(line) => write!(f, "; its last line was: {line}"),
                    None => f.write_str("; it wrote nothing"),
                }
            }
            Failure::OutOfMemory { limit_bytes, after } => {
                write!(f, "the kernel killed it at its memory limit of {} MiB after {after}", limit_bytes >> 20)
            }
            Failure::CheckFailed { check, answered, times } => {
                write!(f, "the check {check} failed {times} times in a row; the last answer was: {answered}")
            }
            Failure::NotReadyInTime { timeout, answered: Some(answered) } => {
                write!(f, "it was not healthy within {timeout}; the last answer was: {answered}")
            }
            Failure::NotReadyInTime { timeout, answered: None } => write!(f, "it was not ready within {timeout}"),
            Failure::NoRoom { short } => write!(f, "the node has no room for both jobs: {short}"),
            Failure::NotReleased { timeout } => {
                write!(
                    f,
                    "it was ready, but was not given the traffic within {timeout}: the controller was not there to \
                           say that the others are ready too, or they were not"
                )
            }
            Failure::Superseded => f.write_str("something else was asked for meanwhile"),
            Failure::TimedOut { timeout, last_lines } => {
                write!(f, "it did not end within {timeout} and was stopped")?;
                match last_lines.last() {
                    Some(line) => write!(f, "; its last line was: {line}"),
                    None => f.write_str("; it wrote nothing"),
                }
            }
        }
    }
}

/// What a node has to give to jobs, after the system's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Bytes.
    pub memory_bytes: u64,
}

impl Capacity {
    /// What is left of it beside these sizes.
    pub fn minus<'a>(self, sizes: impl IntoIterator<Item = &'a Size>) -> Capacity {
        sizes.into_iter().fold(self, |left, size| Capacity {
            cpu_milli: left.cpu_milli.saturating_sub(size.cpu_milli),
            memory_bytes: left.memory_bytes.saturating_sub(size.memory_bytes),
        })
    }
    /// Whether a job of this size finds room.
    pub const fn fits(self, size: &Size) -> bool {
        size.cpu_milli <= self.cpu_milli && size.memory_bytes <= self.memory_bytes
    }
}

/// What a node uses now: a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Use {
    /// Thousandths of a core, of the whole machine.
    pub cpu_milli: u32,
    /// Bytes, of the whole machine.
    pub memory_bytes: u64,
    /// Bytes used on the disk that holds the images.
    pub disk_used_bytes: u64,
    /// Bytes of that disk.
    pub disk_total_bytes: u64,
}

/// How the trouble begins that keeps a node from taking a newer set: what it takes it writes first.
pub const LEDGER_TROUBLE: &str = "the ledger cannot be written";
/// How the troubles begin that keep a node from telling what runs there.
pub const ENGINE_TROUBLE: &str = "the container engine does not";

/// How the trouble begins that the engine lists a container of a job and tells nothing more about it.
pub fn trouble_with_container(job: JobId) -> String {
    format!("{ENGINE_TROUBLE} tell how the container of job {job} is")
}

impl NodeReport {
    /// Whether something may run in a slot of which the node's ledger knows nothing.
    pub fn may_have_stray(&self, slot: &SlotId) -> bool {
        self.strays_unclear || self.strays.iter().any(|stray| stray.slot == *slot)
    }

    /// The troubles that keep the node from taking a newer set. It takes one whatever its engine and its disks are like.
    pub fn troubles_with_sets(&self) -> Vec<String> {
        self.troubles_like(LEDGER_TROUBLE)
    }

    /// The troubles that keep the node from telling what runs there.
    pub fn troubles_with_engine(&self) -> Vec<String> {
        self.troubles_like(ENGINE_TROUBLE)
    }

    /// Whether the node has a container in a slot of which its engine does not tell how it is, so that its job cannot be taken over.
    pub fn cannot_tell_of(&self, slot: &SlotId, job: JobId) -> bool {
        let is_there = self.strays.iter().any(|stray| stray.slot == *slot && stray.job == job);
        is_there && !self.troubles_like(&trouble_with_container(job)).is_empty()
    }

    fn troubles_like(&self, beginning: &str) -> Vec<String> {
        self.troubles.iter().filter(|said| said.starts_with(beginning)).cloned().collect()
    }
}

/// A disk of a node that is so full that no job begins there. Its `Display` is the sentence that people read everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FullDisk {
    /// A folder on it.
    pub folder: String,
    /// The mark that it has reached, in percent. It is behind it again only some percent below.
    pub mark_percent: u32,
}

impl fmt::Display for FullDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk that holds {} has reached its mark of {} %", self.folder, self.mark_percent)
    }
}

/// How one job is: a reading with its job's phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job: JobId,
    /// Where.
    pub slot: SlotId,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Its phase in that attempt.
    pub phase: JobPhase,
    /// The reading.
    pub health: Health,
    /// Why it is not healthy, if it is not.
    pub failure: Option<Failure>,
    /// Its address in its environment's network, once it has one.
    pub address: Option<core::net::IpAddr>,
    /// Memory in use now, in bytes, as Docker counts it (without file pages that can be dropped). 0 when it does not run.
    pub memory_bytes: u64,
    /// Thousandths of a core over the last heartbeat period.
    pub cpu_milli: u32,
    /// What it waits for, as a sentence, if it runs once and waits; a replacement says that itself.
    pub waits_for: Option<String>,
}

/// Where one replacement stands, with the wall-clock time of every phase that it reached, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacementReport {
    /// The slot.
    pub slot: SlotId,
    /// The deployment that asked for it.
    pub deployment: DeploymentId,
    /// The old job; none at a first start.
    pub old: Option<JobId>,
    /// The new job; none when a slot is emptied.
    pub new: Option<JobId>,
    /// Where it stands.
    pub phase: ReplacementPhase,
    /// When it entered each phase, oldest first.
    pub reached: Vec<(ReplacementPhase, Wall)>,
    /// When the old job got its SIGTERM.
    pub stopped_at: Option<Wall>,
    /// When all checks of the new job were good for the first time; none while they were not.
    #[serde(default)]
    pub good_at: Option<Wall>,
    /// What a check of the new job answered last before they were: a status and the body's beginning, or an error. None if
    /// no answer was bad.
    #[serde(default)]
    pub bad_answer: Option<String>,
    /// Why it was abandoned or switched back.
    pub failure: Option<Failure>,
    /// What it waits for, as a sentence, while it waits.
    pub waits_for: Option<String>,
}

/// The agent's picture of itself, whole: sent at the start of a session and after every change, always the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The assignment set that the ledger holds; none before the first.
    pub generation: Option<Generation>,
    /// Every job that the ledger holds, ended ones until the controller's set no longer names their slot. Sorted by job.
    pub jobs: Vec<JobReport>,
    /// Every replacement that is under way or ended since the set of `generation` came. Sorted by slot.
    pub replacements: Vec<ReplacementReport>,
    /// What the node has to give.
    pub capacity: Capacity,
    /// What keeps the whole node from working, as sentences: `the Docker engine does not answer: …`.
    pub troubles: Vec<String>,
    /// The disk that keeps it from beginning jobs, if one does.
    pub full_disk: Option<FullDisk>,
    /// What runs, or may, and is of no job that the ledger holds: a ledger that was lost had begun it. Sorted by job.
    pub strays: Vec<StrayReport>,
    /// Whether there may be more of those: the engine has not told what runs, or not all of it.
    pub strays_unclear: bool,
}

/// A job of which only its containers tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StrayReport {
    /// The job.
    pub job: JobId,
    /// The slot that it was started in.
    pub slot: SlotId,
}
