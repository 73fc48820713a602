//! What is done to a deployment under way: it is cancelled, held, released.

use super::Session;
use crate::args::{Release, Steered};
use crate::client::Answer;
use crate::error::LapError;
use crate::wait::{Watched, wait_for, wait_for_end};
use lapstrake_api::{ask, view};

/// `lap cancel`. With `--wait`, until the service is what it was.
pub async fn cancel(session: &mut Session, of: &Steered) -> Result<(), LapError> {
    let (number, answer) = post(session, of, "cancel", &serde_json::Map::new()).await?;
    if of.waiting.wait {
        let watched = Watched { service: of.path.clone(), number };
        return wait_for_end(session, &[watched], of.waiting.timeout, "cancelled").await;
    }
    say(session, &answer, &format!("deployment {number} of {} is cancelled and goes back by itself", of.path))
}

/// `lap hold`.
pub async fn hold(session: &mut Session, of: &Steered) -> Result<(), LapError> {
    let (number, answer) = post(session, of, "hold", &serde_json::Map::new()).await?;
    let path = &of.path;
    say(session, &answer, &format!("deployment {number} of {path} stays at its step until `lap release {path}`"))
}

/// `lap release`.
pub async fn release(session: &mut Session, release: &Release) -> Result<(), LapError> {
    let Release { of, all } = release;
    let (number, answer) = post(session, of, "release", &ask::Release { all: *all }).await?;
    if of.waiting.wait {
        let watched = Watched { service: of.path.clone(), number };
        return wait_for(session, &[watched], of.waiting.timeout).await;
    }
    let deployment: view::Deployment = answer.read()?;
    let got = match &deployment.canary {
        Some(canary) => format!("{} % of the requests, step {} of {}", canary.weight, canary.step, canary.steps),
        None => "all of the requests".to_owned(),
    };
    say(session, &answer, &format!("deployment {number} of {} gets {got}", of.path))
}

/// Asks for it, of the deployment that was named or of the newest one, and says which that is.
async fn post(
    session: &mut Session,
    of: &Steered,
    what: &str,
    body: &impl serde::Serialize,
) -> Result<(u32, Answer), LapError> {
    let number = match of.number {
        Some(number) => number,
        None => {
            let service: view::Service = session.client.get(&of.path.url()).await?.read()?;
            let newest = service.deployment.map(|deployment| deployment.number);
            newest.ok_or_else(|| LapError::Failed(format!("{} was never deployed", of.path)))?
        }
    };
    let answer = session.client.post(&format!("{}/deployments/{number}/{what}", of.path.url()), body).await?;
    Ok((number, answer))
}

fn say(session: &Session, answer: &Answer, sentence: &str) -> Result<(), LapError> {
    if session.output.is_json() {
        return session.output.json(answer);
    }
    session.output.say(sentence);
    Ok(())
}
