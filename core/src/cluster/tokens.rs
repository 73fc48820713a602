//! Operators' tokens: who gets one, for what, and until when.

use crate::access::{Author, Role, Scope, same_hash};
use crate::cluster::command::{Answer, NewOperatorToken, Outcome, Refusal, RefusalKind};
use crate::cluster::event::EventKind;
use crate::cluster::state::{OperatorToken, TokenScope};
use crate::cluster::{Cluster, Context, Touched};
use crate::policy::why_not_a_name;
use crate::time::Millis;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn recorded() -> Outcome {
    Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched: Touched::new() }
}

/// The same words for a token that is not there and for one that the asking one is not to know of.
pub(crate) fn no_such_token(token: &str) -> Refusal {
    Refusal::not_found(format!("there is no token {token}")).hint("`lap token ls` lists them")
}

impl Cluster {
    /// A token gives at most what its maker has, and no longer.
    pub(crate) fn create_operator_token(
        &mut self,
        new: NewOperatorToken,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        if self.get::<OperatorToken>(&new.id).is_some_and(|token| same_hash(&token.hash, &new.hash)) {
            // Asked again, as the answer got lost.
            return Ok(Outcome { answer: Answer::Unchanged, ..recorded() });
        }
        let own = self.grant_of(&cx.author, cx.wall)?;
        if let Some(why) = why_not_a_name(&new.name) {
            return Err(Refusal::invalid(why));
        }
        if !own.includes(&new.grant) {
            let sentence = format!("a token for {} is more than this token has, which is {own}", new.grant);
            return Err(Refusal::new(RefusalKind::Forbidden, sentence));
        }
        let expires = new.lifetime.map(|lifetime| cx.wall + lifetime);
        if let Some(ends) = self.token_of(&cx.author).and_then(|token| token.expires)
            && expires.is_none_or(|expires| expires > ends)
        {
            let left = Millis(ends.0.saturating_sub(cx.wall.0));
            return Err(Refusal::new(
                RefusalKind::Forbidden,
                format!("this token ends in {left}, and what it makes ends no later"),
            )
            .hint("name a shorter time with --ttl, or use a token that is good for longer"));
        }
        if self.all::<OperatorToken>().any(|token| token.name == new.name) {
            return Err(Refusal::conflict(format!("there is a token {} already", new.name))
                .hint("take another name, or remove the old one with `lap token rm`"));
        }
        let scope = self.token_scope(&new.grant.scope)?;
        let until = new.lifetime.map_or_else(String::new, |lifetime| format!(", for {lifetime}"));
        let sentence = format!("{} created the token {}: {}{until}", cx.author, new.name, new.grant);
        self.tell(cx, EventKind::OperatorTokenCreated, &new.name, sentence);
        self.put(OperatorToken {
            id: new.id,
            hash: new.hash,
            name: new.name,
            created: cx.wall,
            by: cx.by(),
            role: new.grant.role,
            scope,
            expires,
        });
        Ok(recorded())
    }

    /// Ends a token at once. The last one that can make others and does not end stays, as without it nobody could.
    pub(crate) fn remove_operator_token(&mut self, token: &str, cx: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let found = self.token_called(token).ok_or_else(|| no_such_token(token))?.clone();
        let opens_everything = |token: &OperatorToken| {
            token.role == Role::Admin && token.scope == TokenScope::Organization && token.expires.is_none()
        };
        let another = self.all::<OperatorToken>().any(|token| token.id != found.id && opens_everything(token));
        if opens_everything(&found) && !another {
            return Err(Refusal::refused(format!(
                "{} is the last token of an admin of the organization that does not end: without it nobody could make another",
                found.name
            ))
            .hint("make another first: `lap token create NAME --role admin`"));
        }
        let sentence = format!("{} removed the token {}", cx.author, found.name);
        self.tell(cx, EventKind::OperatorTokenRemoved, &found.name, sentence);
        self.remove::<OperatorToken>(found.id);
        Ok(recorded())
    }

    /// A token by its name or its id.
    pub(crate) fn token_called(&self, token: &str) -> Option<&OperatorToken> {
        self.all::<OperatorToken>().find(|found| found.name == token || found.id.to_string() == token)
    }

    fn token_of(&self, author: &Author) -> Option<&OperatorToken> {
        match author {
            Author::Operator { token, .. } => self.get::<OperatorToken>(token),
            _ => None,
        }
    }

    fn token_scope(&self, scope: &Scope) -> Result<TokenScope, Refusal> {
        Ok(match scope {
            Scope::Organization => TokenScope::Organization,
            Scope::Application(name) => TokenScope::Application(self.application_named(name)?.id),
            Scope::Environment(application, name) => {
                TokenScope::Environment(self.environment_named(application, name)?.id)
            }
        })
    }
}
