//! What operators ask for, as commands, and what is answered: done, or refused with a sentence each.

use crate::access::Grant;
use crate::assignment::ServicePath;
use crate::cluster::enter::{Enter, Entrance};
use crate::cluster::live::Live;
use crate::cluster::request::Subject;
use crate::cluster::rotation::AuthorityCommand;
use crate::cluster::running::RunOnce;
use crate::cluster::standing::StandingCommand;
use crate::cluster::trial::Steer;
use crate::cluster::values::ValueCommand;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{ApplicationId, EnvironmentId, JobId, NodeId, ServiceId, TokenId};
use crate::quota::Good;
use crate::report::Capacity;
use crate::spec::ServiceSpec;
use crate::time::Millis;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What an operator, or for `EnrolNode` a node, asks for. Names are as people write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A new application, with the environments of its kind.
    CreateApplication {
        /// Its name.
        name: String,
    },
    /// A new environment.
    CreateEnvironment {
        /// Whose.
        application: String,
        /// Its name.
        name: String,
    },
    /// What an environment allows.
    SetPolicy(SetPolicy),
    /// Gives a node to an environment. Done twice, nothing more happens.
    AttachNode {
        /// The application.
        application: String,
        /// The environment.
        environment: String,
        /// The node's name.
        node: String,
    },
    /// Takes a node back. Refused while jobs run there.
    DetachNode {
        /// The application.
        application: String,
        /// The environment.
        environment: String,
        /// The node's name.
        node: String,
        /// Only of a Lost node: its jobs are started elsewhere.
        force: bool,
    },
    /// Removes a node. Refused while jobs run there.
    RemoveNode {
        /// Its name.
        node: String,
        /// Only of a Lost node: its jobs are started elsewhere.
        force: bool,
    },
    /// Keeps new slots from a node. Those that it has stay, and their jobs are replaced there.
    CordonNode {
        /// Its name.
        node: String,
        /// Why, for those whose services wait.
        reason: Option<String>,
    },
    /// Lets new slots come to a node again.
    UncordonNode {
        /// Its name.
        node: String,
    },
    /// Sets and removes labels of a node. No job is moved by it.
    LabelNode {
        /// Its name.
        node: String,
        /// Keys with their values.
        set: BTreeMap<String, String>,
        /// Keys.
        remove: BTreeSet<String>,
    },
    /// Limits what an application or an environment may have.
    SetQuota {
        /// The application.
        application: String,
        /// The environment; none for the application itself.
        environment: Option<String>,
        /// The limit of each good that is set; none for the default.
        limits: BTreeMap<Good, Option<u64>>,
    },
    /// Changes whether a node's certificate is believed.
    Standing(StandingCommand),
    /// Replaces the root of the certificate authority.
    Authority(AuthorityCommand),
    /// Changes secrets and variables.
    Value(ValueCommand),
    /// Makes services as a file says.
    Apply(Apply),
    /// Another image for a service.
    Deploy {
        /// The service.
        service: ServicePath,
        /// The image as written.
        image: String,
    },
    /// New jobs of the same revision.
    Redeploy {
        /// The service.
        service: ServicePath,
    },
    /// Back to an older revision.
    Rollback {
        /// The service.
        service: ServicePath,
        /// Which; the newest before the active one if none is named.
        to: Option<u32>,
    },
    /// Another number of jobs.
    Scale {
        /// The service.
        service: ServicePath,
        /// How many.
        scale: u32,
    },
    /// Something done to a deployment under way.
    Steer {
        /// The service.
        service: ServicePath,
        /// Which deployment: what was meant is not done to a newer one.
        number: u32,
        /// What.
        how: Steer,
    },
    /// Ends the jobs of a service, or of all of an environment, and keeps all else.
    Pause {
        /// Which.
        which: Which,
        /// Why: one line.
        reason: Option<String>,
    },
    /// Starts again what was paused.
    Resume {
        /// Which.
        which: Which,
    },
    /// Says whether people may give a service new jobs.
    SetRedeployable {
        /// The service.
        service: ServicePath,
        /// Why not: one line; none if they may.
        against: Option<String>,
    },
    /// Ends a service.
    RemoveService {
        /// The service.
        service: ServicePath,
    },
    /// Opens a stream to a job. Changes no record; that somebody may, and did, is what makes it a command.
    Enter(Enter),
    /// Runs a command once, in a job of its own.
    Run(RunOnce),
    /// Ends a one-off job.
    EndRun {
        /// The service.
        service: ServicePath,
        /// Which.
        job: JobId,
    },
    /// Records a ticket for a node.
    CreateJoinToken(NewJoinToken),
    /// Uses a ticket.
    EnrolNode(Enrol),
    /// Records an operator's token.
    CreateOperatorToken(NewOperatorToken),
    /// Ends an operator's token at once.
    RemoveOperatorToken {
        /// Its name or its id.
        token: String,
    },
}

