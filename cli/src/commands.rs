//! What each verb does: ask the controller, show its answer.

mod applications;
pub mod audit;
mod authority;
mod change;
mod deployments;
mod doctor;
mod events;
mod exec;
mod forward;
mod login;
mod logs;
mod nodes;
mod own;
mod pausing;
mod quotas;
mod run;
mod services;
mod setup;
mod spec;
mod steer;
mod tokens;
mod top;
mod values;

use crate::args::{
    AppVerb, AuditVerb, CaVerb, Common, ContextVerb, EnvVerb, Lap, NodeVerb, OperatorTokenVerb, QuotaVerb, SecretVerb,
    TokenVerb, VarVerb, Verb,
};
use crate::client::Client;
use crate::context::{self, Contexts};
use crate::error::LapError;
use crate::output::Output;

/// What a verb works with.
pub struct Session {
    /// The controller.
    pub client: Client,
    /// Where its answers go.
    pub output: Output,
}

impl Session {
    fn open(common: &Common) -> Result<Session, LapError> {
        let contexts = stored()?;
        let (address, token, trust) = common.wish().resolve(&contexts)?;
        Ok(Session { client: Client::new(address, token, trust), output: Output::new(common.output) })
    }
}

/// The controller's root is being replaced, and the one that is trusted has said by which: that one is trusted from now on.
fn follow_root(session: &Session) -> Result<(), LapError> {
    let Some((token, root)) = session.client.successor() else { return Ok(()) };
    let mut contexts = stored()?;
    if contexts.trust(token, root) {
        contexts.store(&context::file()?)?;
        session.output.say(&format!("the controller's root is being replaced; lap trusts {root} too from now on"));
    } else {
        let said =
            format!("the controller's root is being replaced by {root}; this token is not stored, so make a new one");
        session.output.say(&said);
    }
    Ok(())
}

/// The stored contexts; none where there is no place for them.
fn stored() -> Result<Contexts, LapError> {
    match context::file() {
        Ok(file) => Ok(Contexts::load(&file)?),
        Err(_) => Ok(Contexts::default()),
    }
}

/// Carries out one command.
pub async fn run(lap: &Lap) -> Result<(), LapError> {
    match &lap.verb {
        Verb::Setup(words) => return setup::setup(&lap.common, words).await,
        Verb::Login(login) => return login::login(&lap.common, login).await,
        Verb::Context(ContextVerb::Ls) => return login::list(&lap.common),
        Verb::Context(ContextVerb::Use { name }) => return login::choose(name),
        Verb::Version => return login::version(&lap.common).await,
        Verb::Schema => return own::schema(),
        Verb::Completion { shell } => return own::completion(*shell),
        Verb::Man { folder } => return own::man(folder),
        _ => {}
    }
    let mut session = Session::open(&lap.common)?;
    let done = carry_out(lap, &mut session).await;
    follow_root(&session)?;
    done
}

