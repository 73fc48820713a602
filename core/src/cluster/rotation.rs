//! How the root of the certificate authority is replaced while everything runs.
//!
//! ```text
//! (one root) ─ begin ─▶ announcing ─ every node trusts both ─▶ reissuing ─ an operator, when every node has its new leaf ─▶ (one root)
//! ```
//!
//! * `announcing`: everybody is told to trust both roots. Certificates are still signed by the old one.
//! * `reissuing`: certificates are signed by the new root, and nodes renew theirs. The controller shows a chain that leads to
//!   either root, so that tokens and people who only know the old one still recognise it.
//!
//! The first step happens by itself. The second is an operator's: after it, whoever only knows the old root is locked out.
//! What a node trusts is a reading, which it says again in each session; a restarted controller waits for it anew.

use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::{Event, EventKind};
use crate::cluster::live::Live;
use crate::cluster::state::{Authority, Node, Root, Rotation, RotationStage, Standing};
use crate::cluster::{Cluster, Context, One, Touched};
use crate::message::Credentials;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What changes the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityCommand {
    /// Records the root of the first start. Nothing happens when one is recorded.
    Adopt(Root),
    /// Begins to replace the root by this one, whose key the rim has written to its disk.
    Begin(Root),
    /// Goes to the next stage.
    Advance {
        /// Though some nodes are not ready for it: they have to join anew.
        force: bool,
    },
}

/// A node that the present stage waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationWait {
    /// Its name.
    pub node: String,
    /// Why, as a sentence without its name.
    pub why: &'static str,
}

impl RotationStage {
    /// Whether a node that says this of itself is ready for the next stage.
    fn is_satisfied(self, by: &Credentials, next: &Root) -> bool {
        match self {
            RotationStage::Announcing => by.roots.contains(&next.id),
            RotationStage::Reissuing => by.roots.contains(&next.id) && by.issuer == Some(next.id),
        }
    }
}

impl Authority {
    /// The roots that nodes and operators shall trust, the older one first.
    pub fn trusted(&self) -> Vec<&Root> {
        core::iter::once(&self.root).chain(self.rotation.as_ref().map(|rotation| &rotation.next)).collect()
    }

    /// The root that signs certificates now, and that new tokens name.
    pub fn signing(&self) -> &Root {
        match &self.rotation {
            Some(Rotation { stage: RotationStage::Reissuing, next, .. }) => next,
            Some(_) | None => &self.root,
        }
    }
}

impl Cluster {
    pub(crate) fn change_authority(
        &mut self,
        live: &Live,
        command: AuthorityCommand,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let answer = match command {
            AuthorityCommand::Adopt(root) => self.adopt_root(root),
            AuthorityCommand::Begin(next) => self.begin_rotation(next, cx)?,
            AuthorityCommand::Advance { force } => self.advance_by_hand(live, force, cx)?,
        };
        Ok(Outcome { answer, warnings: Vec::new(), touched: Touched::new() })
    }

    fn adopt_root(&mut self, root: Root) -> Answer {
        if self.get::<Authority>(&One).is_some() {
            return Answer::Unchanged;
        }
        self.put(Authority { root, rotation: None });
        Answer::Recorded
    }

    fn begin_rotation(&mut self, next: Root, cx: &Context<'_>) -> Result<Answer, Refusal> {
        let authority = self.authority()?;
        if let Some(rotation) = &authority.rotation {
            let sentence = format!(
                "the root is being replaced already, since {} began it: {}",
                rotation.by,
                rotation.stage.word()
            );
            return Err(Refusal::conflict(sentence).hint("`lap ca show` says what that waits for"));
        }
        let rotation = Rotation {
            next,
            stage: RotationStage::Announcing,
            begun: cx.wall,
            since: cx.wall,
            by: cx.author.name().to_string(),
        };
        let sentence = format!("{} began to replace the root {} by {}", cx.author, authority.root.id, rotation.next.id);
        self.tell(cx, EventKind::Authority, PATH, sentence);
        self.put(Authority { rotation: Some(rotation), ..authority });
        Ok(Answer::Recorded)
    }