impl Command {
    /// What it is about, where that has a tag to be compared with `If-Match`.
    pub fn subject(&self) -> Option<Subject<'_>> {
        match self {
            Command::Deploy { service, .. }
            | Command::Redeploy { service }
            | Command::Rollback { service, .. }
            | Command::Scale { service, .. }
            | Command::Steer { service, .. }
            | Command::SetRedeployable { service, .. }
            | Command::RemoveService { service } => Some(Subject::Service(service)),
            Command::Pause { which, .. } | Command::Resume { which } => Some(match which {
                Which::Service(service) => Subject::Service(service),
                Which::Environment { application, environment } => Subject::Environment(application, environment),
            }),
            Command::AttachNode { application, environment, .. }
            | Command::DetachNode { application, environment, .. } => {
                Some(Subject::Environment(application, environment))
            }
            Command::SetPolicy(set) => Some(Subject::Environment(&set.application, &set.environment)),
            Command::RemoveNode { node, .. }
            | Command::CordonNode { node, .. }
            | Command::UncordonNode { node, .. }
            | Command::LabelNode { node, .. } => Some(Subject::Node(node)),
            Command::Apply(apply) => Some(Subject::File(apply)),
            Command::CreateApplication { .. }
            | Command::CreateEnvironment { .. }
            | Command::CreateJoinToken(_)
            | Command::EnrolNode(_)
            | Command::CreateOperatorToken(_)
            | Command::SetQuota { .. }
            | Command::Standing(_)
            | Command::Authority(_)
            | Command::Value(_)
            | Command::Enter(_)
            | Command::Run(_)
            | Command::EndRun { .. }
            | Command::RemoveOperatorToken { .. } => None,
        }
    }
}

/// What an environment shall allow; what is none stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPolicy {
    /// The application.
    pub application: String,
    /// The environment.
    pub environment: String,
    /// The most jobs of one service.
    pub max_scale: Option<u32>,
    /// The names of all fields that only operators change.
    pub operator_fields: Option<Vec<String>>,
}

/// One service, or all of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one.
    Service(ServicePath),
    /// Those that the environment has now.
    Environment {
        /// The application.
        application: String,
        /// The environment.
        environment: String,
    },
}

impl Which {
    /// The names of its application and environment.
    pub fn environment(&self) -> (&str, &str) {
        match self {
            Which::Service(path) => (&path.application, &path.environment),
            Which::Environment { application, environment } => (application, environment),
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Service(path) => path.fmt(f),
            Which::Environment { application, environment } => write!(f, "{application}/{environment}"),
        }
    }
}

/// A file's content, as parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apply {
    /// The application; created as a project if it is absent.
    pub application: String,
    /// The environments that the file or the command line names.
    pub environments: Vec<ApplyEnvironment>,
}

/// What a file says of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyEnvironment {
    /// Its name.
    pub name: String,
    /// Its services. Others than these are left alone.
    pub services: Vec<ApplyService>,
}

/// What a file says of one service in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyService {
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: ServiceSpec,
}

/// A ticket for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJoinToken {
    /// Minted at the rim, as it is part of the token's text.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// How long it is good.
    pub lifetime: Millis,
    /// Application and environment that the node is allotted to when it joins.
    pub environment: Option<(String, String)>,
    /// The only name that the node may have.
    pub node_name: Option<String>,
    /// Where the node must come from.
    pub cidr: Option<String>,
}

