//! Secrets and variables: what they are called, where they belong, and which version of them a job gets.
//!
//! Decisions see a value's name, place and version, never what it is: here it is a sealed run of bytes, which only the rims
//! open. The controller seals what it stores under its master key, opens it for the nodes that run a job with it, and the
//! agent seals it again under a key of its own before the ledger holds it. `Body::Clear` is the moment between the two.

use crate::assignment::ServicePath;
use crate::ids::{ApplicationId, EnvironmentId, ServiceId, SlotId, ValueId};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// The longest value, in bytes: a certificate chain with its key is a quarter of it.
pub const VALUE_BYTES: usize = 32 << 10;
/// So many values of one scope and kind. A limit on everything.
pub const VALUES_PER_SCOPE: usize = 100;
/// All that one job gets, in sealed bytes: four of the longest values. A node takes 16 MiB in one set.
pub const JOB_VALUES_BYTES: usize = 4 * (VALUE_BYTES + 64);
/// The places of one job that values go to. The wire takes a few more.
pub const JOB_VALUES: usize = 1000;

/// What a value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueKind {
    /// An environment variable of every service below its scope. It is shown to whoever may look.
    Variable,
    /// A text that nobody is shown again. A service gets it where its spec names it.
    Secret,
    /// A registry's user and password, by the registry's host. Used for pulls; no job sees it.
    Registry,
}

impl ValueKind {
    /// All of them.
    pub const ALL: [ValueKind; 3] = [ValueKind::Variable, ValueKind::Secret, ValueKind::Registry];

    /// The word for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            ValueKind::Variable => "variable",
            ValueKind::Secret => "secret",
            ValueKind::Registry => "registry",
        }
    }

    /// From the word.
    pub fn from_word(word: &str) -> Option<ValueKind> {
        ValueKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What it is in a sentence, before the value's name.
    pub const fn noun(self) -> &'static str {
        match self {
            ValueKind::Variable => "the variable",
            ValueKind::Secret => "the secret",
            ValueKind::Registry => "the credentials for the registry",
        }
    }
}

/// Where a value belongs. What lies nearer to a service wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueScope {
    /// To everything.
    Organization,
    /// To an application and its environments.
    Application(ApplicationId),
    /// To an environment and its services.
    Environment(EnvironmentId),
    /// To one service.
    Service(ServiceId),
}

impl fmt::Display for ValueScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueScope::Organization => f.write_str("organization"),
            ValueScope::Application(id) => write!(f, "application-{id}"),
            ValueScope::Environment(id) => write!(f, "environment-{id}"),
            ValueScope::Service(id) => write!(f, "service-{id}"),
        }
    }
}

/// What finds a value: at most one of a name in a scope and kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueKey {
    /// Where it belongs.
    pub scope: ValueScope,
    /// What it is for.
    pub kind: ValueKind,
    /// Its name: a variable's, a secret's, or a registry's host.
    pub name: String,
}

impl fmt::Display for ValueKey {
    /// `organization/secret/api-key`: also what a sealed value is bound to, so its form never changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.scope, self.kind.word(), self.name)
    }
}

impl ValueKey {
    /// The id under which nodes know a version of this value. They hold what they have been given once by it, so it is
    /// another one for every value: a version that stands in the wrong record is none that any node has. FNV-1a over the
    /// key, which need not be hard to find collisions for: what a version belongs to is proved where it is opened.
    pub fn on_nodes(&self, version: ValueId) -> ValueId {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
        let text = format!("{self}");
        let hash = text.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
        ValueId(version.0 ^ hash)
    }
}

/// Where in a job a value goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// An environment variable of this name. A node's root finds it in the engine's state.
    Variable(String),
    /// A file in memory.
    File {
        /// Where, in the container. Absolute.
        path: String,
        /// The permission bits.
        mode: u32,
    },
    /// The pull of its image.
    Registry,
}

impl Place {
    /// What people call it: the variable's name, the file's path, `registry`.
    pub fn name(&self) -> &str {
        match self {
            Place::Variable(name) => name,
            Place::File { path, .. } => path,
            Place::Registry => "registry",
        }
    }
}

/// A place of a job and the version of the value that goes there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// The place.
    pub place: Place,
    /// The version.
    pub value: ValueId,
}

/// The same as the controller's records say it: which version of which value a deployment has bound to a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bound {
    /// The place.
    pub place: Place,
    /// The value.
    pub key: ValueKey,
    /// Its version.
    pub version: ValueId,
}

impl Bound {
    /// As a node is told.
    pub fn binding(&self) -> Binding {
        Binding { place: self.place.clone(), value: self.key.on_nodes(self.version) }
    }
}

/// A version of a value on its way to a node, or held by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenValue {
    /// What people call it: `the secret api-key of shop/production`. For sentences.
    pub called: String,
    /// What it is.
    pub body: Body,
}

/// What a value is, as far as its holder can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Closed, as the controller's store holds it: bound to what it is the value of.
    Stored {
        /// What it is the value of.
        key: ValueKey,
        /// Which version of that.
        version: ValueId,
        /// Under the master key.
        sealed: Sealed,
    },
    /// Closed, as a node's ledger holds it: under the node's key, bound to the version's id.
    Sealed(Sealed),
    /// Open: only between the two rims. Whoever tries to store it gets an error.
    Clear(Clear),
    /// It could not be opened where it comes from; the sentence says why.
    Unreadable {
        /// Why.
        said: String,
    },
}

/// Sealed bytes, shared by all that hold them: every decision about a node copies its values. Written in hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sealed(pub Arc<[u8]>);

impl From<Vec<u8>> for Sealed {
    fn from(bytes: Vec<u8>) -> Sealed {
        Sealed(bytes.into())
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <alloc::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
        let byte = |pair: &[u8]| match pair {
            [a, b] => Some(digit(*a)? << 4 | digit(*b)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        // A text that somebody has damaged is bytes that do not open: its holder says of which value, and all else goes on.
        Ok(bytes.unwrap_or_else(|| text.as_bytes().to_vec()).into())
    }
}

/// Open bytes. Never shown, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Clear(pub Vec<u8>);

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clear(..)")
    }
}

impl Drop for Clear {
    /// Overwritten as well as a compiler lets: a core dump or a page in swap has one copy less.
    fn drop(&mut self) {
        self.0.fill(0);
        core::hint::black_box(&self.0);
    }
}

impl Serialize for Clear {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("an open value is not stored"))
    }
}

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("an open value is not stored"))
    }
}

/// What every variable that Lapstrake gives of itself begins with. Nobody else sets one that begins so.
pub const AUTOMATIC: &str = "LAPSTRAKE_";

/// The variables that every job gets, whatever its spec says: what it is, for its logs and its metrics.
pub fn automatic(path: &ServicePath, revision: u32, slot: &SlotId) -> [(&'static str, String); 5] {
    [
        ("LAPSTRAKE_APPLICATION", path.application.clone()),
        ("LAPSTRAKE_ENVIRONMENT", path.environment.clone()),
        ("LAPSTRAKE_SERVICE", path.service.clone()),
        ("LAPSTRAKE_REVISION", format!("r{revision}")),
        ("LAPSTRAKE_SLOT", format!("{}.{}", slot.target, slot.number)),
    ]
}
