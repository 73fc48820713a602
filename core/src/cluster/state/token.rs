//! Tickets for nodes and for operators, without their secrets.

use crate::access::Role;
use crate::ids::{ApplicationId, EnvironmentId, NodeId, TokenId};
use crate::time::Wall;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// A ticket for one node. Its secret is not stored, only the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// When.
    pub created: Wall,
    /// By whom.
    pub by: String,
    /// From then on it is of no use.
    pub expires: Wall,
    /// The node is allotted to this environment when it joins.
    pub environment: Option<EnvironmentId>,
    /// The only name that the node may have.
    pub node_name: Option<String>,
    /// Where the node must come from, as `10.0.0.0/8`. Checked at the rim, which knows the address.
    pub cidr: Option<String>,
    /// Who used it.
    pub used_by: Option<NodeId>,
}

/// What an operator shows. Its secret is not stored, only the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// The operator's name, unique among tokens: `by` of what is done with it.
    pub name: String,
    /// When.
    pub created: Wall,
    /// Who made it.
    #[serde(default)]
    pub by: String,
    /// What its holder is. Tokens of before there were roles could do everything.
    #[serde(default = "admin")]
    pub role: Role,
    /// Where.
    #[serde(default)]
    pub scope: TokenScope,
    /// From then on it is of no use; none for one that does not end by itself.
    #[serde(default)]
    pub expires: Option<Wall>,
}

const fn admin() -> Role {
    Role::Admin
}

impl OperatorToken {
    /// Whether it is still of use.
    pub fn is_good(&self, now: Wall) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Where a token is good: by ids, so that a namesake that comes after something was removed is not what was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenScope {
    /// Everywhere.
    #[default]
    Organization,
    /// In an application and its environments.
    Application(ApplicationId),
    /// In one environment.
    Environment(EnvironmentId),
}
