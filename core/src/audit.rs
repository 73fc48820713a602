//! Who tried what, and what came of it: one row for every command and every refusal, in a chain.
//!
//! ```text
//! row 1 ── hash ──▶ row 2 ── hash ──▶ row 3 …      head: the number and the hash of the last row
//! ```
//!
//! The hash of a row is the SHA-256 of the hash before it, the row's number and every field of it; before the first row
//! stands the hash of the cluster's id. So a row that is altered, taken out, put in or moved does not fit its neighbours,
//! and rows that are cut off at the end do not fit the head. Hashing is the rim's; what is hashed is decided here.

use crate::access::Author;
use crate::cluster::command::{Answer, Apply, Command, Outcome, Refusal};
use crate::cluster::request::Carried;
use crate::cluster::rotation::AuthorityCommand;
use crate::cluster::standing::StandingCommand;
use crate::cluster::values::{SetValue, ValueCommand};
use crate::ids::ClusterId;
use crate::quota::Good;
use crate::time::Wall;
use crate::values::ValueKind;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// No field of a row is longer, in characters: what strangers send must not fill the disk with one request.
const LONGEST_FIELD: usize = 300;

/// The detail of a command that is run in a job is longer, in characters, so that nothing that was run is cut off: a command
/// whose line is longer than this is refused. Only operators get so far that one is decided on.
pub(crate) const LONGEST_COMMAND: usize = 24 << 10;

/// What came of what was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is recorded.
    Done,
    /// It was so already.
    Unchanged,
    /// It was not done, and nothing was changed.
    Refused,
}

impl Verdict {
    /// As rows and people write it.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::Unchanged => "unchanged",
            Verdict::Refused => "refused",
        }
    }
}

/// A row before the store has given it a number and a hash. Texts have no control characters and at most 300 characters, but
/// for the detail of a command in a job; none of them is ever a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub wall: Wall,
    /// The name that the author goes by; empty for who showed no token that is known.
    pub who: String,
    /// The id of the operator's token that was shown; empty without one.
    pub token: String,
    /// Where it came from; empty for the controller itself.
    pub address: String,
    /// What was tried.
    pub deed: Deed,
    /// What came of it: the word of a `Verdict`. A text, so that a row that was altered can still be read.
    pub verdict: String,
    /// Why not, of a refusal; else empty.
    pub said: String,
}

/// What was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// A word: `deploy`, `create-token`, `request`.
    pub verb: String,
    /// A path or a name: `shop/production/web`, `node/edge`, `token/ci`.
    pub subject: String,
    /// More of it: an image, a number of jobs. Never a value that is secret.
    pub detail: String,
}

impl Deed {
    /// From texts that may be anybody's.
    pub fn new(verb: &str, subject: impl fmt::Display, detail: impl fmt::Display) -> Deed {
        Deed { verb: plain(verb), subject: plain(&subject.to_string()), detail: plain(&detail.to_string()) }
    }

    /// Of a command that is run in a job: the whole line of it.
    pub(crate) fn of_line(verb: &str, subject: impl fmt::Display, line: &str) -> Deed {
        Deed { verb: plain(verb), subject: plain(&subject.to_string()), detail: plain_up_to(line, LONGEST_COMMAND) }
    }
}

impl Entry {
    /// What became of a command.
    pub fn of_command(author: &Author, deed: Deed, result: &Result<Outcome, Vec<Refusal>>, wall: Wall) -> Entry {
        let deed = match result {
            // Which job it was is decided with the command, and belongs to what was done.
            Ok(Outcome { answer: Answer::Entrance(entrance), .. }) => {
                Deed { detail: format!("{}: {}", plain(&entrance.to_string()), deed.detail), ..deed }
            }
            Ok(_) | Err(_) => deed,
        };
        let (verdict, said) = match result {
            Ok(outcome) if outcome.answer == Answer::Unchanged => (Verdict::Unchanged, String::new()),
            Ok(_) => (Verdict::Done, String::new()),
            Err(refusals) => {
                let sentences: Vec<&str> = refusals.iter().map(|refusal| refusal.sentence.as_str()).collect();
                (Verdict::Refused, sentences.join("; "))
            }
        };
        let (who, token) = match author {
            Author::Operator { token, name, .. } => (name.clone(), token.to_string()),
            Author::Applicant { .. } | Author::FirstStart | Author::Controller => {
                (author.name().to_string(), String::new())
            }
        };
        let address = author.address().map_or_else(String::new, |address| address.to_string());
        Entry { wall, who: plain(&who), token, address, deed, verdict: verdict.word().into(), said: plain(&said) }
    }

