//! Whether an author may give a command. Asked before anything else is looked at.

use crate::access::{Author, Denial, Grant, Scope, Verb, decide};
use crate::assignment::ServicePath;
use crate::cluster::command::{Apply, Command, Refusal, RefusalKind};
use crate::cluster::rotation::AuthorityCommand;
use crate::cluster::standing::StandingCommand;
use crate::cluster::state::{Application, Authority, Environment, OperatorToken, TokenScope};
use crate::cluster::values::ValueCommand;
use crate::cluster::{Cluster, One};
use crate::time::Wall;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a command needs of its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// All of these rights, by an operator's token.
    Rights(Vec<Need>),
    /// A join token, which the command shows and judges itself.
    JoinToken,
    /// The key of a certificate that has ended, which the rim has checked.
    OldKey,
}

/// One right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// To do what.
    pub verb: Verb,
    /// Where.
    pub at: At,
}

/// Where a right is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// In this scope.
    Scope(Scope),
    /// In the author's own scope, whatever that is.
    Own,
    /// In this scope, for a record that nobody else is to know of: `absent` is what is said where it is not there.
    Hidden {
        /// Where the record belongs.
        scope: Scope,
        /// The sentence for one for whom it is not there.
        absent: String,
    },
}

impl Need {
    /// A right in a scope.
    pub const fn new(verb: Verb, scope: Scope) -> Need {
        Need { verb, at: At::Scope(scope) }
    }
}

fn environment(application: &str, environment: &str) -> Scope {
    Scope::Environment(application.into(), environment.into())
}

fn one(verb: Verb, scope: Scope) -> Needs {
    Needs::Rights(vec![Need::new(verb, scope)])
}

fn at_service(verb: Verb, path: &ServicePath) -> Needs {
    one(verb, environment(&path.application, &path.environment))
}

impl Command {
    /// What the author of this command must be allowed to do. Every command has a rule, or this does not compile.
    pub fn needs(&self, cluster: &Cluster) -> Needs {
        match self {
            Command::CreateApplication { .. } => one(Verb::Operate, Scope::Organization),
            Command::CreateEnvironment { application, .. } => {
                one(Verb::Operate, Scope::Application(application.clone()))
            }
            Command::SetPolicy(set) => one(Verb::Operate, environment(&set.application, &set.environment)),
            // A node belongs to the organization: who gives it to one environment takes it from all others.
            Command::AttachNode { .. }
            | Command::DetachNode { .. }
            | Command::RemoveNode { .. }
            | Command::CordonNode { .. }
            | Command::UncordonNode { .. }
            | Command::LabelNode { .. }
            | Command::CreateJoinToken(_) => one(Verb::ManageNodes, Scope::Organization),
            // Nobody raises the quota that holds them: an application's is the organization's to set, an environment's the
            // application's.
            Command::SetQuota { environment: None, .. } => one(Verb::Operate, Scope::Organization),
            Command::SetQuota { application, environment: Some(_), .. } => {
                one(Verb::Operate, Scope::Application(application.clone()))
            }
            Command::Apply(apply) => Needs::Rights(cluster.needs_of_apply(apply)),
            Command::Deploy { service, .. }
            | Command::Redeploy { service }
            | Command::Rollback { service, .. }
            | Command::Scale { service, .. }
            | Command::Steer { service, .. } => at_service(Verb::Deploy, service),
            // Whoever may deploy an image that does not start could pause a service as well.
            Command::Pause { which, .. } | Command::Resume { which } => {
                let (application, name) = which.environment();
                one(Verb::Deploy, environment(application, name))
            }
            Command::RemoveService { service } | Command::SetRedeployable { service, .. } => {
                at_service(Verb::Operate, service)
            }
            Command::Enter(enter) => at_service(Verb::Enter, &enter.service),
            // What a command can do that is run beside the jobs, it could do within them.
            Command::Run(run) => at_service(Verb::Enter, &run.service),
            Command::EndRun { service, .. } => at_service(Verb::Enter, service),
            Command::EnrolNode(_) => Needs::JoinToken,
            Command::Standing(StandingCommand::AskReturn(_)) => Needs::OldKey,
            Command::Standing(
                StandingCommand::Revoke { .. }
                | StandingCommand::Release { .. }
                | StandingCommand::Readmit { .. }
                | StandingCommand::RefuseReturn { .. },
            ) => one(Verb::ManageNodes, Scope::Organization),
            Command::Authority(_) => one(Verb::ManageAuthority, Scope::Organization),
            // Another key is the authority's affair: whoever has it has every value.
            Command::Value(ValueCommand::Reseal { .. }) => one(Verb::ManageAuthority, Scope::Organization),
            Command::Value(command) => one(Verb::ManageSecrets, command.scope()),
            Command::CreateOperatorToken(new) => one(Verb::ManageTokens, new.grant.scope.clone()),
            Command::RemoveOperatorToken { token } => Needs::Rights(cluster.needs_of_token(token)),
        }
    }
}

impl Cluster {
    /// Whether the author may give the command, by what the records say now.
    pub fn permit(&self, author: &Author, command: &Command, now: Wall) -> Result<(), Vec<Refusal>> {
        let first = match command {
            Command::CreateOperatorToken(_) => self.operator_tokens.is_empty(),
            Command::Authority(AuthorityCommand::Adopt(_)) => self.get::<Authority>(&One).is_none(),
            _ => false,
        };
        // An interrupted rotation of the master key is ended by whoever starts next, and changes no value.
        let ends_rotation = matches!(command, Command::Value(ValueCommand::Reseal { .. }));
        match author {
            Author::FirstStart if first => Ok(()),
            Author::Controller if ends_rotation => Ok(()),
            _ => self.permit_needs(author, command.needs(self), now),
        }
    }

