//! Who may do what: one function over a role, a verb and a scope, which says no unless it has a reason to say yes.
//!
//! ```text
//! operator's token ── gives ──▶ Grant = Role at a Scope
//! command, address ── needs ──▶ Verb  at a Scope
//!                                        decide(grant, verb, scope) -> allowed, not allowed, or not there
//! ```
//!
//! What lies outside a grant's scope is *not there* for its holder: the refusal is the same sentence whether the thing
//! exists or not, so that nobody learns the names of other people's applications by asking for them.

use crate::ids::TokenId;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// What somebody is within a scope. Each role may do all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Brings new versions out.
    Deployer,
    /// Keeps environments and nodes in order.
    Operator,
    /// Says who may do what, and reads who did.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::Deployer, Role::Operator, Role::Admin];

    /// As people write it.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Deployer => "deployer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// From what people write.
    pub fn from_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A part of the organization, by the names that people use. One scope covers another or has nothing to do with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything.
    Organization,
    /// An application with all its environments.
    Application(String),
    /// One environment of an application, with its services.
    Environment(String, String),
}

impl Scope {
    /// The smallest scope that a path lies in: of `shop` the application, of `shop/production` and of
    /// `shop/production/web` the environment.
    pub fn of_path(path: &str) -> Scope {
        let mut parts = path.split('/');
        match (parts.next(), parts.next()) {
            (Some(application), Some(environment)) => Scope::Environment(application.into(), environment.into()),
            (Some(application), None) if !application.is_empty() => Scope::Application(application.into()),
            _ => Scope::Organization,
        }
    }

    /// Its path; none for the organization, which is above all paths.
    pub fn path(&self) -> Option<String> {
        match self {
            Scope::Organization => None,
            Scope::Application(application) => Some(application.clone()),
            Scope::Environment(application, environment) => Some(format!("{application}/{environment}")),
        }
    }

    /// Whether all of the other lies within this.
    pub fn covers(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Organization, _) => true,
            (Scope::Application(own), Scope::Application(other) | Scope::Environment(other, _)) => own == other,
            (Scope::Environment(..), Scope::Environment(..)) => self == other,
            (Scope::Application(_) | Scope::Environment(..), _) => false,
        }
    }

    /// Whether one covers the other: whoever is in one of them knows that the other is there.
    pub fn touches(&self, other: &Scope) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// What is said of a scope to somebody for whom it is not there. The same words as where it really is not.
    pub fn absent(&self) -> String {
        match self {
            Scope::Organization => "there is no such thing".into(),
            Scope::Application(application) => format!("there is no application {application}"),
            Scope::Environment(application, environment) => {
                format!("there is no environment {application}/{environment}")
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Organization => f.write_str("the organization"),
            Scope::Application(application) => f.write_str(application),
            Scope::Environment(application, environment) => write!(f, "{application}/{environment}"),
        }
    }
}

/// What is done, in the steps in which roles differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read what is there, what happens and what jobs write.
    See,
    /// Apply a spec, deploy, redeploy, roll back, scale, pause, resume.
    Deploy,
    /// Remove services, say that they are not redeployable, set quotas, an environment's policy and the fields that it reserves, create environments and applications.
    Operate,
    /// Run commands in jobs and open connections to their ports: whoever may sees all that the job sees.
    Enter,
    /// Set and remove secrets and variables.
    ManageSecrets,
    /// Let nodes join, give them to environments, take them back, label, cordon and remove them.
    ManageNodes,
    /// Replace the root of the certificate authority.
    ManageAuthority,
    /// Create, list and remove operators' tokens.
    ManageTokens,
    /// Read who tried what.
    ReadAudit,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 9] = [
        Verb::See,
        Verb::Deploy,
        Verb::Operate,
        Verb::Enter,
        Verb::ManageSecrets,
        Verb::ManageNodes,
        Verb::ManageAuthority,
        Verb::ManageTokens,
        Verb::ReadAudit,
    ];

    /// The least role that may do it.
    pub const fn least_role(self) -> Role {
        match self {
            Verb::See => Role::Viewer,
            Verb::Deploy => Role::Deployer,
            Verb::Operate | Verb::Enter | Verb::ManageSecrets | Verb::ManageNodes => Role::Operator,
            Verb::ManageAuthority | Verb::ManageTokens | Verb::ReadAudit => Role::Admin,
        }
    }

    /// What it covers, for people who ask what a role may do.
    pub const fn meaning(self) -> &'static str {
        match self {
            Verb::See => "see applications, services, jobs, their output, events",
            Verb::Deploy => "plan and apply specs, deploy, redeploy, roll back, scale, pause, resume",
            Verb::Operate => {
                "remove services, say which are not redeployable, set quotas, policies and reserved fields, create environments and applications"
            }
            Verb::Enter => {
                "run commands in jobs and beside them, and open connections to their ports: exec, run, forward"
            }
            Verb::ManageSecrets => "set and remove secrets and variables",
            Verb::ManageNodes => "let nodes join and return, attach, detach, label, cordon, revoke and remove them",
            Verb::ManageAuthority => "replace the root of the certificate authority, and the master key",
            Verb::ManageTokens => "create, list and remove operators' tokens",
            Verb::ReadAudit => "read and verify the audit log",
        }
    }

    /// As the beginning of a sentence.
    const fn doing(self) -> &'static str {
        match self {
            Verb::See => "looking at this",
            Verb::Deploy => "deploying",
            Verb::Operate => "this",
            Verb::Enter => "entering jobs",
            Verb::ManageSecrets => "setting secrets and variables",
            Verb::ManageNodes => "managing nodes",
            Verb::ManageAuthority => "replacing the authority's root",
            Verb::ManageTokens => "managing tokens",
            Verb::ReadAudit => "reading the audit log",
        }
    }
}

