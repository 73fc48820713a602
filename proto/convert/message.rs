//! What is said on a session.

use super::field::{self, Inside as _, Malformed, Why, id_bytes, list, required, sentence};
use crate::{limits, v1};
use lapstrake_core::ids::{BootId, ClusterId, EpochId, JobId, NodeId, RequestId, ServiceId, SessionId};
use lapstrake_core::message::{AgentWord, ControllerWord, Credentials, Elsewhere, Hello, LogRange, ResolvedImage};
use lapstrake_core::time::{Millis, Wall};

impl From<AgentWord> for v1::OpenSessionRequest {
    fn from(core: AgentWord) -> Self {
        use v1::open_session_request::Word;
        let word = match core {
            AgentWord::Hello(hello) => Word::Hello(hello.into()),
            AgentWord::Heartbeat { number, used } => Word::Heartbeat(v1::Heartbeat { number, used: Some(used.into()) }),
            AgentWord::Report(report) => Word::Report(report.into()),
            AgentWord::Credentials(credentials) => Word::Credentials(credentials.into()),
            AgentWord::ImageResolved { request, outcome } => Word::ImageResolved(v1::ImageResolved {
                request_id: id_bytes(request.0),
                outcome: Some(outcome.into()),
            }),
        };
        v1::OpenSessionRequest { word: Some(word) }
    }
}

