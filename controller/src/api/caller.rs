//! Who asks, and whether they may: the guard before every address.

use super::problem::ApiError;
use super::{Office, conditions, page};
use crate::engine::{CommandError, Credential};
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use lapstrake_core::access::{Author, Denial, Grant, Scope, Verb, decide};
use lapstrake_core::audit::{Deed, Entry};
use lapstrake_core::cluster::command::Command;
use lapstrake_core::cluster::request::{Carried, Request as Terms};
use lapstrake_core::ids::TokenId;
use lapstrake_core::time::Wall;
use lapstrake_pki::mint;
use lapstrake_pki::token::Token;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A clock that counts a little behind must not make a busy loop of the last millisecond.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// What an address needs, and where the scope comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing, not even a token.
    Open,
    /// Any token: it is about the caller.
    Own,
    /// The verb in the whole organization.
    Organization(Verb),
    /// The verb in the environment that `{app}` and `{env}` name.
    Environment(Verb),
    /// The verb in the caller's own scope; the answer is cut to what lies in it.
    Shown(Verb),
    /// The verb in a scope that the command of the request says; core judges the command.
    Asked(Verb),
}

/// Where a request's connection came from. The listener puts it into every request.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);

/// The operator whose token the request shows, as the guard found them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token.
    pub token: TokenId,
    /// The operator's name.
    pub name: String,
    /// What the token gives.
    pub grant: Grant,
    /// When it ends.
    pub expires: Option<Wall>,
    /// Where the request came from.
    pub address: IpAddr,
    /// What the request says besides what it asks for.
    pub terms: Terms,
}

impl Office {
    /// Carries out what a request asks for: once, where it has a key, and only on what it was decided on. All commands of
    /// operators go this way.
    pub async fn carry_out(&self, caller: &Caller, command: Command) -> Result<Carried, CommandError> {
        self.engine.request(command, caller.author(), caller.terms.clone()).await
    }
}

impl Caller {
    /// As the author of a command.
    pub fn author(&self) -> Author {
        Author::Operator { token: self.token, name: self.name.clone(), address: self.address }
    }