/// What a token gives its holder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// What its holder is.
    pub role: Role,
    /// Where.
    pub scope: Scope,
}

impl Grant {
    /// Whether this gives all that the other gives, so that its holder can hand the other out.
    pub fn includes(&self, other: &Grant) -> bool {
        self.role >= other.role && self.scope.covers(&other.scope)
    }

    /// Whether its holder sees what lies at a path.
    pub fn sees(&self, scope: &Scope) -> bool {
        decide(self, Verb::See, scope).is_ok()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.role, self.scope)
    }
}

/// Why something is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// It lies where the asking one sees nothing: it is to be answered as what is not there.
    NotThere {
        /// Where.
        scope: Scope,
    },
    /// The asking one knows that it is there, but has too small a role, or has it in too small a scope.
    NotAllowed {
        /// What was asked for.
        verb: Verb,
        /// Where.
        scope: Scope,
        /// What the asking one has.
        grant: Grant,
    },
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::NotThere { scope } => f.write_str(&scope.absent()),
            Denial::NotAllowed { verb, scope, grant } => {
                write!(f, "{} needs the role {} for {scope}; this token has {grant}", verb.doing(), verb.least_role())
            }
        }
    }
}

/// Whether a grant allows a verb in a scope. The only place where that is decided: yes needs a role that is large enough
/// in a scope that covers all of what is asked for.
pub fn decide(grant: &Grant, verb: Verb, scope: &Scope) -> Result<(), Denial> {
    if grant.role >= verb.least_role() && grant.scope.covers(scope) {
        Ok(())
    } else if grant.scope.touches(scope) {
        Err(Denial::NotAllowed { verb, scope: scope.clone(), grant: grant.clone() })
    } else {
        Err(Denial::NotThere { scope: scope.clone() })
    }
}

/// Who asks for a command. Only names who it is: what they may do is looked up in the records when it is decided, so
/// that a token which was removed a moment ago decides nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// A request that showed a token.
    Operator {
        /// The token.
        token: TokenId,
        /// The name that it goes by.
        name: String,
        /// Where the request came from.
        address: IpAddr,
    },
    /// A machine that shows a join token. May enrol and nothing else; the join token is judged by that command.
    Applicant {
        /// Where it came from.
        address: IpAddr,
    },
    /// The first start of a controller. May make the first operator's token, of a store that has none.
    FirstStart,
    /// The controller, of its own accord. May command nothing: what it does by itself are not commands.
    Controller,
}

impl Author {
    /// The name under which events and deployments know them.
    pub fn name(&self) -> &str {
        match self {
            Author::Operator { name, .. } => name,
            Author::Applicant { .. } => "a machine that joins",
            Author::FirstStart => "the first start",
            Author::Controller => "the controller",
        }
    }

    /// Where they asked from; none for the controller itself.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Author::Operator { address, .. } | Author::Applicant { address } => Some(*address),
            Author::FirstStart | Author::Controller => None,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether two hashes of secrets are the same, in a time that does not depend on where they differ. What is compared are
/// SHA-256 sums of 256 random bits, so the time would tell little; it tells nothing.
pub fn same_hash(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0u8, |differs, (a, b)| core::hint::black_box(differs | (a ^ b)));
    a.len() == b.len() && differs == 0
}

#[cfg(test)]
mod tests;