/// A token for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperatorToken {
    /// Minted at the rim, as it is part of the token's text.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// The operator's name, or that of a program.
    pub name: String,
    /// What its holder shall be, and where.
    pub grant: Grant,
    /// How long it is good; none for one that does not end by itself.
    pub lifetime: Option<Millis>,
}

/// A node that shows a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrol {
    /// The ticket.
    pub token: TokenId,
    /// SHA-256 of the secret that was shown, in hexadecimal.
    pub hash: String,
    /// Whether the address that the node came from lies in the ticket's network; true if it names none. The rim knows.
    pub address_allowed: bool,
    /// The id that the node shall have, minted at the rim, which has put it into the certificate.
    pub node: NodeId,
    /// The name that the node wants.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// What it has to give, as far as it is known before its first session.
    pub capacity: Capacity,
    /// The fingerprint of the key that it wants a certificate for. The same ticket with the same key gives the same node.
    pub key: String,
}

/// A command was carried out: decided, not yet committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What to answer.
    pub answer: Answer,
    /// What is worth a word to the operator, though nothing is wrong.
    pub warnings: Vec<String>,
    /// The services to reconcile now.
    pub touched: Touched,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is recorded; there is no more to say.
    Recorded,
    /// It was so already.
    Unchanged,
    /// The new application.
    Application(ApplicationId),
    /// The new environment.
    Environment(EnvironmentId),
    /// The node that joined.
    Node(NodeId),
    /// What an applied file came to.
    Applied {
        /// The application, if it was created for it.
        created: Option<ApplicationId>,
        /// What becomes of each service of the file, in the file's order.
        services: Vec<Applied>,
    },
    /// The deployment that was recorded.
    Deployment {
        /// The service.
        service: ServiceId,
        /// Its deployment's number.
        number: u32,
    },
    /// The job to which the stream leads.
    Entrance(Entrance),
    /// The one-off job that was given to a node.
    OneOff {
        /// The service.
        service: ServiceId,
        /// The number of its one-off job.
        number: u32,
    },
}

/// What becomes of one service of an applied file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The service.
    pub path: ServicePath,
    /// Its id; none while it is only planned.
    pub service: Option<ServiceId>,
    /// What is asked for so far; none for a new one.
    pub before: Option<ServiceSpec>,
    /// What the file asks for.
    pub after: ServiceSpec,
    /// What that means.
    pub change: Change,
    /// The release command that runs before any job is replaced; none when none runs.
    #[serde(default)]
    pub release: Option<Vec<String>>,
    /// The deployment that does it; none if there is nothing to do or it is only planned.
    pub deployment: Option<u32>,
    /// What is worth a word, as sentences.
    pub warnings: Vec<String>,
}

/// What an applied spec means for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Change {
    /// It is as the file says.
    None,
    /// It is as the file says, but the last deployment of it did not come to its end, and is tried again.
    Retry {
        /// That deployment's number.
        failed: u32,
    },
    /// It is paused: the spec is recorded, and deployed when it is resumed.
    AtResume,
    /// It is new.
    Create {
        /// So many jobs.
        jobs: u32,
    },
    /// Jobs get successors.
    Replace {
        /// So many, of those that stay.
        jobs: u32,
        /// So many there are.
        scale_from: u32,
        /// So many there will be.
        scale_to: u32,
    },
    /// Only the number of jobs changes.
    Scale {
        /// So many there are.
        from: u32,
        /// So many there will be.
        to: u32,
    },
}

/// The most records that one command may change, so that it fits into one transaction of every store.
pub const MOST_CHANGES: usize = 100;

impl Cluster {
    /// Carries a command out, or refuses it with all reasons and changes nothing. Whether its author may is asked first.
    pub fn command(&mut self, live: &Live, command: Command, cx: &mut Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        self.permit(&cx.author, &command, cx.wall)?;
        let before = self.savepoint();
        let mut result = self.carry_out(live, command, cx);
        let changes = self.changes_since(before);
        if result.is_ok() && changes > MOST_CHANGES {
            let sentence = format!("this changes {changes} records at once; {MOST_CHANGES} are allowed");
            let hint = "apply one environment after the other, with --env";
            result = Err(vec![Refusal::refused(sentence).hint(hint)]);
        }
        if result.is_err() {
            self.roll_back(before);
        }
        result
    }

