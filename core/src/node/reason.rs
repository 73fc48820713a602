//! What a slot waits for. The sentence is the same for the operator, the log and the tests.

use crate::ids::{JobId, SlotId};
use crate::report::{ENGINE_TROUBLE, Failure};
use crate::time::Millis;
use alloc::string::String;
use core::fmt;
use core::mem::{Discriminant, discriminant};

/// Why nothing more happens to a slot just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The container engine is silent: what is not seen is unknown, not gone.
    Engine {
        /// What it said last.
        trouble: Option<String>,
    },
    /// The engine lists the container and does not tell how it is: that is unknown, and nothing is done about it.
    Unclear {
        /// What it said instead.
        said: String,
    },
    /// The controller's lease is over, and the service is to stop then.
    CutOff,
    /// The node lacks room for the new job beside the others.
    Room {
        /// What is missing.
        short: String,
    },
    /// As many replacements of this service as `max_surge` and `max_unavailable` allow are under way.
    Surge {
        /// So many.
        limit: u32,
    },
    /// The same deployment has failed in another slot of this node.
    FailedBeside {
        /// In which.
        slot: SlotId,
        /// How.
        failure: Failure,
    },
    /// The deployment has failed in this slot; what comes next is the controller's.
    FailedHere {
        /// How.
        failure: Failure,
    },
    /// An earlier attempt of the same job still ends.
    EarlierAttempt,
    /// Another job of the slot still ends, and the two cannot be up together.
    OtherJob,
    /// A container of a job that the ledger does not know still ends, and no other can be up beside it.
    Stray {
        /// Of which job.
        job: JobId,
        /// It is not stopped: the controller's store was restored, and nobody has accepted that.
        is_kept: bool,
    },
    /// It is ready, and waits until the controller says that the deployment's other jobs are.
    Held,
    /// It is ready and gets a share of the requests, until the controller says more.
    Share {
        /// Percent.
        percent: u32,
    },
    /// The image is on its way.
    Image {
        /// As the person wrote it.
        reference: String,
    },
    /// Its command runs, once, for so long at most.
    RunsOnce {
        /// How long still.
        left: Millis,
    },
    /// The next attempt is not due yet.
    BackOff {
        /// How long.
        left: Millis,
        /// Why the last one failed.
        after: Option<Failure>,
    },
    /// The environment has no free address left on this node, or the node no free subnet for it.
    Address,
    /// The environment's bridge.
    Network {
        /// Why it could not be made so far.
        trouble: Option<String>,
    },
    /// The engine makes and starts the container.
    Container,
    /// The checks have not been good yet.
    Checks {
        /// The last bad answer.
        answered: Option<String>,
    },
    /// It is healthy, but not for long enough.
    MinHealthy {
        /// How much longer.
        left: Millis,
    },
    /// The table is not in its file yet.
    TableFile {
        /// Which.
        generation: u64,
    },
    /// A live proxy has not acknowledged the table.
    Proxy {
        /// Which process.
        pid: u32,
        /// Which table.
        generation: u64,
    },
    /// Both jobs are up.
    Overlap {
        /// How much longer.
        left: Millis,
    },
    /// The job finishes what it has.
    Connections {
        /// How many are open.
        open: u32,
        /// Until its stop signal.
        left: Millis,
    },
    /// The job has its stop signal.
    StopGrace {
        /// Until SIGKILL.
        left: Millis,
    },
    /// The old job's container is to be removed.
    Removal,
    /// Everything for the next step is there.
    NextStep,
}

impl Reason {
    /// Of which kind it is, whatever the numbers and names in it: for a log that tells when a slot begins to wait for
    /// something else.
    pub fn kind(&self) -> Discriminant<Reason> {
        discriminant(self)
    }
}

/// A time left, in whole seconds and never less than it is: a sentence that changed with every look would change the report each time.
struct Left(Millis);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Millis::secs(self.0.0.div_ceil(1_000)).fmt(f)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Engine { trouble: Some(trouble) } => write!(f, "{ENGINE_TROUBLE} answer: {trouble}"),
            Reason::Engine { trouble: None } => write!(f, "{ENGINE_TROUBLE} answer"),
            Reason::Unclear { said } => write!(f, "{ENGINE_TROUBLE} tell how the container is: {said}"),
            Reason::CutOff => f.write_str("stopped until the controller answers again, as the spec says"),
            Reason::Room { short } => write!(f, "waits for room on the node: {short}"),
            Reason::Surge { limit } => {
                write!(f, "waits for its turn: at most {limit} of the service's slots here may be replaced at once")
            }
            Reason::FailedBeside { slot, failure } => {
                write!(f, "waits for the controller: the same deployment failed in slot {}: {failure}", slot.number)
            }
            Reason::FailedHere { failure } => write!(f, "waits for the controller: {failure}"),
            Reason::EarlierAttempt => f.write_str("waits until the job's earlier attempt has ended"),
            Reason::OtherJob => f.write_str("waits until the slot's other job has ended"),
            Reason::Stray { job, is_kept } => {
                write!(
                    f,
                    "waits until job {job} has ended, which may run in this slot and of which the node has no record"
                )?;
                match is_kept {
                    true => f.write_str(
                        "; the controller's store was restored, and what it does not name is stopped only after \
                         `lapstrake-controller accept-restored`",
                    ),
                    false => Ok(()),
                }
            }
            Reason::Held => f.write_str("ready; waits until all jobs of the deployment are"),
            Reason::Share { percent } => write!(f, "ready; has {percent} % of the requests until it is given the rest"),
            Reason::Image { reference } => write!(f, "waits for the image {reference}"),
            Reason::RunsOnce { left } => write!(f, "its command runs; unless it ends it is stopped in {}", Left(*left)),
            Reason::BackOff { left, after: Some(failure) } => write!(f, "next attempt in {}: {failure}", Left(*left)),
            Reason::BackOff { left, after: None } => write!(f, "next attempt in {}", Left(*left)),
            Reason::Address => f.write_str("waits for a free address in the environment's network on this node"),
            Reason::Network { trouble: Some(trouble) } => write!(f, "waits for the environment's network: {trouble}"),
            Reason::Network { trouble: None } => f.write_str("waits for the environment's network"),
            Reason::Container => f.write_str("waits for its container to start"),
            Reason::Checks { answered: Some(answer) } => {
                write!(f, "waits to be healthy; the last answer was: {answer}")
            }
            Reason::Checks { answered: None } => f.write_str("waits to be healthy; no check has answered yet"),
            Reason::MinHealthy { left } => write!(f, "healthy; waits {} until min_healthy is over", Left(*left)),
            Reason::TableFile { generation } => write!(f, "waits until route table {generation} is written"),
            Reason::Proxy { pid, generation } => {
                write!(f, "waits for proxy {pid} to acknowledge route table {generation}")
            }
            Reason::Overlap { left } => write!(f, "overlap: {} left", Left(*left)),
            Reason::Connections { open, left } => {
                let noun = if *open == 1 { "connection" } else { "connections" };
                write!(f, "{open} {noun} open, the drain ends in {}", Left(*left))
            }
            Reason::StopGrace { left } => write!(f, "told to stop; will be killed in {}", Left(*left)),
            Reason::Removal => f.write_str("waits until the old container is removed"),
            Reason::NextStep => f.write_str("takes its next step"),
        }
    }
}
