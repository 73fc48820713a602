//! `lap doctor`: looks at the operator's side and at the cluster, and says what is wrong and what helps.
//!
//! It asks what every operator may ask and changes nothing. What a token does not show is left out with a word.

use super::Session;
use crate::client::{Answer, ClientError};
use crate::error::LapError;
use crate::show::amount::now_ms;
use crate::show::finding::{self, Finding, Verdict};
use jiff::fmt::rfc2822::DateTimeParser;
use lapstrake_api::view;
use serde::de::DeserializeOwned;

/// `lap doctor`. Fails if one of the findings does.
pub async fn doctor(session: &mut Session) -> Result<(), LapError> {
    let mut findings = Vec::new();
    match session.client.get("/v1/whoami").await {
        Ok(answer) => {
            let identity: view::Identity = answer.read()?;
            findings.push(Finding::ok("controller", "it answers and takes the token".into()));
            findings.push(finding::identity(&identity, now_ms()));
            let controller_ms =
                answer.date.as_deref().and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
            findings.extend(controller_ms.map(|at| finding::clock(now_ms(), at.as_millisecond())));
            look_around(session, &mut findings).await?;
        }
        Err(error) => findings.push(finding::unanswered(&error)),
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    if session.output.is_json() {
        session.output.json_text(&serde_json::to_string(&findings).map_err(ClientError::NotUnderstood)?)?;
    } else {
        session.output.text(&finding::draw(&findings, session.output.stdout))?;
    }
    if failed > 0 { Err(LapError::Failed(format!("{failed} of {} checks failed", findings.len()))) } else { Ok(()) }
}

/// What the cluster says of itself.
async fn look_around(session: &mut Session, findings: &mut Vec<Finding>) -> Result<(), LapError> {
    let version = read::<view::Version>(session, "version", "/v1/version", findings).await?;
    findings.extend(version.as_ref().map(|version| finding::version(&version.version)));
    let controller = version.map(|version| version.version);
    match session.client.get("/v1/controller").await {
        // A controller of the version before does not say it.
        Err(error) if error.is_not_found() => {}
        answer => {
            let itself = taken::<view::Controller>("store", answer, findings)?;
            findings.extend(itself.as_ref().map(finding::store));
        }
    }
    if let Some(authority) = read::<view::Authority>(session, "certificates", "/v1/authority", findings).await? {
        findings.extend(finding::authority(&authority, now_ms()));
    }
    if let Some(nodes) = list::<view::Node>(session, "nodes", "/v1/nodes", findings).await? {
        findings.extend(finding::nodes(&nodes, controller.as_deref().unwrap_or_default()));
    }
    if let Some(services) = list::<view::Service>(session, "services", "/v1/services", findings).await? {
        findings.extend(finding::services(&services));
    }
    Ok(())
}

async fn read<T: DeserializeOwned>(
    session: &mut Session,
    check: &'static str,
    path: &str,
    findings: &mut Vec<Finding>,
) -> Result<Option<T>, LapError> {
    taken(check, session.client.get(path).await, findings)
}

async fn list<T: DeserializeOwned>(
    session: &mut Session,
    check: &'static str,
    path: &str,
    findings: &mut Vec<Finding>,
) -> Result<Option<Vec<T>>, LapError> {
    taken(check, session.client.list(path).await, findings)
}

/// What an answer says; without one, that is a finding.
fn taken<T: DeserializeOwned>(
    check: &'static str,
    answer: Result<Answer, ClientError>,
    findings: &mut Vec<Finding>,
) -> Result<Option<T>, LapError> {
    match answer {
        Ok(answer) => Ok(Some(answer.read()?)),
        Err(error) => {
            findings.push(finding::unread(check, &error));
            Ok(None)
        }
    }
}
