//! Whether a node's certificate is believed: revoked, quarantined, or back after it ended.
//!
//! A node whose standing is not `Good` gets no session, no renewal and no word. What runs on it runs on: an agent without a
//! controller keeps its jobs.

use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::state::{Node, ReturnAnswer, Returning, Standing};
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{BootId, ClusterId, NodeId};
use crate::time::Wall;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// So many changes of a node's boot id are remembered, to notice two machines that take turns.
const BOOTS_REMEMBERED: usize = 8;

/// What changes a node's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandingCommand {
    /// The node's certificate is worth nothing from now on, for good: its key is in wrong hands.
    Revoke {
        /// The node's name.
        node: String,
    },
    /// Ends a quarantine, after one of the two machines was removed.
    Release {
        /// The node's name.
        node: String,
    },
    /// A node whose certificate has ended wants another one. The rim has checked the proof of the old key.
    AskReturn(AskReturn),
    /// Lets it have one.
    Readmit {
        /// The node's name.
        node: String,
        /// The fingerprint of the key that the operator has seen; it is for no other key.
        key: String,
    },
    /// Does not let it have one.
    RefuseReturn {
        /// The node's name.
        node: String,
    },
}

/// A node that shows a certificate that has ended and has proved that it holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskReturn {
    /// Whom the certificate names.
    pub node: NodeId,
    /// The fingerprint of its key.
    pub key: String,
    /// When the certificate ended.
    pub ended: Wall,
    /// From where it asks, for the operator to see.
    pub address: String,
}

/// Why a node gets no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloRefused {
    /// The store has no cluster yet.
    NoCluster,
    /// The agent belongs to another one.
    OtherCluster {
        /// Which the agent named.
        theirs: ClusterId,
        /// Which this is.
        ours: ClusterId,
    },
    /// Its certificate is good, but there is no such node.
    UnknownNode,
    /// Its certificate was revoked.
    Revoked,
    /// Two machines have its identity.
    Twins,
}

impl fmt::Display for HelloRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelloRefused::NoCluster => f.write_str("this controller has no cluster yet"),
            HelloRefused::OtherCluster { theirs, ours } => {
                write!(f, "the agent belongs to cluster {theirs}, this is {ours}")
            }
            HelloRefused::UnknownNode => f.write_str(
                "this controller does not know this node: it was removed, or the controller's store is older than the node; \
                 join again with a new token from `lap node token create`",
            ),
            HelloRefused::Revoked => f.write_str(
                "this node's certificate was revoked; remove the node with `lap node rm` and join again with a new token",
            ),
            HelloRefused::Twins => f.write_str(
                "two machines take turns as this node, so neither is believed; remove the copy, then `lap node unquarantine`",
            ),
        }
    }
}

impl core::error::Error for HelloRefused {}

impl Standing {
    /// Why a node of this standing gets no session; none when it gets one.
    pub const fn refusal(self) -> Option<HelloRefused> {
        match self {
            Standing::Good => None,
            Standing::Revoked => Some(HelloRefused::Revoked),
            Standing::Quarantined => Some(HelloRefused::Twins),
        }
    }

    /// The sentence for whoever looks at the node; none when there is nothing to say.
    pub const fn trouble(self) -> Option<&'static str> {
        match self {
            Standing::Good => None,
            Standing::Revoked => {
                Some("its certificate was revoked; it gets no session again, and `lap node rm` removes it")
            }
            Standing::Quarantined => Some(
                "it is quarantined, because two machines take turns under its identity: remove the copy of its state folder, \
                 then `lap node unquarantine`",
            ),
        }
    }
}

impl Returning {
    /// The sentence for whoever looks at the node.
    pub fn trouble(&self, name: &str) -> String {
        let key = &self.key;
        match self.answer {
            ReturnAnswer::Waiting => format!(
                "its certificate has ended and it asks from {} to return, with the key {key}; `lap node readmit {name}` lets \
                 it, `lap node readmit {name} --refuse` does not",
                self.address
            ),
            ReturnAnswer::Admitted => format!("it may return with the key {key}, and has not done so yet"),
            ReturnAnswer::Refused => format!("its return with the key {key} was refused"),
        }
    }
}

impl Node {
    /// Notes the boot that an agent shows. True when it has come back after another one: no machine does that, two with one
    /// identity do.
    pub(crate) fn shows_a_twin(&mut self, boot: BootId) -> bool {
        if self.boots.last() == Some(&boot) {
            return false;
        }
        let twin = self.boots.contains(&boot);
        self.boots.push(boot);
        let surplus = self.boots.len().saturating_sub(BOOTS_REMEMBERED);
        self.boots.drain(..surplus);
        twin
    }

    /// What an operator should look at, of what is stored.
    pub fn standing_troubles(&self) -> Vec<String> {
        let standing = self.standing.trouble().map(String::from);
        standing.into_iter().chain(self.returning.as_ref().map(|returning| returning.trouble(&self.name))).collect()
    }
}

