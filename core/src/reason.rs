//! Why something waits: every wait has a reason, and the operator, the log and the tests read the same sentence.

use crate::report::Failure;
use crate::time::Millis;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Something that waits, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// What waits: `shop/production/web` or `shop/production/web.1`.
    pub what: String,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits: {}", self.what, self.reason)
    }
}

/// Why the cluster's loop waits. Its `Display` is the sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Secrets that a spec names are not there.
    MissingSecrets {
        /// Their names.
        secrets: Vec<String>,
        /// The environment's path.
        environment: String,
    },
    /// Nobody can be asked what an image means.
    NobodyToAsk {
        /// The environment's path.
        environment: String,
        /// Each attached node and why it cannot be asked; empty when none is attached.
        nodes: Vec<(String, String)>,
    },
    /// Nodes are being asked what an image means.
    Resolving {
        /// The image as written.
        image: String,
        /// Who is asked.
        nodes: Vec<String>,
    },
    /// No node can take a job.
    NoFittingNode {
        /// The environment's path.
        environment: String,
        /// Each attached node and why it cannot; empty when none is attached.
        nodes: Vec<(String, String)>,
    },
    /// A replacement is under way on a node.
    Replacing {
        /// The node.
        node: String,
        /// How far it is.
        phase: &'static str,
        /// What the agent itself waits for.
        agent_waits: Option<String>,
    },
    /// A node has not said that it knows of the newest set.
    NotAcknowledged {
        /// The node.
        node: String,
        /// What keeps the node from taking it, as it says itself.
        troubles: Vec<String>,
    },
    /// A node knows of the newest set, and has forgotten what it has of the slot.
    Untold {
        /// The node.
        node: String,
        /// What keeps the node from telling, as it says itself.
        troubles: Vec<String>,
    },
    /// A node is silent, so that nothing can begin or end there.
    NodeSilent {
        /// The node.
        node: String,
        /// For how long.
        silence: Millis,
        /// When its jobs are started elsewhere, if they will be.
        replaced_in: Option<Millis>,
        /// When it is no longer waited for, where nothing is started for what it has.
        given_up_in: Option<Millis>,
    },
    /// Waves go one node at a time.
    OtherNodeFirst {
        /// The node whose turn it is.
        node: String,
    },
    /// A canary shows itself.
    CanaryStep {
        /// Which step, from 1.
        step: u32,
        /// Of how many.
        steps: u32,
        /// Percent of the requests.
        weight: u32,
        /// Until the next; none when somebody has to release it.
        left: Option<Millis>,
        /// An operator has stopped it there.
        held: bool,
    },
    /// A job that shows itself has to be well before anything follows.
    NotHealthy {
        /// Where.
        node: String,
        /// Whether anybody knows how it is.
        is_known: bool,
        /// What is wrong with it, if the node says so.
        failure: Option<Failure>,
    },
    /// The job was given up, and a fresh one follows.
    TriedAgain {
        /// Where.
        node: String,
        /// Why it was given up.
        failure: Failure,
        /// When the next one follows.
        left: Millis,
    },
    /// The store was restored, and until an operator accepts that, nodes stop nothing.
    Restored {
        /// Where.
        node: String,
    },
    /// A deployment's release command is on its way or runs.
    Releasing {
        /// Where.
        node: String,
        /// How far its job is.
        phase: &'static str,
        /// What the agent itself waits for.
        agent_waits: Option<String>,
    },
    /// The release command of an earlier deployment has not ended yet.
    EarlierRelease {
        /// Where.
        node: String,
    },
    /// Nobody knows whether the release command of an earlier deployment has ended.
    UnclearRelease {
        /// Where.
        node: String,
    },
    /// The store was restored, and until an operator accepts that, no release command runs: it may have run already.
    ReleaseRestored,
    /// The old job ends.
    Emptying {
        /// Where.
        node: String,
    },
    /// A node has, or may have, something of a slot of which its records know nothing or nothing any more.
    Leftover {
        /// Where.
        node: String,
        /// What keeps the node from telling what it has, as it says itself.
        troubles: Vec<String>,
        /// When it is no longer waited for, unless it says that it has something.
        given_up_in: Option<Millis>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::MissingSecrets { secrets, environment } => {
                let (word, them) = if secrets.len() == 1 { ("secret", "it") } else { ("secrets", "them") };
                let first = secrets.first().map_or("NAME", String::as_str);
                write!(
                    f,
                    "{environment} has no {word} {}; set {them} with `lap secret set {environment} {first}`",
                    secrets.join(", ")
                )
            }
            Reason::NobodyToAsk { environment, nodes } if nodes.is_empty() => {
                write!(
                    f,
                    "no node is attached to {environment}, so nobody can look for the image; attach one with `lap env attach-node`"
                )
            }
            Reason::NobodyToAsk { environment, nodes } => {
                write!(f, "no node of {environment} can be asked for the image: ")?;
                each(f, nodes)
            }
            Reason::Resolving { image, nodes } => {
                write!(f, "{} is asked what the image {image} is now", nodes.join(" and "))
            }
            Reason::NoFittingNode { environment, nodes } if nodes.is_empty() => {
                write!(f, "no node is attached to {environment}; attach one with `lap env attach-node`")
            }
            Reason::NoFittingNode { environment, nodes } => {
                write!(f, "no node of {environment} can take it: ")?;
                each(f, nodes)
            }
            Reason::Replacing { node, phase, agent_waits: None } => write!(f, "its job on {node} is {phase}"),
            Reason::Replacing { node, phase, agent_waits: Some(why) } => {
                write!(f, "its job on {node} is {phase}; {node} waits: {why}")
            }
            Reason::NotAcknowledged { node, troubles } => {
                write!(f, "{node} has not yet said that it knows of the new job")?;
                because(f, troubles)
            }
            Reason::Untold { node, troubles } => {
                write!(f, "{node} has forgotten what it has of it, and has not yet found out")?;
                because(f, troubles)
            }
            Reason::NodeSilent { node, silence, replaced_in, given_up_in } => {
                write!(f, "{node} has been silent for {silence}")?;
                match (replaced_in, given_up_in) {
                    (Some(span), _) => write!(f, "; unless it comes back, its jobs start elsewhere in {span}"),
                    (None, Some(span)) => write!(f, "; unless it comes back, it is waited for {span} more"),
                    (None, None) => Ok(()),
                }
            }
            Reason::OtherNodeFirst { node } => write!(f, "nodes take turns, and {node} is not done"),
            Reason::CanaryStep { step, steps, weight, left, held } => {
                write!(f, "the canary has {weight} % of the requests, step {step} of {steps}; ")?;
                match (left, held) {
                    (Some(left), _) => write!(f, "the next follows in {left}"),
                    (None, true) => f.write_str("it is held until `lap release`"),
                    (None, false) => f.write_str("it goes on with `lap release`"),
                }
            }
            Reason::NotHealthy { node, is_known, failure } => {
                write!(f, "its job on {node} shows itself")?;
                f.write_str(if *is_known { " and is not healthy" } else { ", and how it is nobody knows" })?;
                failure.iter().try_for_each(|failure| write!(f, ": {failure}"))
            }
            Reason::TriedAgain { node, failure, left } => {
                write!(f, "its job on {node} was given up and is tried again in {left}: {failure}")
            }
            Reason::Restored { node } => write!(
                f,
                "its job on {node} is not stopped, because the controller's store was restored; \
                 `lapstrake-controller accept-restored` lets nodes stop what the store does not name"
            ),
            Reason::Releasing { node, phase, agent_waits: None } => {
                write!(f, "its release command on {node} is {phase}")
            }
            Reason::Releasing { node, phase, agent_waits: Some(why) } => {
                write!(f, "its release command on {node} is {phase}; {node} waits: {why}")
            }
            Reason::EarlierRelease { node } => {
                write!(f, "the release command of an earlier deployment still ends on {node}")
            }
            Reason::UnclearRelease { node } => write!(
                f,
                "the release command of an earlier deployment may still run on {node}, which has not told its end; a node that \
                 does not come back is removed (`lap node rm`) or revoked (`lap node revoke`)"
            ),
            Reason::ReleaseRestored => f.write_str(
                "no release command runs, because the controller's store was restored and may not know which ones have run; \
                 `lapstrake-controller accept-restored` lets them run again",
            ),
            Reason::Emptying { node } => write!(f, "its job on {node} is being stopped"),
            Reason::Leftover { node, troubles, given_up_in } => {
                write!(f, "{node} has not yet said that nothing of it runs there any more")?;
                because(f, troubles)?;
                given_up_in.iter().try_for_each(|span| write!(f, "; unless it tells, it is waited for {span} more"))
            }
        }
    }
}

/// `: the container engine does not answer; …`, if there is anything.
fn because(f: &mut fmt::Formatter<'_>, troubles: &[String]) -> fmt::Result {
    if troubles.is_empty() { Ok(()) } else { write!(f, ": {}", troubles.join("; ")) }
}

/// `node-a: …; node-b: …`
pub(crate) fn each(f: &mut fmt::Formatter<'_>, nodes: &[(String, String)]) -> fmt::Result {
    for (i, (node, why)) in nodes.iter().enumerate() {
        let separator = if i == 0 { "" } else { "; " };
        write!(f, "{separator}{node}: {why}")?;
    }
    Ok(())
}
