//! `redeployable: no`: an operator keeps others from giving a service new jobs, and says why.
//!
//! What would end a job that runs is refused: redeploy, deploy, rollback, pause, and an applied spec that replaces jobs.
//! Another number of jobs is not: no job gets a successor by it. Operators are not held by it, as they could take the mark
//! away as well; what they do in spite of it says so in the deployment's reason.

use crate::access::{Scope, Verb, decide};
use crate::assignment::ServicePath;
use crate::cluster::command::{Answer, Outcome, Refusal, RefusalKind};
use crate::cluster::event::EventKind;
use crate::cluster::state::{NotRedeployable, Service};
use crate::cluster::wishes::reason_of;
use crate::cluster::{Cluster, Context, Touched};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// Marks a service with a reason, or, without one, takes the mark away. Done twice, nothing more happens.
    pub(crate) fn set_redeployable(
        &mut self,
        path: &ServicePath,
        against: Option<&str>,
        cx: &Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let service = self.staying(path)?;
        let before = service.not_redeployable.as_ref().map(|mark| &mark.reason);
        let reason = reason_of(against)?;
        if against.is_some() && reason.is_none() {
            return Err(Refusal::invalid("why it is not redeployable must be said").at("reason"));
        }
        if before == reason.as_ref() {
            return Ok(Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched: Touched::new() });
        }
        let mark = reason.map(|reason| NotRedeployable { by: cx.by(), reason, since: cx.wall });
        let sentence = match &mark {
            Some(mark) => format!("the service is {mark}"),
            None => format!("{} made the service redeployable again", cx.author),
        };
        self.put(Service { not_redeployable: mark, ..service });
        self.tell(cx, EventKind::ServiceWish, path, sentence);
        Ok(Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched: Touched::new() })
    }

    /// Why the author may not end this service's jobs; none if they may.
    pub(crate) fn refuse_new_jobs(
        &self,
        service: &Service,
        path: &ServicePath,
        cx: &Context<'_>,
    ) -> Result<(), Refusal> {
        let grant = self.grant_of(&cx.author, cx.wall)?;
        self.why_not_redeployable(service, path, &grant).map_or(Ok(()), Err)
    }

    /// The same for what a grant allows.
    pub(crate) fn why_not_redeployable(
        &self,
        service: &Service,
        path: &ServicePath,
        grant: &crate::access::Grant,
    ) -> Option<Refusal> {
        let mark = service.not_redeployable.as_ref()?;
        let scope = Scope::Environment(path.application.clone(), path.environment.clone());
        if decide(grant, Verb::Operate, &scope).is_ok() {
            return None;
        }
        Some(
            Refusal::new(RefusalKind::Forbidden, format!("{path} is {mark}"))
                .hint(format!("ask {}, or an operator of {scope}", mark.by)),
        )
    }
}

/// The reason of a deployment that an operator asks for in spite of the mark.
pub(crate) fn in_spite_of_mark(service: &Service, why: String) -> String {
    match &service.not_redeployable {
        Some(mark) => format!("{why}; though it is {mark}"),
        None => why,
    }
}
