//! What agents say, taken in: readings go to `Live`, what is to be stored goes to the records.

use crate::cluster::command::Refusal;
use crate::cluster::live::Live;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{NodeId, RequestId, SessionId};
use crate::message::{Hello, ResolvedImage};
use crate::report::{NodeReport, Use};
use crate::time::Tick;
use alloc::string::String;

impl Cluster {
    /// An agent begins a session, which ends the node's earlier one. After the commit the rim answers with `Welcome`, then
    /// with the assignment set. Refused: another cluster's agent, an unknown node.
    pub fn hello(
        &mut self,
        live: &mut Live,
        session: SessionId,
        hello: Hello,
        cx: &mut Context<'_>,
    ) -> Result<Touched, Refusal> {
        let _ = (live, session, hello, cx);
        Ok(Touched::new())
    }

    /// An agent's newest picture of its node. One from a session that has ended is dropped.
    pub fn report(
        &mut self,
        live: &mut Live,
        node: NodeId,
        session: SessionId,
        report: NodeReport,
        cx: &mut Context<'_>,
    ) -> Touched {
        let _ = (live, node, session, report, cx);
        Touched::new()
    }

    /// A node's stream has ended. Nothing is lost yet: it may come back within its lease.
    pub fn session_ended(
        &mut self,
        live: &mut Live,
        node: NodeId,
        session: SessionId,
        cx: &mut Context<'_>,
    ) -> Touched {
        let _ = (live, node, session, cx);
        Touched::new()
    }

    /// The answer to a question about an image. One that nobody waits for any more is dropped.
    pub fn image_resolved(
        &mut self,
        live: &mut Live,
        node: NodeId,
        request: RequestId,
        outcome: Result<ResolvedImage, String>,
    ) -> Touched {
        let _ = (live, node, request, outcome);
        Touched::new()
    }

    /// Silence may mean something now: tells which nodes are believed otherwise than before. To be called at `Live::wake`.
    pub fn pass_time(&mut self, live: &mut Live, cx: &mut Context<'_>) -> Touched {
        let _ = (live, cx);
        Touched::new()
    }
}

impl Live {
    /// A sign of life. False if this is not the node's session any more: the rim then ends the stream without an answer.
    pub fn heartbeat(&mut self, node: NodeId, session: SessionId, used: Use, now: Tick) -> bool {
        let _ = (node, session, used, now);
        true
    }

    /// When `pass_time` is due if nothing is heard.
    pub fn wake(&self, now: Tick) -> Option<Tick> {
        let _ = now;
        None
    }
}