impl Cluster {
    pub(crate) fn change_standing(
        &mut self,
        command: StandingCommand,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        // A release command of which nobody knows whether it runs there still holds up the next one until now.
        let revoked = match &command {
            StandingCommand::Revoke { node } => Some(self.node_named(node)?.id),
            StandingCommand::Release { .. }
            | StandingCommand::AskReturn(_)
            | StandingCommand::Readmit { .. }
            | StandingCommand::RefuseReturn { .. } => None,
        };
        let touched: Touched =
            revoked.into_iter().flat_map(|node| self.one_offs_on(node)).map(|one| one.service).collect();
        let answer = match command {
            StandingCommand::Revoke { node } => self.revoke(&node, cx)?,
            StandingCommand::Release { node } => self.release(&node, cx)?,
            StandingCommand::AskReturn(ask) => self.ask_return(ask, cx)?,
            StandingCommand::Readmit { node, key } => self.answer_return(&node, Some(&key), cx)?,
            StandingCommand::RefuseReturn { node } => self.answer_return(&node, None, cx)?,
        };
        Ok(Outcome { answer, warnings: Vec::new(), touched })
    }

    fn revoke(&mut self, name: &str, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let node = self.node_named(name)?.clone();
        if node.standing == Standing::Revoked {
            return Ok(Answer::Unchanged);
        }
        self.put(Node { standing: Standing::Revoked, returning: None, ..node });
        let sentence = format!("{} revoked its certificate", cx.author);
        self.tell(cx, EventKind::NodeStanding, format!("node/{name}"), sentence);
        Ok(Answer::Recorded)
    }

    fn release(&mut self, name: &str, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let node = self.node_named(name)?.clone();
        match node.standing {
            Standing::Good => return Ok(Answer::Unchanged),
            Standing::Revoked => {
                return Err(Refusal::refused(format!("{name} is not quarantined: its certificate was revoked"))
                    .hint("a revocation is for good; remove the node and let it join again"));
            }
            Standing::Quarantined => {}
        }
        // The boots are forgotten, so that the one machine that is left is not taken for a twin of its own past.
        self.put(Node { standing: Standing::Good, boots: Vec::new(), ..node });
        self.tell(cx, EventKind::NodeStanding, format!("node/{name}"), format!("{} ended its quarantine", cx.author));
        Ok(Answer::Recorded)
    }

    /// Two machines show one identity. Stored at once: neither gets a session again, not from a restarted controller either.
    pub(crate) fn quarantine(&mut self, node: NodeId, cx: &Context<'_>) {
        let Some(name) = self.get::<Node>(&node).map(|node| node.name.clone()) else { return };
        self.edit::<Node>(&node, |node| node.standing = Standing::Quarantined);
        let sentence = "it is quarantined: two machines take turns under its identity";
        self.tell_of_node(cx, EventKind::NodeStanding, &name, sentence.into());
    }

    fn ask_return(&mut self, ask: AskReturn, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let node = self.get::<Node>(&ask.node).cloned();
        let node = node.ok_or_else(|| Refusal::refused(format!("{}", HelloRefused::UnknownNode)))?;
        if let Some(refused) = node.standing.refusal() {
            return Err(Refusal::refused(format!("{refused}")));
        }
        match &node.returning {
            Some(held) if held.key == ask.key => {
                return match held.answer {
                    ReturnAnswer::Admitted => Ok(Answer::Node(node.id)),
                    ReturnAnswer::Waiting => Ok(Answer::Unchanged),
                    ReturnAnswer::Refused => Err(Refusal::refused("an operator refused this node's return")
                        .hint("join again with a new token and --replace")),
                };
            }
            // A second key is a second machine, or a thief with an old copy: it does not push the first one aside.
            Some(held) if held.answer != ReturnAnswer::Refused => {
                return Err(Refusal::refused(
                    "another machine asks to return as this node, and an operator has to decide first",
                ));
            }
            Some(_) | None => {}
        }
        let AskReturn { key, ended, address, .. } = ask;
        let sentence = format!("its certificate has ended, and it asks from {address} to return, with the key {key}");
        let returning = Returning { key, ended, address, asked: cx.wall, answer: ReturnAnswer::Waiting };
        self.tell_of_node(cx, EventKind::NodeStanding, &node.name, sentence);
        self.put(Node { returning: Some(returning), ..node });
        Ok(Answer::Recorded)
    }

    fn answer_return(&mut self, name: &str, key: Option<&str>, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let node = self.node_named(name)?.clone();
        let Some(returning) = node.returning.clone() else {
            return Err(Refusal::conflict(format!("{name} does not ask to return")));
        };
        let (answer, did) = match key {
            Some(key) if key == returning.key => (ReturnAnswer::Admitted, "lets it return"),
            Some(key) => {
                let held = &returning.key;
                return Err(Refusal::conflict(format!("{name} asks to return with the key {held}, not with {key}"))
                    .hint("compare the key on the machine and try again"));
            }
            None => (ReturnAnswer::Refused, "does not let it return"),
        };
        if returning.answer == answer {
            return Ok(Answer::Unchanged);
        }
        let sentence = format!("{} {did}, with the key {}", cx.author, returning.key);
        self.tell(cx, EventKind::NodeStanding, format!("node/{name}"), sentence);
        self.put(Node { returning: Some(Returning { answer, ..returning }), ..node });
        Ok(Answer::Recorded)
    }
}