    /// A request with a command. One that was carried out before and is only answered again has changed nothing.
    pub fn of_request(author: &Author, deed: Deed, result: &Result<Carried, Vec<Refusal>>, wall: Wall) -> Entry {
        let again = result.as_ref().is_ok_and(|carried| carried.again);
        let result = result.as_ref().map(|carried| carried.outcome.clone()).map_err(Clone::clone);
        let entry = Entry::of_command(author, deed, &result, wall);
        match again {
            true => Entry {
                verdict: Verdict::Unchanged.word().into(),
                said: "the same request again, by its idempotency key".into(),
                ..entry
            },
            false => entry,
        }
    }

    /// A request that was refused before it became a command: by a token that is not known, or that gives too little.
    pub fn of_refusal(author: Option<&Author>, address: &str, deed: Deed, said: &str, wall: Wall) -> Entry {
        let (who, token) = match author {
            Some(Author::Operator { token, name, .. }) => (name.clone(), token.to_string()),
            Some(author) => (author.name().to_string(), String::new()),
            None => (String::new(), String::new()),
        };
        let (who, address, said) = (plain(&who), plain(address), plain(said));
        Entry { wall, who, token, address, deed, verdict: Verdict::Refused.word().into(), said }
    }
}

/// What operators' and join tokens begin with.
const TOKENS: [&str; 2] = ["lapo1_", "lapj1_"];

/// What follows that in a token: the cluster's id, the authority's hash and the token's own id, each with `_` behind it.
/// None of that is secret.
const OPEN_CHARS: usize = 26 + 1 + 52 + 1 + 26 + 1;

/// And then the secret with its checksum.
const SECRET_CHARS: usize = 58;

/// Without what could act on a terminal, and not longer than a row's field may be. A token that somebody gave where a name
/// was wanted is not repeated; what stands beside it is.
fn plain(text: &str) -> String {
    plain_up_to(text, LONGEST_FIELD)
}

