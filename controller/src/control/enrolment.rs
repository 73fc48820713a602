//! Joining and renewing: the two calls that end in a certificate.

use super::connection::Peer;
use super::hub::{Applicant, EnrolRefusal, Hub};
use crate::ca::Ca;
use lapstrake::convert::{Enrolled, Enrolment, Malformed, Renewal, Renewed};
use lapstrake::v1;
use lapstrake::v1::enrolment_service_server::EnrolmentService;
use lapstrake_core::cluster::command::RefusalKind;
use lapstrake_pki::request::{RequestRefused, VerifiedRequest};
use lapstrake_pki::token::Secret;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Serves both ways: strangers may only enrol, nodes may renew.
pub(super) struct EnrolmentDesk<H> {
    pub ca: Arc<Ca>,
    pub hub: Arc<H>,
}

#[tonic::async_trait]
impl<H: Hub> EnrolmentService for EnrolmentDesk<H> {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let address = peer(&request)?.address.ip();
        let enrolment = Enrolment::try_from(request.into_inner()).map_err(malformed)?;
        let wanted = VerifiedRequest::read(&enrolment.certificate_request).map_err(unverified)?;
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
        let enrolled = self.hub.enrol(applicant).await.map_err(|refusal| {
            tracing::warn!(%address, %token, %hostname, %refusal, "a machine was refused");
            refused(&refusal)
        })?;
        let certificate = self.ca.certify_node(enrolled.node, &wanted).map_err(cannot_certify)?;
        tracing::info!(%address, %token, node = %enrolled.node, name = %enrolled.name, "a machine has become a node");
        let answer = Enrolled {
            cluster: self.ca.cluster(),
            node: enrolled.node,
            node_name: enrolled.name,
            certificate,
            trust: self.ca.trust_pem().to_owned(),
        };
        Ok(Response::new(answer.into()))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = super::caller(&request, self.ca.cluster(), &*self.hub)?;
        let renewal = Renewal::try_from(request.into_inner()).map_err(malformed)?;
        let wanted = VerifiedRequest::read(&renewal.certificate_request).map_err(unverified)?;
        let certificate = self.ca.certify_node(caller, &wanted).map_err(cannot_certify)?;
        tracing::info!(node = %caller, "a node has a new certificate");
        Ok(Response::new(Renewed { certificate, trust: self.ca.trust_pem().to_owned() }.into()))
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    request.extensions().get::<Peer>().copied().ok_or_else(|| Status::internal("the connection is not known"))
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
        EnrolRefusal::Refused { kind: RefusalKind::Invalid, .. } => Status::invalid_argument(said),
        EnrolRefusal::Unavailable(_) => Status::unavailable(said),
    }
}