    /// Whether the author may apply the file, and so plan it.
    pub fn permit_apply(&self, author: &Author, apply: &Apply, now: Wall) -> Result<(), Vec<Refusal>> {
        self.permit_needs(author, Needs::Rights(self.needs_of_apply(apply)), now)
    }

    fn permit_needs(&self, author: &Author, needs: Needs, now: Wall) -> Result<(), Vec<Refusal>> {
        match (author, needs) {
            (Author::Operator { .. }, Needs::Rights(needs)) if !needs.is_empty() => {
                let grant = self.grant_of(author, now).map_err(|refusal| vec![refusal])?;
                refusals(&grant, &needs)
            }
            (Author::Applicant { .. }, Needs::JoinToken | Needs::OldKey) => Ok(()),
            _ => Err(vec![Refusal::new(RefusalKind::Forbidden, format!("{author} may not do this"))]),
        }
    }

    /// What an author has now: the first start everything, an operator what the token gives, all others nothing.
    pub fn grant_of(&self, author: &Author, now: Wall) -> Result<Grant, Refusal> {
        let nobody = |said: &str| Refusal::new(RefusalKind::Unauthenticated, said);
        match author {
            Author::Operator { token, .. } => {
                let token = self.get::<OperatorToken>(token).ok_or_else(|| nobody("this token was removed"))?;
                if !token.is_good(now) {
                    return Err(nobody("this token has expired"));
                }
                self.grant(token).ok_or_else(|| nobody("what this token was for was removed"))
            }
            Author::FirstStart => Ok(Grant { role: crate::access::Role::Admin, scope: Scope::Organization }),
            Author::Applicant { .. } | Author::Controller => Err(nobody("nobody in particular asks for this")),
        }
    }

    /// What a token gives; none when what it was for is gone.
    pub fn grant(&self, token: &OperatorToken) -> Option<Grant> {
        let scope = match token.scope {
            TokenScope::Organization => Scope::Organization,
            TokenScope::Application(id) => Scope::Application(self.get::<Application>(&id)?.name.clone()),
            TokenScope::Environment(id) => {
                let environment = self.get::<Environment>(&id)?;
                let application = self.get::<Application>(&environment.application)?;
                Scope::Environment(application.name.clone(), environment.name.clone())
            }
        };
        Some(Grant { role: token.role, scope })
    }

    fn needs_of_apply(&self, apply: &Apply) -> Vec<Need> {
        let at = |name: &str| Need::new(Verb::Deploy, environment(&apply.application, name));
        let mut needs: Vec<Need> = apply.environments.iter().map(|it| at(&it.name)).collect();
        if needs.is_empty() {
            needs.push(Need::new(Verb::Deploy, Scope::Application(apply.application.clone())));
        }
        if self.application_named(&apply.application).is_err() {
            needs.push(Need::new(Verb::Operate, Scope::Organization));
        }
        needs
    }

    /// Whoever manages no tokens learns nothing; whoever does, nothing of those outside their scope.
    fn needs_of_token(&self, token: &str) -> Vec<Need> {
        let mut needs = vec![Need { verb: Verb::ManageTokens, at: At::Own }];
        if let Some(found) = self.token_called(token) {
            // One whose application or environment is gone is the organization's to remove.
            let scope = self.grant(found).map_or(Scope::Organization, |grant| grant.scope);
            let absent = crate::cluster::tokens::no_such_token(token).sentence;
            needs.push(Need { verb: Verb::ManageTokens, at: At::Hidden { scope, absent } });
        }
        needs
    }
}

/// Everything that a grant lacks. What is not there for its holder is said alone: the rest of the sentences could tell
/// whether it exists.
fn refusals(grant: &Grant, needs: &[Need]) -> Result<(), Vec<Refusal>> {
    let (mut absent, mut lacking) = (Vec::new(), Vec::new());
    for Need { verb, at } in needs {
        let scope = match at {
            At::Scope(scope) | At::Hidden { scope, .. } => scope,
            At::Own => &grant.scope,
        };
        let refusals = match (decide(grant, *verb, scope), at) {
            (Ok(()), _) => continue,
            (Err(_), At::Hidden { absent: said, .. }) => (&mut absent, Refusal::not_found(said.clone())),
            (Err(denial @ Denial::NotThere { .. }), _) => (&mut absent, Refusal::from(denial)),
            (Err(denial @ Denial::NotAllowed { .. }), At::Own) => return Err(vec![denial.into()]),
            (Err(denial @ Denial::NotAllowed { .. }), At::Scope(_)) => (&mut lacking, denial.into()),
        };
        if !refusals.0.contains(&refusals.1) {
            refusals.0.push(refusals.1);
        }
    }
    match (absent.is_empty(), lacking.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(absent),
        (true, false) => Err(lacking),
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Refusal {
        let sentence = format!("{denial}");
        match denial {
            Denial::NotThere { .. } => Refusal::not_found(sentence),
            Denial::NotAllowed { .. } => Refusal::new(RefusalKind::Forbidden, sentence)
                .hint("`lap whoami` says what a token has; an admin gives out others with `lap token create`"),
        }
    }
}
