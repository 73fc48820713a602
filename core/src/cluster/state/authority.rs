//! The certificate authority as it is stored: roots, and how one takes another's place.

use crate::root::RootId;
use crate::time::Wall;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// The certificate authority: one record. The keys are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The root that everybody trusts.
    pub root: Root,
    /// The root that takes its place, while it does.
    pub rotation: Option<Rotation>,
}

/// A self-signed certificate that signs leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// By what it is recognised.
    pub id: RootId,
    /// When it was made.
    pub made: Wall,
    /// When it ends.
    pub ends: Wall,
}

/// How far one root has taken another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The root that comes.
    pub next: Root,
    /// How far it is.
    pub stage: RotationStage,
    /// When it began.
    pub begun: Wall,
    /// When this stage began.
    pub since: Wall,
    /// Who began it.
    pub by: String,
}

/// How far one root has taken another's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotationStage {
    /// Everybody is told to trust both; the old one signs.
    Announcing,
    /// Everybody trusts both; the new one signs, and nodes get new certificates.
    Reissuing,
}

impl RotationStage {
    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            RotationStage::Announcing => "announcing",
            RotationStage::Reissuing => "reissuing",
        }
    }
}
