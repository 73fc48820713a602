//! What waits for one agent.
//!
//! State, not a queue: of sets, of what runs elsewhere and of heartbeat answers only the newest waits, in a place that is
//! overwritten. Questions are a short queue that refuses when it is full. Streams to jobs have a place each before they are
//! asked for: nothing about them is refused here, and no end of one is lost. An agent that does not read therefore costs the
//! same as one that does.

use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::cluster::standing::HelloRefused;
use lapstrake_core::ids::{JobId, RequestId, ValueId};
use lapstrake_core::message::{ControllerWord, Elsewhere, LogRange, Way};
use lapstrake_core::root::RootId;
use lapstrake_core::spec::ImageSource;
use lapstrake_core::values::GivenValue;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Questions that may wait for one agent. It works on as many at once; more would only wait there.
const QUESTIONS: usize = 64;

/// Why the controller ended a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionOver {
    /// The agent's side has ended.
    #[error("the agent has gone")]
    Gone,
    /// The node has opened another one.
    #[error("the node has opened another session")]
    Superseded,
    /// The node was removed, revoked or quarantined.
    #[error("{0}")]
    NotAdmitted(HelloRefused),
    /// Its certificate has ended and it has not renewed it.
    #[error("the node's certificate has ended")]
    Expired,
    /// Nothing was heard for too long.
    #[error("nothing was heard of the agent for longer than its lease")]
    Silent,
    /// The agent said what it must not say.
    #[error("{0}")]
    Broke(String),
    /// The controller stops.
    #[error("the controller stops")]
    Stopping,
}

/// The question was not put: the agent does not take the earlier ones, or the session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node does not take questions now")]
pub struct NotAsked;

/// The controller's end of one session. Clones are the same outbox.
#[derive(Clone, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    slots: Mutex<Slots>,
    changed: Notify,
    over: Notify,
}

#[derive(Default)]
struct Slots {
    welcome: Option<ControllerWord>,
    trust: Option<ControllerWord>,
    answer: Option<u64>,
    set: Option<AssignmentSet>,
    elsewhere: Option<Vec<Elsewhere>>,
    questions: VecDeque<ControllerWord>,
    /// Streams that are to be opened: at most as many as there are places to the node.
    opens: VecDeque<(RequestId, JobId, Way)>,
    /// Opened ones that are to be closed. They go before further ones are opened, so there are at most as many as places.
    closes: VecDeque<RequestId>,
    over: Option<SessionOver>,
}

impl Outbox {
    /// What the node should run from now on. Replaces a set that still waits.
    pub fn assign(&self, set: AssignmentSet) {
        self.change(|slots| slots.set = Some(set));
    }

    /// What runs on other nodes. Replaces what still waits.
    pub fn elsewhere(&self, services: Vec<Elsewhere>) {
        self.change(|slots| slots.elsewhere = Some(services));
    }

    /// Asks what an image means now; the answer comes as `Hub::resolved`, or never, when the session ends before.
    pub fn resolve_image(
        &self,
        request: RequestId,
        image: ImageSource,
        login: Option<(ValueId, GivenValue)>,
    ) -> Result<(), NotAsked> {
        self.ask(ControllerWord::ResolveImage { request, image, login })
    }