async fn carry_out(lap: &Lap, session: &mut Session) -> Result<(), LapError> {
    match &lap.verb {
        Verb::App(AppVerb::Ls) => applications::list(session).await,
        Verb::App(AppVerb::Create { name }) => applications::create(session, name).await,
        Verb::Env(EnvVerb::Ls { application }) => applications::environments(session, application.as_ref()).await,
        Verb::Env(EnvVerb::Create { path }) => applications::create_environment(session, path).await,
        Verb::Env(EnvVerb::AttachNode { path, node }) => nodes::attach(session, path, node).await,
        Verb::Env(EnvVerb::DetachNode { path, node, force }) => nodes::detach(session, path, node, *force).await,
        Verb::Env(EnvVerb::Policy { path, set, operator_fields }) => {
            applications::policy(session, path, set.as_ref(), operator_fields.as_deref()).await
        }
        Verb::Node(NodeVerb::Token(TokenVerb::Create { ttl, env, name, cidr })) => {
            let ask = nodes::token_ask(*ttl, env.as_ref(), name.as_ref(), cidr.as_deref());
            nodes::create_token(session, &ask).await
        }
        Verb::Node(NodeVerb::Ls) => nodes::list(session).await,
        Verb::Node(NodeVerb::Show { name }) => nodes::show(session, name).await,
        Verb::Node(NodeVerb::Cordon { name, reason }) => nodes::cordon(session, name, reason.as_deref()).await,
        Verb::Node(NodeVerb::Uncordon { name }) => nodes::uncordon(session, name).await,
        Verb::Node(NodeVerb::Label { name, set, rm }) => nodes::label(session, name, set, rm).await,
        Verb::Quota(QuotaVerb::Ls { below }) => quotas::list(session, below.as_ref()).await,
        Verb::Quota(QuotaVerb::Set { of, limits }) => quotas::set(session, of, limits).await,
        Verb::Secret(SecretVerb::Set(set)) => values::set_secret(session, set).await,
        Verb::Secret(SecretVerb::Ls(whose)) => values::secrets(session, &whose.owner()).await,
        Verb::Secret(SecretVerb::Rm(remove)) => values::remove_secret(session, remove).await,
        Verb::Secret(SecretVerb::RotateKey) => values::rotate_key(session).await,
        Verb::Var(VarVerb::Set(words)) => values::set_variables(session, words).await,
        Verb::Var(VarVerb::Ls(whose)) => values::variables(session, &whose.owner()).await,
        Verb::Var(VarVerb::Rm(words)) => values::remove_variables(session, words).await,
        Verb::Node(NodeVerb::Rm { name, force }) => nodes::remove(session, name, *force).await,
        Verb::Token(OperatorTokenVerb::Ls) => tokens::list(session).await,
        Verb::Token(OperatorTokenVerb::Create(new)) => tokens::create(session, new).await,
        Verb::Token(OperatorTokenVerb::Rm { token }) => tokens::remove(session, token).await,
        Verb::Whoami => tokens::whoami(session).await,
        Verb::Audit(AuditVerb::Ls(rows)) => audit::list(session, rows).await,
        Verb::Audit(AuditVerb::Verify { noted }) => audit::verify(session, *noted).await,
        Verb::Node(NodeVerb::Revoke { name }) => nodes::revoke(session, name).await,
        Verb::Node(NodeVerb::Unquarantine { name }) => nodes::unquarantine(session, name).await,
        Verb::Node(NodeVerb::Readmit { name, key, refuse }) => {
            nodes::readmit(session, name, key.as_deref(), *refuse).await
        }
        Verb::Ca(CaVerb::Show) => authority::show(session).await,
        Verb::Ca(CaVerb::Rotate) => authority::rotate(session).await,
        Verb::Ca(CaVerb::Advance { force }) => authority::advance(session, *force).await,
        Verb::Plan(spec) => spec::plan(session, spec).await,
        Verb::Apply(apply) => spec::apply(session, apply).await,
        Verb::Ps(listing) => services::jobs(session, listing.below.as_ref()).await,
        Verb::Status(listing) => services::status(session, listing.below.as_ref()).await,
        Verb::Why(one) => services::why(session, &one.path).await,
        Verb::Events(events) => events::events(session, events).await,
        Verb::Deployments(which) => deployments::deployments(session, which).await,
        Verb::Deploy(deploy) => change::deploy(session, deploy).await,
        Verb::Redeploy(redeploy) => change::redeploy(session, redeploy).await,
        Verb::Rollback(rollback) => change::rollback(session, rollback).await,
        Verb::Cancel(of) => steer::cancel(session, of).await,
        Verb::Hold(of) => steer::hold(session, of).await,
        Verb::Release(release) => steer::release(session, release).await,
        Verb::Scale(scale) => change::scale(session, scale).await,
        Verb::Doctor => doctor::doctor(session).await,
        Verb::Pause(pause) => pausing::pause(session, pause).await,
        Verb::Resume(resume) => pausing::resume(session, resume).await,
        Verb::Redeployable(redeployable) => pausing::redeployable(session, redeployable).await,
        Verb::Rm(remove) => change::remove(session, remove).await,
        Verb::Logs(logs) => logs::logs(session, logs).await,
        Verb::Exec(exec) => exec::exec(session, exec).await,
        Verb::Run(one) => run::run(session, one).await,
        Verb::Forward(forward) => forward::forward(session, forward).await,
        Verb::Top(top) => top::top(session, top).await,
        // Done before there was a session.
        Verb::Setup(_)
        | Verb::Login(_)
        | Verb::Context(_)
        | Verb::Version
        | Verb::Schema
        | Verb::Completion { .. }
        | Verb::Man { .. } => Ok(()),
    }
}