    fn advance_by_hand(&mut self, live: &Live, force: bool, cx: &Context<'_>) -> Result<Answer, Refusal> {
        let Authority { rotation: Some(rotation), root } = self.authority()? else {
            return Err(Refusal::conflict("the root is not being replaced").hint("`lap ca rotate` begins it"));
        };
        let waits = self.rotation_waits(live);
        if !waits.is_empty() && !force {
            let names: Vec<_> = waits.iter().map(|wait| format!("{} {}", wait.node, wait.why)).collect();
            return Err(Refusal::refused(format!("not every node is ready: {}", names.join(", ")))
                .hint("wait, or --force: these nodes then have to join anew"));
        }
        let left: Vec<_> = waits.into_iter().map(|wait| wait.node).collect();
        let left = if left.is_empty() { String::new() } else { format!("; left behind: {}", left.join(", ")) };
        match rotation.stage {
            RotationStage::Announcing => {
                let sentence = format!("{} had certificates signed by the root {}{left}", cx.author, rotation.next.id);
                self.tell(cx, EventKind::Authority, PATH, sentence);
                let rotation = Rotation { stage: RotationStage::Reissuing, since: cx.wall, ..rotation };
                self.put(Authority { root, rotation: Some(rotation) });
            }
            RotationStage::Reissuing => {
                let sentence =
                    format!("{} dropped the root {}; {} is the only one{left}", cx.author, root.id, rotation.next.id);
                self.tell(cx, EventKind::Authority, PATH, sentence);
                self.put(Authority { root: rotation.next, rotation: None });
            }
        }
        Ok(Answer::Recorded)
    }

    /// The step that nobody has to ask for: from `announcing` to `reissuing`.
    pub(crate) fn advance_rotation(&mut self, live: &Live, cx: &Context<'_>) {
        let Some(Authority { rotation: Some(rotation), root }) = self.get::<Authority>(&One).cloned() else { return };
        if rotation.stage != RotationStage::Announcing || !self.rotation_waits(live).is_empty() {
            return;
        }
        let sentence = format!("every node trusts the root {}; certificates are signed by it now", rotation.next.id);
        let kind = EventKind::Authority;
        self.note(Event { kind, path: PATH.into(), sentence, wall: cx.wall, by: None });
        let rotation = Rotation { stage: RotationStage::Reissuing, since: cx.wall, ..rotation };
        self.put(Authority { root, rotation: Some(rotation) });
    }

    /// Whom the present stage waits for, by name. A node without good standing is waited for by nobody.
    pub fn rotation_waits(&self, live: &Live) -> Vec<RotationWait> {
        let Some(Authority { rotation: Some(rotation), .. }) = self.get::<Authority>(&One) else { return Vec::new() };
        let why = |node: &Node| {
            let known = live.nodes.get(&node.id);
            match known.and_then(|known| known.credentials.as_ref()) {
                Some(credentials) if rotation.stage.is_satisfied(credentials, &rotation.next) => None,
                _ if node.boot.is_none() => Some("has joined and was never heard"),
                _ if known.is_none_or(|known| known.session.is_none()) => Some("has no session"),
                Some(_) => Some(match rotation.stage {
                    RotationStage::Announcing => "has not said yet that it trusts the new root",
                    RotationStage::Reissuing => "has no certificate of the new root yet",
                }),
                None => Some("does not say what it trusts; its agent may be older than this"),
            }
        };
        let nodes = self.all::<Node>().filter(|node| node.standing == Standing::Good);
        let mut waits: Vec<_> =
            nodes.filter_map(|node| Some(RotationWait { node: node.name.clone(), why: why(node)? })).collect();
        waits.sort_by(|a, b| a.node.cmp(&b.node));
        waits
    }

    fn authority(&self) -> Result<Authority, Refusal> {
        self.get::<Authority>(&One).cloned().ok_or_else(|| Refusal::conflict("this controller has no authority yet"))
    }
}

impl Live {
    /// What a node says of its own certificate and of whom it trusts.
    pub fn take_credentials(
        &mut self,
        node: crate::ids::NodeId,
        session: crate::ids::SessionId,
        credentials: Credentials,
    ) {
        if self.session(node) == Some(session) {
            self.node_mut(node).credentials = Some(credentials);
        }
    }
}

/// What events about the authority are about.
const PATH: &str = "authority";