    fn carry_out(&mut self, live: &Live, command: Command, cx: &mut Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        let result = match command {
            Command::Apply(apply) => return self.apply(&apply, cx),
            Command::SetPolicy(set) => return self.set_policy(&set, cx),
            Command::CreateApplication { name } => self.create_application(&name, cx),
            Command::CreateEnvironment { application, name } => self.create_environment(&application, &name, cx),
            Command::AttachNode { application, environment, node } => {
                self.attach_node((&application, &environment), &node, cx)
            }
            Command::DetachNode { application, environment, node, force } => {
                self.detach_node(live, (&application, &environment), &node, force, cx)
            }
            Command::RemoveNode { node, force } => self.remove_node(live, &node, force, cx),
            Command::CordonNode { node, reason } => self.cordon_node(live, &node, reason.as_deref(), cx),
            Command::UncordonNode { node } => self.uncordon_node(live, &node, cx),
            Command::LabelNode { node, set, remove } => return self.label_node(live, &node, &set, &remove, cx),
            Command::SetQuota { application, environment, limits } => {
                self.set_quota(&application, environment.as_deref(), &limits, cx)
            }
            Command::Standing(command) => self.change_standing(command, cx),
            Command::Authority(command) => self.change_authority(live, command, cx),
            Command::Value(command) => self.change_values(command, cx),
            Command::Deploy { service, image } => return self.deploy(&service, &image, cx),
            Command::Redeploy { service } => return self.redeploy(&service, cx),
            Command::Rollback { service, to } => return self.rollback(&service, to, cx),
            Command::Steer { service, number, how } => self.steer(&service, number, how, cx),
            Command::Scale { service, scale } => return self.scale(&service, scale, cx),
            Command::Pause { which, reason } => return self.pause(&which, reason.as_deref(), cx),
            Command::Resume { which } => return self.resume(&which, cx),
            Command::SetRedeployable { service, against } => self.set_redeployable(&service, against.as_deref(), cx),
            Command::RemoveService { service } => self.remove_service(&service, cx),
            Command::Enter(enter) => return self.find_entrance(live, &enter, cx.tick),
            Command::Run(run) => return self.run_once(live, run, cx),
            Command::EndRun { service, job } => return self.end_run(&service, job, cx),
            Command::CreateJoinToken(new) => self.create_join_token(new, cx),
            Command::EnrolNode(enrol) => self.enrol(enrol, cx),
            Command::CreateOperatorToken(new) => self.create_operator_token(new, cx),
            Command::RemoveOperatorToken { token } => self.remove_operator_token(&token, cx),
        };
        result.map_err(|refusal| vec![refusal])
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of no.
    pub kind: RefusalKind,
    /// Why, for people.
    pub sentence: String,
    /// The place in the applied file: `environments.production.services.web.scale`.
    pub place: Option<String>,
    /// What would help.
    pub hint: Option<String>,
}

/// What kind of no a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// What it names is not there.
    NotFound,
    /// Something that is there stands against it.
    Conflict,
    /// It is understood, and the rules of the place do not allow it to anybody.
    Refused,
    /// Its author may not do it.
    Forbidden,
    /// Its author is nobody: the token was removed or has ended.
    Unauthenticated,
    /// It makes no sense as it is written.
    Invalid,
    /// What it was decided on has changed since.
    Changed,
    /// Its idempotency key belongs to another request.
    KeyReused,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, sentence: impl Into<String>) -> Refusal {
        Refusal { kind, sentence: sentence.into(), place: None, hint: None }
    }
    pub(crate) fn not_found(sentence: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::NotFound, sentence)
    }
    pub(crate) fn conflict(sentence: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Conflict, sentence)
    }
    pub(crate) fn refused(sentence: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Refused, sentence)
    }
    pub(crate) fn invalid(sentence: impl Into<String>) -> Refusal {
        Refusal::new(RefusalKind::Invalid, sentence)
    }
    pub(crate) fn at(mut self, place: impl Into<String>) -> Refusal {
        self.place = Some(place.into());
        self
    }
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl core::error::Error for Refusal {}

impl From<Refusal> for Vec<Refusal> {
    fn from(refusal: Refusal) -> Vec<Refusal> {
        vec![refusal]
    }
}
