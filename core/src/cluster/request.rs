//! What a request says besides its command: that it must be carried out once however often it arrives, and what it was
//! decided on.
//!
//! ```text
//! the same key, the same request    -> the first outcome again, nothing is done
//! the same key, another request     -> refused
//! the thing has changed since       -> refused
//! ```
//!
//! The first outcome is a record, written in the same transaction as what the command changed: a controller that dies
//! between its commit and its answer finds it again, and one that dies before its commit finds neither.

use crate::assignment::ServicePath;
use crate::cluster::command::{Apply, Command, Outcome, Refusal, RefusalKind};
use crate::cluster::live::Live;
use crate::cluster::state::{Allotment, DoneRequest, OperatorToken};
use crate::cluster::tag::Tag;
use crate::cluster::{Cluster, Context, Key, Stored as _, Touched};
use crate::ids::TokenId;
use crate::time::{Millis, Wall};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// So long the outcome of a request with a key is kept: longer than anybody retries.
pub const KEPT_FOR: Millis = Millis::secs(24 * 3_600);

/// So many outcomes are kept for one token; beyond that the oldest goes. A program that deploys every five minutes has a
/// day's worth; at some KiB each they take about a MiB.
pub const KEPT_PER_TOKEN: usize = 256;

/// The most outcomes that one request forgets, so that it stays within a batch. More than the one that it adds.
const FORGOTTEN_AT_ONCE: usize = 2;

/// The longest key: twice a UUID's length, with room for a prefix.
const LONGEST_KEY: usize = 80;

/// What a request says besides its command. Most say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// That it must be carried out once.
    pub once: Option<Once>,
    /// What the one who asks believes that the thing is.
    pub expects: Option<Expected>,
}

/// Names a request, for whom it is to be carried out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Who asks. Keys of different tokens have nothing to do with each other.
    pub token: TokenId,
    /// The name that the asking one made up.
    pub key: String,
    /// Tells this request from others: a keyed hash of method, address and body, made at the rim. Two are only compared.
    pub digest: String,
}

/// What a thing must be for the request to be carried out: `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anything, as long as it is there.
    Anything,
    /// One of these.
    OneOf(Vec<Tag>),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether it is the outcome of an earlier time: nothing was done now. What was made then and shown once is not shown
    /// again.
    pub again: bool,
}