fn plain_up_to(text: &str, longest: usize) -> String {
    let text = without_tokens(text);
    let mut plain = String::new();
    for c in text.chars().take(longest) {
        if c.is_control() { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    if text.chars().nth(longest).is_some() {
        plain.push('…');
    }
    plain
}

fn without_tokens(text: &str) -> String {
    const LONGEST: usize = OPEN_CHARS + SECRET_CHARS;
    // By what both beginnings begin with, so that a long text is looked through once and not once for each token in it.
    let is_token = |text: &str| TOKENS.iter().any(|beginning| text.starts_with(beginning));
    let begins = |text: &str| text.match_indices("lap").map(|(at, _)| at).find(|at| is_token(&text[*at..]));
    let (mut said, mut rest) = (String::new(), text);
    while let Some(at) = begins(rest) {
        let (before, beginning_on) = rest.split_at(at);
        let (beginning, parts) = beginning_on.split_at(TOKENS[0].len());
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let near = parts.bytes().take(LONGEST + TOKENS[0].len()).take_while(is_part).count();
        // Where another one begins, this one was cut off: what follows is the other one's.
        let length = begins(&parts[..near]).unwrap_or(near).min(LONGEST);
        said.push_str(before);
        // One that was cut off before its secret has none, and neither has another word that begins so.
        if length > OPEN_CHARS {
            said.push_str("(a token)");
            rest = &parts[length..];
        } else {
            said.push_str(beginning);
            rest = parts;
        }
    }
    said + rest
}

/// All of a row, to be hashed after the hash before it. Every text has its length before it, so that no two rows are
/// written alike.
fn encode(previous: &[u8; 32], number: u64, entry: &Entry) -> Vec<u8> {
    let Entry { wall, who, token, address, deed: Deed { verb, subject, detail }, verdict, said } = entry;
    let mut bytes = previous.to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(wall.0.to_be_bytes());
    for text in [who, token, address, verb, subject, detail, verdict, said] {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// How the rim hashes.
pub type Sha256 = fn(&[u8]) -> [u8; 32];

/// A place in the chain: the number of a row and its hash. Number 0 is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The row's number.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// What is wrong with a chain, at its first wrong row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A row is not there, though later ones are.
    Missing {
        /// Its number.
        number: u64,
    },
    /// A row is not as it was written, or stands where another one stood.
    Altered {
        /// Its number.
        number: u64,
    },
    /// The last rows are not there.
    CutOff {
        /// The first of them.
        number: u64,
        /// The number of the last row that was written.
        last: u64,
    },
    /// The row is not the one that somebody has noted.
    NotAsNoted {
        /// Its number.
        number: u64,
    },
}

impl Fault {
    /// The number of the first wrong row.
    pub const fn number(&self) -> u64 {
        match self {
            Fault::Missing { number }
            | Fault::Altered { number }
            | Fault::CutOff { number, .. }
            | Fault::NotAsNoted { number } => *number,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing { number } => write!(f, "row {number} is missing"),
            Fault::Altered { number } => write!(f, "row {number} is not as it was written"),
            Fault::CutOff { number, last } if number == last => write!(f, "row {number}, the last one, is missing"),
            Fault::CutOff { number, last } => write!(f, "the rows from {number} to {last} are missing"),
            Fault::NotAsNoted { number } => write!(f, "row {number} is not the one that was noted"),
        }
    }
}

impl Link {
    /// The beginning of a cluster's chain.
    pub fn beginning(cluster: ClusterId, sha256: Sha256) -> Link {
        Link { number: 0, hash: sha256(format!("lapstrake audit 1 {cluster}").as_bytes()) }
    }

    /// The link of the row that follows.
    pub fn next(&self, entry: &Entry, sha256: Sha256) -> Link {
        let number = self.number + 1;
        Link { number, hash: sha256(&encode(&self.hash, number, entry)) }
    }

    /// The link of a row that was read, if it follows.
    pub fn follow(&self, row: &Link, entry: &Entry, sha256: Sha256) -> Result<Link, Fault> {
        let next = self.next(entry, sha256);
        if row.number > next.number {
            Err(Fault::Missing { number: next.number })
        } else if next == *row {
            Ok(next)
        } else {
            Err(Fault::Altered { number: row.number })
        }
    }

    /// Whether the last row that was read is the last that was written.
    pub fn end(&self, head: &Link) -> Result<(), Fault> {
        if self.number < head.number {
            Err(Fault::CutOff { number: self.number + 1, last: head.number })
        } else if self != head {
            Err(Fault::Altered { number: head.number })
        } else {
            Ok(())
        }
    }
}

impl Command {
    /// What is tried, as a row tells it. Every command has its words, or this does not compile; secrets are not among them.
    pub fn deed(&self) -> Deed {
        match self {
            Command::CreateApplication { name } => Deed::new("create-application", name, ""),
            Command::CreateEnvironment { application, name } => {
                Deed::new("create-environment", format!("{application}/{name}"), "")
            }
            Command::SetPolicy(set) => {
                let scale = set.max_scale.map(|scale| format!("max_scale {scale}"));
                let fields = set.operator_fields.as_ref().map(|names| format!("operator_fields {}", names.join(" ")));
                let detail: Vec<String> = scale.into_iter().chain(fields).collect();
                Deed::new("set-policy", format!("{}/{}", set.application, set.environment), detail.join(", "))
            }
            Command::AttachNode { application, environment, node } => {
                Deed::new("attach-node", format!("{application}/{environment}"), format!("node {node}"))
            }
            Command::DetachNode { application, environment, node, force } => {
                let detail = format!("node {node}{}", by_force(*force));
                Deed::new("detach-node", format!("{application}/{environment}"), detail)
            }
            Command::RemoveNode { node, force } => {
                Deed::new("remove-node", format!("node/{node}"), by_force(*force).trim_start_matches(", "))
            }
            Command::CordonNode { node, reason } => {
                Deed::new("cordon-node", format!("node/{node}"), reason.clone().unwrap_or_default())
            }
            Command::UncordonNode { node } => Deed::new("uncordon-node", format!("node/{node}"), ""),
            Command::LabelNode { node, set, remove } => {
                let set = set.iter().map(|(key, value)| format!("{key}={value}"));
                let changes: Vec<String> = set.chain(remove.iter().map(|key| format!("no {key}"))).collect();
                Deed::new("label-node", format!("node/{node}"), changes.join(", "))
            }
            Command::SetQuota { application, environment, limits } => {
                let environment = environment.as_ref().map(|name| format!("/{name}")).unwrap_or_default();
                let limit = |(good, limit): (&Good, &Option<u64>)| match limit {
                    Some(limit) => format!("{} {limit}", good.name()),
                    None => format!("{} default", good.name()),
                };
                let limits: Vec<String> = limits.iter().map(limit).collect();
                Deed::new("set-quota", format!("{application}{environment}"), limits.join(", "))
            }
            Command::Standing(command) => command.deed(),
            Command::Authority(command) => command.deed(),
            Command::Value(command) => command.deed(),
            Command::Apply(apply) => Deed::new("apply", &apply.application, services_of(apply)),
            Command::Deploy { service, image } => Deed::new("deploy", service, format!("image {image}")),
            Command::Redeploy { service } => Deed::new("redeploy", service, ""),
            Command::Rollback { service, to } => {
                Deed::new("rollback", service, to.map_or_else(String::new, |to| format!("to r{to}")))
            }
            Command::Scale { service, scale } => Deed::new("scale", service, format!("scale {scale}")),
            Command::Steer { service, number, how } => {
                Deed::new("steer-deployment", service, format!("{} of deployment {number}", how.word()))
            }
            Command::Pause { which, reason } => Deed::new("pause", which, reason.clone().unwrap_or_default()),
            Command::Resume { which } => Deed::new("resume", which, ""),
            Command::SetRedeployable { service, against } => {
                let detail = against.as_ref().map_or_else(|| "yes".into(), |reason| format!("no: {reason}"));
                Deed::new("set-redeployable", service, detail)
            }
            Command::RemoveService { service } => Deed::new("remove-service", service, ""),
            Command::Enter(enter) => enter.deed(),
            Command::Run(run) => run.deed(),
            Command::EndRun { service, job } => Deed::new("run.stop", service, format!("job {job}")),
            Command::CreateJoinToken(new) => {
                let environment = new.environment.as_ref().map(|(app, name)| format!("for {app}/{name}"));
                Deed::new("create-join-token", format!("node-token/{}", new.id), environment.unwrap_or_default())
            }
            Command::EnrolNode(enrol) => {
                let detail = format!("join token {}, key {}", enrol.token, enrol.key);
                Deed::new("enrol-node", format!("node/{}", enrol.name), detail)
            }
            Command::CreateOperatorToken(new) => {
                let until = new.lifetime.map_or_else(String::new, |lifetime| format!(", for {lifetime}"));
                Deed::new("create-token", format!("token/{}", new.name), format!("{}{until}, id {}", new.grant, new.id))
            }
            Command::RemoveOperatorToken { token } => Deed::new("remove-token", format!("token/{token}"), ""),
        }
    }
}

impl StandingCommand {
    fn deed(&self) -> Deed {
        match self {
            StandingCommand::Revoke { node } => Deed::new("revoke-node", format!("node/{node}"), ""),
            StandingCommand::Release { node } => Deed::new("unquarantine-node", format!("node/{node}"), ""),
            StandingCommand::AskReturn(ask) => {
                Deed::new("ask-return", format!("node/{}", ask.node), format!("key {}", ask.key))
            }
            StandingCommand::Readmit { node, key } => {
                Deed::new("readmit-node", format!("node/{node}"), format!("key {key}"))
            }
            StandingCommand::RefuseReturn { node } => Deed::new("refuse-return", format!("node/{node}"), ""),
        }
    }
}

impl ValueCommand {
    fn deed(&self) -> Deed {
        let named = |kind: ValueKind, name: &str| format!("{} {name}", kind.word());
        match self {
            ValueCommand::Set(SetValue { at, key, .. }) => Deed::new("set-value", at, named(key.kind, &key.name)),
            ValueCommand::Remove { at, kind, name } => Deed::new("remove-value", at, named(*kind, name)),
            ValueCommand::Reseal { versions } => Deed::new("reseal-values", "", format!("{} versions", versions.len())),
        }
    }
}

impl AuthorityCommand {
    fn deed(&self) -> Deed {
        match self {
            AuthorityCommand::Adopt(root) => Deed::new("adopt-root", "authority", format!("root {}", root.id)),
            AuthorityCommand::Begin(root) => Deed::new("rotate-root", "authority", format!("root {}", root.id)),
            AuthorityCommand::Advance { force } => {
                Deed::new("advance-rotation", "authority", by_force(*force).trim_start_matches(", "))
            }
        }
    }
}

const fn by_force(force: bool) -> &'static str {
    if force { ", by force" } else { "" }
}

/// `production: web, api; staging: web`.
fn services_of(apply: &Apply) -> String {
    let of_one = |environment: &crate::cluster::command::ApplyEnvironment| {
        let names: Vec<&str> = environment.services.iter().map(|service| service.name.as_str()).collect();
        format!("{}: {}", environment.name, names.join(", "))
    };
    apply.environments.iter().map(of_one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
