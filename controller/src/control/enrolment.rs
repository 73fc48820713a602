//! Joining, renewing and returning: the calls that end in a certificate.

use super::connection::Peer;
use super::hub::{Applicant, EnrolRefusal, Hub};
use super::pace::Pace;
use super::sessions::Sessions;
use crate::ca::Ca;
use lapstrake::convert::{Enrolled, Enrolment, Malformed, Renewal, Renewed, ReturnAnswer, ReturnWish};
use lapstrake::v1;
use lapstrake::v1::enrolment_service_server::EnrolmentService;
use lapstrake_core::cluster::command::RefusalKind;
use lapstrake_core::cluster::standing::AskReturn;
use lapstrake_core::ids::NodeId;
use lapstrake_pki::mint;
use lapstrake_pki::request::{RequestRefused, VerifiedRequest};
use lapstrake_pki::returning::{NotProved, Proved};
use lapstrake_pki::token::Secret;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Serves both ways: strangers may only enrol and ask to return, nodes may renew.
pub(super) struct EnrolmentDesk<H> {
    pub ca: Arc<Ca>,
    pub hub: Arc<H>,
    pub sessions: Arc<Sessions>,
    pub pace: Arc<Pace>,
}

#[tonic::async_trait]
impl<H: Hub> EnrolmentService for EnrolmentDesk<H> {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let Peer { address, suspect, .. } = peer(&request)?;
        let address = address.ip();
        let (enrolment, wanted) = match readable(request.into_inner()) {
            Ok(read) => read,
            Err(refusal) => {
                self.hub.turned_away(address, refusal.message().to_owned()).await;
                return Err(refusal);
            }
        };
        let applicant = Applicant {
            token: enrolment.token,
            secret: Secret::new(enrolment.secret).hash(),
            key: wanted.key_fingerprint(),
            name: enrolment.node_name,
            hostname: enrolment.hostname,
            version: enrolment.version,
            architecture: enrolment.architecture,
            address,
        };
        let (token, hostname) = (applicant.token, applicant.hostname.clone());
        let is_fresh = !self.pace.was_refused(token) && self.hub.has_token(token).await;
        let _turn = if is_fresh {
            None
        } else {
            suspect.mark();
            Some(self.pace.turn(address).await)
        };
        let enrolled = self.hub.enrol(applicant).await.map_err(|refusal| {
            if refusal.is_of_the_token() {
                self.pace.refused(token);
            }
            tracing::warn!(%address, %token, %hostname, %refusal, "a machine was refused");
            refused(&refusal)
        })?;
        let certificate = self.ca.certify_node(enrolled.node, &wanted).map_err(cannot_certify)?;
        self.certified(enrolled.node);
        tracing::info!(%address, %token, node = %enrolled.node, name = %enrolled.name, "a machine has become a node");
        let answer = Enrolled {
            cluster: self.ca.cluster(),
            node: enrolled.node,
            node_name: enrolled.name,
            certificate,
            trust: self.ca.trust_pem(),
        };
        Ok(Response::new(answer.into()))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = super::caller(&request, self.ca.cluster(), &*self.hub, super::not_renewed)?;
        let renewal = Renewal::try_from(request.into_inner()).map_err(malformed)?;
        let wanted = VerifiedRequest::read(&renewal.certificate_request).map_err(unverified)?;
        let certificate = self.ca.certify_node(caller, &wanted).map_err(cannot_certify)?;
        self.certified(caller);
        tracing::info!(node = %caller, "a node has a new certificate");
        Ok(Response::new(Renewed { certificate, trust: self.ca.trust_pem() }.into()))
    }

    async fn ask_return(
        &self,
        request: Request<v1::AskReturnRequest>,
    ) -> Result<Response<v1::AskReturnResponse>, Status> {
        let Peer { address, binding, suspect, .. } = peer(&request)?;
        let binding = binding.ok_or_else(|| Status::internal("the connection gives no exporter"))?;
        let wish = ReturnWish::try_from(request.into_inner()).map_err(malformed)?;
        let proved = Proved::read(&wish.certificate, &wish.proof, &binding, &self.ca.trusted(), mint::wall());
        let proved = proved.map_err(|why| {
            suspect.mark();
            tracing::warn!(%address, %why, "a machine did not prove that it is a node whose certificate has ended");
            Status::unauthenticated(why.to_string())
        })?;
        let node = proved.identity.node;
        if proved.identity.cluster != self.ca.cluster() {
            return Err(Status::unauthenticated(NotProved::Foreign.to_string()));
        }
        if let Some(refused) = self.hub.refuses(node) {
            return Err(super::status_of(refused));
        }
        let wish = AskReturn {
            node,
            key: proved.key_fingerprint().to_string(),
            ended: proved.ended,
            address: address.ip().to_string(),
        };
        let admitted = self.hub.ask_return(wish, address.ip()).await.map_err(|refusal| {
            tracing::warn!(%address, %node, %refusal, "a node's return was refused");
            refused(&refusal)
        })?;
        if !admitted {
            let waits = "an operator has to let this node return: `lap node readmit`".to_owned();
            return Ok(Response::new(ReturnAnswer::Waits(waits).into()));
        }
        let certificate = self.ca.certify_again(&proved).map_err(cannot_certify)?;
        self.certified(node);
        tracing::info!(%address, %node, "a node has returned");
        Ok(Response::new(ReturnAnswer::Readmitted(Renewed { certificate, trust: self.ca.trust_pem() }).into()))
    }
}

impl<H> EnrolmentDesk<H> {
    fn certified(&self, node: NodeId) {
        self.sessions.certify(node, mint::wall() + self.ca.node_life());
    }
}

/// What a machine sent, if it makes sense.
fn readable(request: v1::EnrolRequest) -> Result<(Enrolment, VerifiedRequest), Status> {
    let enrolment = Enrolment::try_from(request).map_err(malformed)?;
    let wanted = VerifiedRequest::read(&enrolment.certificate_request).map_err(unverified)?;
    Ok((enrolment, wanted))
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| Status::internal("the connection is not known"))
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn unverified(error: RequestRefused) -> Status {
    Status::invalid_argument(error.to_string())
}

fn cannot_certify(error: crate::ca::CaError) -> Status {
    tracing::error!(error = &error as &dyn std::error::Error, "a certificate could not be made");
    Status::internal("the controller could not make a certificate; its log says why")
}

fn refused(refusal: &EnrolRefusal) -> Status {
    let said = refusal.to_string();
    match refusal {
        // The token is the applicant's proof of who it is, and is what is refused or not found.
        EnrolRefusal::Refused {
            kind: RefusalKind::Refused | RefusalKind::NotFound | RefusalKind::Forbidden | RefusalKind::Unauthenticated,
            ..
        } => Status::unauthenticated(said),
        EnrolRefusal::Refused { kind: RefusalKind::Conflict, .. } => Status::already_exists(said),
        EnrolRefusal::Refused {
            kind: RefusalKind::Invalid | RefusalKind::Changed | RefusalKind::KeyReused, ..
        } => Status::invalid_argument(said),
        EnrolRefusal::Unavailable(_) => Status::unavailable(said),
    }
}