    /// Returns when the token is good no longer: removed, expired, or its scope gone; and when the controller stops. Long
    /// answers end with it, without a word that there is no more, so that whoever reads them comes back.
    pub async fn ends(self, office: Arc<Office>) {
        let mut credentials = office.engine.credentials();
        loop {
            if !credentials.borrow_and_update().get(&self.token).is_some_and(|held| held.is_good(mint::wall())) {
                return;
            }
            tokio::select! {
                () = until(self.expires) => {}
                () = office.stopping.cancelled() => return,
                changed = credentials.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Returns at that time, or never. The wall clock may step meanwhile, so whoever waits looks again.
async fn until(wall: Option<Wall>) {
    match wall {
        Some(wall) => {
            let left = Duration::from_millis(wall.0.saturating_sub(mint::wall().0));
            tokio::time::sleep(left.max(SHORTEST_WAIT)).await;
        }
        None => std::future::pending().await,
    }
}

impl FromRequestParts<Arc<Office>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Office>) -> Result<Caller, ApiError> {
        // Only behind an open address nobody has put one there.
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| ApiError::unauthorized("this address answers nobody in particular"))
    }
}

/// Why a request is not let through.
struct TurnedAway {
    /// Whose token it showed, if that is known.
    author: Option<Box<Author>>,
    /// Whether it showed anything: who shows nothing has tried nothing.
    tried: bool,
    error: ApiError,
}

/// Lets a request through to its address, with its caller, or refuses it and records that.
pub async fn guard(
    State((office, rule)): State<(Arc<Office>, Rule)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if rule == Rule::Open {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let names = names(&mut parts).await;
    match admit(&parts, &office, rule, names) {
        Ok(mut caller) => {
            let (terms, body) = conditions::of(&parts, body, caller.token).await?;
            caller.terms = terms;
            parts.extensions.insert(caller);
            let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
            let mut response = next.run(Request::from_parts(parts, body)).await;
            page::link(&uri, &mut response);
            Ok(conditions::answered(&method, &headers, response))
        }
        Err(TurnedAway { author, tried, error }) => {
            if let (true, None, Some(PeerAddress(address))) = (tried, &author, parts.extensions.get()) {
                office.rate.wrong_token(*address);
            }
            if tried {
                let deed = Deed::new("request", parts.uri.path(), &parts.method);
                let address = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.to_string());
                let address = address.unwrap_or_default();
                let said = error.detail();
                office.engine.refused(Entry::of_refusal(author.as_deref(), &address, deed, said, mint::wall())).await;
            }
            Err(error)
        }
    }
}

fn admit(parts: &Parts, office: &Office, rule: Rule, names: (String, String)) -> Result<Caller, TurnedAway> {
    let caller = known(parts, office)?;
    if let Some((verb, scope)) = wanted(rule, &caller.grant, names)
        && let Err(denial) = decide(&caller.grant, verb, &scope)
    {
        return Err(TurnedAway { author: Some(Box::new(caller.author())), tried: true, error: denial.into() });
    }
    if let Err(error) = office.rate.token(caller.token) {
        return Err(TurnedAway { author: Some(Box::new(caller.author())), tried: false, error });
    }
    Ok(caller)
}

fn known(parts: &Parts, office: &Office) -> Result<Caller, TurnedAway> {
    let stranger = |tried: bool, error: ApiError| TurnedAway { author: None, tried, error };
    let nothing = "no operator's token was shown; `lap login` stores one, LAP_TOKEN gives one";
    let shown = parts.headers.get(AUTHORIZATION);
    let text = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let text = text.ok_or_else(|| stranger(shown.is_some(), ApiError::unauthorized(nothing)))?;
    let token =
        Token::operator(text.trim()).map_err(|error| stranger(true, ApiError::unauthorized(error.to_string())))?;
    let address = parts.extensions.get::<PeerAddress>();
    let address = address.ok_or_else(|| stranger(true, ApiError::unavailable("who asks is not known")))?.0;
    let credentials = office.engine.credentials();
    let credentials = credentials.borrow();
    let unknown = || stranger(true, ApiError::unauthorized("this controller does not know the token"));
    let held = credentials.get(&token.id).ok_or_else(unknown)?;
    if held.hash != Some(token.secret.hash()) {
        return Err(unknown());
    }
    let Credential { name, grant, expires, .. } = held.clone();
    let caller = Caller { token: token.id, name, grant, expires, address, terms: Terms::default() };
    if !held.is_good(mint::wall()) {
        let said = "this token has expired; an admin makes another with `lap token create`";
        return Err(TurnedAway {
            author: Some(Box::new(caller.author())),
            tried: true,
            error: ApiError::unauthorized(said),
        });
    }
    Ok(caller)
}

/// What `{app}` and `{env}` are in this request.
async fn names(parts: &mut Parts) -> (String, String) {
    let params = RawPathParams::from_request_parts(parts, &()).await.ok();
    let named = |wanted: &str| {
        let found = params.as_ref().and_then(|params| params.iter().find(|(name, _)| *name == wanted));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    (named("app"), named("env"))
}

fn wanted(rule: Rule, grant: &Grant, (application, environment): (String, String)) -> Option<(Verb, Scope)> {
    Some(match rule {
        Rule::Open | Rule::Own => return None,
        Rule::Organization(verb) => (verb, Scope::Organization),
        Rule::Environment(verb) => (verb, Scope::Environment(application, environment)),
        Rule::Shown(verb) | Rule::Asked(verb) => (verb, grant.scope.clone()),
    })
}

impl From<Denial> for ApiError {
    fn from(denial: Denial) -> ApiError {
        match denial {
            Denial::NotThere { .. } => ApiError::not_found(denial.to_string()),
            Denial::NotAllowed { .. } => ApiError::forbidden(denial.to_string()),
        }
    }
}