    /// Ends the session. Only the first reason counts.
    pub fn end(&self, reason: SessionOver) {
        self.change(|slots| {
            slots.over.get_or_insert(reason);
        });
        self.shared.over.notify_waiters();
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<SessionOver> {
        self.slots().over.clone()
    }

    pub(super) fn send_logs(
        &self,
        request: RequestId,
        job: JobId,
        range: LogRange,
        grep: Option<String>,
    ) -> Result<(), NotAsked> {
        self.ask(ControllerWord::SendLogs { request, job, range, grep })
    }

    /// Asks for a stream to a job that has its place. Nothing comes of it when the session is over.
    pub(super) fn open_tunnel(&self, request: RequestId, job: JobId, way: Way) {
        self.change(|slots| slots.opens.push_back((request, job, way)));
    }

    /// Says that nobody wants a stream any more. One that the agent has not been asked for yet is not asked for.
    pub(super) fn close_tunnel(&self, request: RequestId) {
        self.change(|slots| {
            let asked = slots.opens.len();
            slots.opens.retain(|(open, ..)| *open != request);
            if slots.opens.len() == asked {
                slots.closes.push_back(request);
            }
        });
    }

    pub(super) fn welcome(&self, welcome: ControllerWord) {
        self.change(|slots| slots.welcome = Some(welcome));
    }

    /// Whom the node shall trust, and from which root its certificate should be. Replaces what still waits.
    pub(super) fn trust(&self, trust: String, issuer: RootId) {
        self.change(|slots| slots.trust = Some(ControllerWord::Trust { trust, issuer }));
    }

    pub(super) fn answer_heartbeat(&self, number: u64) {
        self.change(|slots| slots.answer = Some(number));
    }

    /// The next word for the agent, or why there are no more. Waits until there is one.
    pub(super) async fn next(&self) -> Result<ControllerWord, SessionOver> {
        loop {
            // Made before looking, so that a change between looking and waiting is not missed.
            let changed = self.shared.changed.notified();
            if let Some(word) = self.slots().take() {
                return word;
            }
            changed.await;
        }
    }

    /// Waits until the session is over.
    pub(super) async fn ended(&self) -> SessionOver {
        loop {
            let over = self.shared.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if let Some(reason) = self.over() {
                return reason;
            }
            over.await;
        }
    }

    fn ask(&self, question: ControllerWord) -> Result<(), NotAsked> {
        let mut slots = self.slots();
        if slots.over.is_some() || slots.questions.len() >= QUESTIONS {
            return Err(NotAsked);
        }
        slots.questions.push_back(question);
        drop(slots);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Slots)) {
        change(&mut self.slots());
        self.shared.changed.notify_one();
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// The end first, because what it cuts off is not true any more; then the shortest and most urgent.
    fn take(&mut self) -> Option<Result<ControllerWord, SessionOver>> {
        if let Some(reason) = &self.over {
            return Some(Err(reason.clone()));
        }
        let word = self.welcome.take();
        let word = word.or_else(|| self.answer.take().map(|number| ControllerWord::HeartbeatAnswer { number }));
        let word = word.or_else(|| self.trust.take());
        let word = word.or_else(|| self.set.take().map(ControllerWord::Assignments));
        let word = word.or_else(|| self.elsewhere.take().map(ControllerWord::Elsewhere));
        let close = |request| ControllerWord::CloseTunnel { request };
        let word = word.or_else(|| self.closes.pop_front().map(close));
        let word = word.or_else(|| self.questions.pop_front());
        let open = |(request, job, way)| ControllerWord::OpenTunnel { request, job, way };
        word.or_else(|| self.opens.pop_front().map(open)).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::assignment::Generation;
    use lapstrake_core::ids::EpochId;
    use lapstrake_core::spec::Pull;

    fn set(number: u64) -> AssignmentSet {
        AssignmentSet {
            generation: Generation { epoch: EpochId(1), number },
            stop_absent: true,
            assignments: Vec::new(),
            values: Default::default(),
            kept_images: None,
        }
    }

    fn image() -> ImageSource {
        ImageSource { reference: "shop/web:1".into(), pull: Pull::Registry }
    }

    #[tokio::test]
    async fn of_many_sets_a_slow_agent_gets_the_newest() {
        let outbox = Outbox::default();
        for number in 1..=1000 {
            outbox.assign(set(number));
            outbox.answer_heartbeat(number);
        }
        assert_eq!(outbox.next().await, Ok(ControllerWord::HeartbeatAnswer { number: 1000 }));
        assert_eq!(outbox.next().await, Ok(ControllerWord::Assignments(set(1000))));
        assert!(outbox.slots().take().is_none());
    }

    #[tokio::test]
    async fn questions_are_refused_when_too_many_wait() {
        let outbox = Outbox::default();
        let put = (0..1000).filter(|n| outbox.resolve_image(RequestId(*n), image(), None).is_ok()).count();
        assert_eq!(put, QUESTIONS);
        outbox.next().await.expect("a question");
        assert_eq!(outbox.resolve_image(RequestId(1), image(), None), Ok(()));
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_never_lost_however_many_questions_wait() {
        let outbox = Outbox::default();
        let way = Way::Forward { port: 80 };
        outbox.open_tunnel(RequestId(1), JobId(1), way.clone());
        assert!(matches!(outbox.next().await, Ok(ControllerWord::OpenTunnel { request: RequestId(1), .. })));
        (0..1000).for_each(|n| {
            let _ = outbox.resolve_image(RequestId(n), image(), None);
        });
        outbox.open_tunnel(RequestId(2), JobId(1), way);
        outbox.close_tunnel(RequestId(2));
        outbox.close_tunnel(RequestId(1));
        assert_eq!(outbox.next().await, Ok(ControllerWord::CloseTunnel { request: RequestId(1) }));
        let mut rest = Vec::new();
        while let Some(word) = outbox.slots().take() {
            rest.push(word);
        }
        assert!(rest.len() == QUESTIONS, "one that was never asked for is neither opened nor closed: {rest:?}");
    }

    #[tokio::test]
    async fn a_session_that_is_over_says_nothing_more_and_keeps_its_first_reason() {
        let outbox = Outbox::default();
        outbox.assign(set(1));
        outbox.end(SessionOver::Superseded);
        outbox.end(SessionOver::Stopping);
        assert_eq!(outbox.next().await, Err(SessionOver::Superseded));
        assert_eq!(outbox.ended().await, SessionOver::Superseded);
        assert_eq!(outbox.resolve_image(RequestId(1), image(), None), Err(NotAsked));
    }

    #[tokio::test]
    async fn who_waits_for_a_word_is_woken_by_it() {
        let outbox = Outbox::default();
        let waiting = tokio::spawn({
            let outbox = outbox.clone();
            async move { outbox.next().await }
        });
        tokio::task::yield_now().await;
        outbox.assign(set(7));
        assert_eq!(waiting.await.expect("no panic"), Ok(ControllerWord::Assignments(set(7))));
    }
}