/// What a command is about, where that has a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A service.
    Service(&'a ServicePath),
    /// An environment.
    Environment(&'a str, &'a str),
    /// A node.
    Node(&'a str),
    /// The services that a file names.
    File(&'a Apply),
}

impl Cluster {
    /// Carries a request's command out, unless that was done before or must not be; a refusal changes nothing.
    pub fn request(
        &mut self,
        live: &Live,
        command: Command,
        request: &Request,
        cx: &mut Context<'_>,
    ) -> Result<Carried, Vec<Refusal>> {
        // Before anything that could tell somebody who may not know it whether a thing is there, or what became of it.
        self.permit(&cx.author, &command, cx.wall)?;
        if let Some(once) = &request.once
            && let Some(outcome) = self.done_before(once, cx.wall).map_err(|refusal| vec![refusal])?
        {
            return Ok(Carried { outcome, again: true });
        }
        if let Some(expected) = &request.expects {
            self.refuse_changed(&command, expected).map_err(|refusal| vec![refusal])?;
        }
        let outcome = self.command(live, command, cx)?;
        if let Some(once) = &request.once {
            self.remember(once, &outcome, cx.wall);
        }
        Ok(Carried { outcome, again: false })
    }

    /// The outcome of the same request, if it was carried out before.
    fn done_before(&self, once: &Once, now: Wall) -> Result<Option<Outcome>, Refusal> {
        if let Some(why) = why_not_a_key(&once.key) {
            return Err(Refusal::invalid(why).hint("a UUID is a good key"));
        }
        let done = self.get::<DoneRequest>(&(once.token, once.key.clone())).filter(|done| !is_old(done, now));
        match done {
            None => Ok(None),
            Some(done) if done.digest == once.digest => Ok(Some(Outcome {
                answer: done.answer.clone(),
                warnings: done.warnings.clone(),
                touched: Touched::new(),
            })),
            Some(_) => Err(Refusal::new(
                RefusalKind::KeyReused,
                format!("the idempotency key {} was used for another request; nothing was done", once.key),
            )
            .hint("take a new key for each request, and the same one only to repeat it")),
        }
    }

    fn remember(&mut self, once: &Once, outcome: &Outcome, now: Wall) {
        self.put(DoneRequest {
            token: once.token,
            key: once.key.clone(),
            digest: once.digest.clone(),
            at: now,
            answer: outcome.answer.clone(),
            warnings: outcome.warnings.clone(),
        });
        let token_is_gone = |done: &DoneRequest| self.get::<OperatorToken>(&done.token).is_none();
        let useless = self.all::<DoneRequest>().filter(|done| is_old(done, now) || token_is_gone(done));
        let mut forgotten: Vec<_> = useless.map(|done| done.id()).take(FORGOTTEN_AT_ONCE).collect();
        if forgotten.is_empty() {
            let own = self.all::<DoneRequest>().filter(|done| done.token == once.token && done.key != once.key);
            let mut own: Vec<_> = own.map(|done| (done.at, done.id())).collect();
            own.sort();
            let surplus = (own.len() + 1).saturating_sub(KEPT_PER_TOKEN).min(FORGOTTEN_AT_ONCE);
            forgotten.extend(own.into_iter().take(surplus).map(|(_, id)| id));
        }
        for id in forgotten.into_iter().filter(|id| *id != (once.token, once.key.clone())) {
            self.remove::<DoneRequest>(id);
        }
    }

    /// Refuses a command that was decided on something which is different now. One about a thing that is not there is left
    /// to be refused for that.
    fn refuse_changed(&self, command: &Command, expected: &Expected) -> Result<(), Refusal> {
        let Some(subject) = command.subject() else {
            return Err(Refusal::invalid("what this changes has no tag that If-Match could be compared with")
                .hint("leave If-Match away"));
        };
        let Some(tag) = self.tag_of_subject(subject) else { return Ok(()) };
        match expected {
            Expected::Anything => Ok(()),
            Expected::OneOf(tags) if tags.contains(&tag) => Ok(()),
            Expected::OneOf(_) => {
                let what = subject.what();
                Err(Refusal::new(
                    RefusalKind::Changed,
                    format!("{what} was changed since it was read; nothing was done"),
                )
                .hint("read it again and decide anew"))
            }
        }
    }

    /// The tag of what a command is about; none if that is not there.
    pub fn tag_of_subject(&self, subject: Subject<'_>) -> Option<Tag> {
        match subject {
            Subject::Service(path) => self.service_at(path).ok().map(|service| self.tag([Key::Service(service.id)])),
            Subject::Environment(application, environment) => {
                let id = self.environment_named(application, environment).ok()?.id;
                let allotted = self.all::<Allotment>().filter(|allotment| allotment.environment == id);
                let keys = allotted.map(|allotment| Key::Allotment(allotment.id()));
                Some(self.tag(core::iter::once(Key::Environment(id)).chain(keys)))
            }
            Subject::Node(name) => self.node_named(name).ok().map(|node| self.tag([Key::Node(node.id)])),
            Subject::File(apply) => {
                let named = apply.environments.iter().flat_map(|environment| {
                    environment.services.iter().map(|service| ServicePath {
                        application: apply.application.clone(),
                        environment: environment.name.clone(),
                        service: service.name.clone(),
                    })
                });
                let known =
                    named.filter_map(|path| self.service_at(&path).ok().map(|service| Key::Service(service.id)));
                Some(self.tag(known))
            }
        }
    }
}

impl Subject<'_> {
    /// For a sentence.
    fn what(&self) -> String {
        match self {
            Subject::Service(path) => path.to_string(),
            Subject::Environment(application, environment) => format!("{application}/{environment}"),
            Subject::Node(name) => format!("the node {name}"),
            Subject::File(_) => "a service of the file".into(),
        }
    }
}

fn is_old(done: &DoneRequest, now: Wall) -> bool {
    now >= done.at + KEPT_FOR
}

/// Why a text cannot be a key; none if it can. Keys stand in the store's own keys and in sentences for people.
pub fn why_not_a_key(key: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if key.is_empty() {
        Some("the idempotency key is empty".into())
    } else if key.len() > LONGEST_KEY {
        Some(format!("the idempotency key has {} characters; {LONGEST_KEY} are allowed", key.len()))
    } else if !key.chars().all(legal) {
        Some("the idempotency key may only have letters, digits, -, _, . and :".into())
    } else {
        None
    }
}