impl TryFrom<v1::OpenSessionRequest> for AgentWord {
    type Error = Malformed;
    fn try_from(wire: v1::OpenSessionRequest) -> Result<Self, Malformed> {
        use v1::open_session_request::Word;
        Ok(match wire.word.ok_or_else(|| Malformed::new("word", Why::Missing))? {
            Word::Hello(hello) => AgentWord::Hello(Hello::try_from(hello).inside("hello")?),
            Word::Heartbeat(beat) => {
                AgentWord::Heartbeat { number: beat.number, used: required("heartbeat.used", beat.used)? }
            }
            Word::Report(report) => AgentWord::Report(report.try_into().inside("report")?),
            Word::Credentials(said) => AgentWord::Credentials(said.try_into().inside("credentials")?),
            Word::ImageResolved(answer) => AgentWord::ImageResolved {
                request: RequestId(field::id("image_resolved.request_id", &answer.request_id)?),
                outcome: outcome(answer.outcome).inside("image_resolved")?,
            },
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(core: Hello) -> Self {
        v1::Hello {
            cluster_id: id_bytes(core.cluster.0),
            node_id: id_bytes(core.node.0),
            boot_id: id_bytes(core.boot.0),
            agent_version: core.version,
            architecture: core.architecture,
            wall_ms: core.wall.0,
            report: Some(core.report.into()),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Malformed;
    fn try_from(wire: v1::Hello) -> Result<Self, Malformed> {
        Ok(Hello {
            cluster: ClusterId(field::id("cluster_id", &wire.cluster_id)?),
            node: NodeId(field::id("node_id", &wire.node_id)?),
            boot: BootId(field::id("boot_id", &wire.boot_id)?),
            version: field::word("agent_version", wire.agent_version)?,
            architecture: field::word("architecture", wire.architecture)?,
            wall: Wall(wire.wall_ms),
            report: required("report", wire.report)?,
        })
    }
}

impl From<Credentials> for v1::Credentials {
    fn from(core: Credentials) -> Self {
        v1::Credentials {
            roots_sha256: core.roots.iter().map(|root| root.0.to_vec()).collect(),
            issuer_sha256: core.issuer.map(|root| root.0.to_vec()),
        }
    }
}

impl TryFrom<v1::Credentials> for Credentials {
    type Error = Malformed;
    fn try_from(wire: v1::Credentials) -> Result<Self, Malformed> {
        field::length("roots_sha256", wire.roots_sha256.len(), limits::ROOTS)?;
        Ok(Credentials {
            roots: wire.roots_sha256.iter().map(|root| field::root("roots_sha256", root)).collect::<Result<_, _>>()?,
            issuer: wire.issuer_sha256.map(|root| field::root("issuer_sha256", &root)).transpose()?,
        })
    }
}

impl From<Result<ResolvedImage, String>> for v1::image_resolved::Outcome {
    fn from(core: Result<ResolvedImage, String>) -> Self {
        match core {
            Ok(ResolvedImage { pinned }) => Self::Resolved(v1::ResolvedImage { pinned }),
            Err(refused) => Self::Refused(sentence(refused)),
        }
    }
}

fn outcome(wire: Option<v1::image_resolved::Outcome>) -> Result<Result<ResolvedImage, String>, Malformed> {
    use v1::image_resolved::Outcome;
    match wire.ok_or_else(|| Malformed::new("outcome", Why::Missing))? {
        Outcome::Resolved(image) => {
            Ok(Ok(ResolvedImage { pinned: field::reference("resolved.pinned", image.pinned)? }))
        }
        Outcome::Refused(why) => Ok(Err(sentence(why))),
    }
}

impl From<ControllerWord> for v1::OpenSessionResponse {
    fn from(core: ControllerWord) -> Self {
        use v1::open_session_response::Word;
        let word = match core {
            ControllerWord::Welcome { session, epoch, lease, heartbeat, trust } => Word::Welcome(v1::Welcome {
                session_id: id_bytes(session.0),
                epoch_id: id_bytes(epoch.0),
                lease_ms: lease.0,
                heartbeat_ms: heartbeat.0,
                trust_pem: trust,
            }),
            ControllerWord::Trust { trust, issuer } => {
                Word::Trust(v1::Trust { trust_pem: trust, issuer_sha256: issuer.0.to_vec() })
            }
            ControllerWord::HeartbeatAnswer { number } => Word::HeartbeatAnswer(v1::HeartbeatAnswer { number }),
            ControllerWord::Assignments(set) => Word::Assignments(set.into()),
            ControllerWord::Elsewhere(services) => {
                Word::Elsewhere(v1::ElsewhereList { services: services.into_iter().map(Into::into).collect() })
            }
            ControllerWord::ResolveImage { request, image, login } => Word::ResolveImage(v1::ResolveImage {
                request_id: id_bytes(request.0),
                image: Some(image.into()),
                login: login.map(Into::into),
            }),
            ControllerWord::SendLogs { request, job, range, grep } => Word::SendLogs(v1::SendLogs {
                request_id: id_bytes(request.0),
                job_id: id_bytes(job.0),
                tail: range.tail,
                follow: range.follow,
                since_ms: range.since.map(|since| since.0),
                grep,
            }),
            ControllerWord::CloseTunnel { request } => {
                Word::CloseTunnel(v1::CloseTunnel { request_id: id_bytes(request.0) })
            }
            ControllerWord::OpenTunnel { request, job, way } => {
                Word::OpenTunnel(super::tunnel::wish(request, job, way))
            }
        };
        v1::OpenSessionResponse { word: Some(word) }
    }
}

impl TryFrom<v1::OpenSessionResponse> for ControllerWord {
    type Error = Malformed;
    fn try_from(wire: v1::OpenSessionResponse) -> Result<Self, Malformed> {
        use v1::open_session_response::Word;
        Ok(match wire.word.ok_or_else(|| Malformed::new("word", Why::Missing))? {
            Word::Welcome(welcome) => welcomed(welcome).inside("welcome")?,
            Word::HeartbeatAnswer(answer) => ControllerWord::HeartbeatAnswer { number: answer.number },
            Word::Assignments(set) => ControllerWord::Assignments(set.try_into().inside("assignments")?),
            Word::Trust(said) => ControllerWord::Trust {
                trust: field::pem("trust.trust_pem", said.trust_pem)?,
                issuer: field::root("trust.issuer_sha256", &said.issuer_sha256)?,
            },
            Word::Elsewhere(all) => {
                ControllerWord::Elsewhere(list("services", all.services, limits::ELSEWHERE).inside("elsewhere")?)
            }
            Word::ResolveImage(question) => ControllerWord::ResolveImage {
                request: RequestId(field::id("resolve_image.request_id", &question.request_id)?),
                image: required("resolve_image.image", question.image)?,
                login: field::optional("resolve_image.login", question.login)?,
            },
            Word::SendLogs(wish) => ControllerWord::SendLogs {
                request: RequestId(field::id("send_logs.request_id", &wish.request_id)?),
                job: JobId(field::id("send_logs.job_id", &wish.job_id)?),
                range: LogRange { tail: wish.tail, since: wish.since_ms.map(Wall), follow: wish.follow },
                grep: wish.grep.map(|grep| field::pattern("send_logs.grep", grep)).transpose()?,
            },
            Word::CloseTunnel(close) => ControllerWord::CloseTunnel {
                request: RequestId(field::id("close_tunnel.request_id", &close.request_id)?),
            },
            Word::OpenTunnel(wish) => super::tunnel::wished(wish).inside("open_tunnel")?,
        })
    }
}

fn welcomed(wire: v1::Welcome) -> Result<ControllerWord, Malformed> {
    // A period of 0 would make the agent send heartbeats without end.
    if wire.heartbeat_ms == 0 {
        return Err(Malformed::new("heartbeat_ms", Why::OutOfBounds { is: 0, least: 1, most: u64::MAX }));
    }
    Ok(ControllerWord::Welcome {
        session: SessionId(field::id("session_id", &wire.session_id)?),
        epoch: EpochId(field::id("epoch_id", &wire.epoch_id)?),
        lease: Millis(wire.lease_ms),
        heartbeat: Millis(wire.heartbeat_ms),
        trust: field::pem("trust_pem", wire.trust_pem)?,
    })
}

impl From<Elsewhere> for v1::Elsewhere {
    fn from(core: Elsewhere) -> Self {
        let route = |(host, path_prefix)| v1::ElsewhereRoute { host, path_prefix };
        v1::Elsewhere {
            service_id: id_bytes(core.service.0),
            path: Some(core.path.into()),
            routes: core.routes.into_iter().map(route).collect(),
            node_names: core.nodes,
            paused: core.paused,
        }
    }
}

impl TryFrom<v1::Elsewhere> for Elsewhere {
    type Error = Malformed;
    fn try_from(wire: v1::Elsewhere) -> Result<Self, Malformed> {
        field::length("routes", wire.routes.len(), limits::PORTS)?;
        let route = |wire: v1::ElsewhereRoute| {
            Ok((field::host("routes.host", wire.host)?, field::url_path("routes.path_prefix", wire.path_prefix)?))
        };
        Ok(Elsewhere {
            service: ServiceId(field::id("service_id", &wire.service_id)?),
            path: required("path", wire.path)?,
            routes: wire.routes.into_iter().map(route).collect::<Result<_, Malformed>>()?,
            nodes: field::texts("node_names", wire.node_names, limits::ELSEWHERE, field::host)?,
            paused: wire.paused,
        })
    }
}
