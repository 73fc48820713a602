//! Who tried what: reading the audit, and verifying that nobody has altered it.

use super::Session;
use crate::args::AuditRows;
use crate::error::LapError;
use crate::output::{Output, Style, printable};
use crate::show::amount::{self, instant};
use lapstrake_api::view::{AuditHead, AuditRow};
use lapstrake_core::audit::{Deed, Entry, Fault, Link};
use lapstrake_core::ids::ClusterId;
use lapstrake_core::time::Wall;
use lapstrake_pki::fingerprint::sha256;
use lapstrake_pki::token::SecretHash;

/// `lap audit ls`: a page as the controller gives it, or everything of a time or a name.
pub async fn list(session: &mut Session, which: &AuditRows) -> Result<(), LapError> {
    let mut query = String::new();
    query.extend(which.by.as_ref().map(|name| format!("&by={name}")));
    let since = which.since.map(|span| amount::now_ms().saturating_sub(span.as_millis() as u64));
    query.extend(since.map(|since| format!("&since_ms={since}")));
    let Some(mut after) = which.after.or(since.map(|_| 0)) else {
        let rows: Vec<AuditRow> =
            session.client.get(&format!("/v1/audit?{}", query.trim_start_matches('&'))).await?.read()?;
        return show(&session.output, &rows);
    };
    // Page by page, so that a long history is never here whole, but for JSON, which is one list.
    let mut all = Vec::new();
    loop {
        let page = page(session, after, &query).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        if session.output.is_json() { all.extend(page) } else { show(&session.output, &page)? }
    }
    if session.output.is_json() { show(&session.output, &all) } else { Ok(()) }
}

async fn page(session: &mut Session, after: u64, query: &str) -> Result<Vec<AuditRow>, LapError> {
    Ok(session.client.get(&format!("/v1/audit?after={after}{query}")).await?.read()?)
}

fn show(output: &Output, rows: &[AuditRow]) -> Result<(), LapError> {
    if output.is_json() {
        let text = serde_json::to_string(rows).map_err(crate::client::ClientError::NotUnderstood)?;
        return output.json_text(&text);
    }
    rows.iter().try_for_each(|row| output.line(&line(row, output.stdout.colour)))
}

fn line(row: &AuditRow, colour: bool) -> String {
    let at = Style::Faint.paint(&instant(row.at_ms), colour);
    let who = if row.who.is_empty() { "somebody unknown" } else { &row.who };
    let from = if row.address.is_empty() { String::new() } else { format!(" from {}", row.address) };
    let what = [&row.verb, &row.subject, &row.detail].map(String::as_str).join(" ");
    let verdict = match row.verdict.as_str() {
        "refused" => Style::Bad.paint(&printable(&format!("refused: {}", row.said)), colour),
        verdict => Style::of_word(verdict).paint(&printable(verdict), colour),
    };
    format!(
        "{:>6}  {at}  {}  {}  {verdict}",
        row.number,
        printable(&format!("{who}{from}")),
        printable(what.trim_end())
    )
}

/// `lap audit verify`: every row from the first, hashed here and not by the controller.
pub async fn verify(session: &mut Session, noted: Option<Link>) -> Result<(), LapError> {
    let head: AuditHead = session.client.get("/v1/audit/head").await?.read()?;
    let not_ours = || LapError::Failed("the controller's answer about the audit's end cannot be understood".into());
    let cluster: ClusterId = head.cluster.parse().map_err(|_| not_ours())?;
    let beginning = Link::beginning(cluster, sha256);
    let head = match head.hash {
        Some(hash) => Link { number: head.number, hash: SecretHash::from_hex(&hash).ok_or_else(not_ours)?.0 },
        None => beginning,
    };
    let mut link = beginning;
    let mut fault = None;
    'all: while fault.is_none() {
        let rows = page(session, link.number, "").await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            match follow(&link, row) {
                Ok(next) => link = next,
                Err(wrong) => {
                    fault = Some(wrong);
                    break 'all;
                }
            }
            let differs = |known: &Link| known.number == link.number && *known != link;
            fault = [Some(head), noted].into_iter().flatten().find(differs).map(|known| {
                if known == head {
                    Fault::Altered { number: known.number }
                } else {
                    Fault::NotAsNoted { number: known.number }
                }
            });
            if fault.is_some() {
                break 'all;
            }
        }
    }
    // Rows that came while this was reading stand behind the head that it began with.
    let cut_off = |last: u64| (link.number < last).then_some(Fault::CutOff { number: link.number + 1, last });
    let last = head.number.max(noted.map_or(0, |noted| noted.number));
    told(session, fault.or_else(|| cut_off(last)), &link)
}

fn follow(link: &Link, row: AuditRow) -> Result<Link, Fault> {
    let number = row.number;
    let entry = Entry {
        wall: Wall(row.at_ms),
        who: row.who,
        token: row.token,
        address: row.address,
        deed: Deed { verb: row.verb, subject: row.subject, detail: row.detail },
        verdict: row.verdict,
        said: row.said,
    };
    // A hash that is none fits nothing, and neither do 32 zero bytes.
    let hash = SecretHash::from_hex(&row.hash).map_or([0; 32], |hash| hash.0);
    link.follow(&Link { number, hash }, &entry, sha256)
}

fn told(session: &Session, fault: Option<Fault>, link: &Link) -> Result<(), LapError> {
    let hash = SecretHash(link.hash).to_hex();
    if session.output.is_json() {
        let (number, said) = (fault.as_ref().map(Fault::number), fault.as_ref().map(ToString::to_string));
        let json = serde_json::json!({ "rows": link.number, "hash": hash, "first_wrong": number, "fault": said });
        session.output.json_text(&json.to_string())?;
    }
    match fault {
        Some(fault) => Err(LapError::Failed(format!("the audit was altered: {fault}"))),
        None => {
            session.output.say(&format!("{} are as they were written", amount::count(link.number, "row")));
            if !session.output.is_json() {
                session.output.line(&format!("{}:{hash}", link.number))?;
            }
            session
                .output
                .say("note that line elsewhere: `lap audit verify --noted LINE` finds a chain that was made anew");
            Ok(())
        }
    }
}

/// `4711:<64 hexadecimal digits>`, as `lap audit verify` prints it.
pub fn noted(text: &str) -> Result<Link, String> {
    let wrong = || "a noted end is written as NUMBER:HASH, as `lap audit verify` prints it".to_owned();
    let (number, hash) = text.trim().split_once(':').ok_or_else(wrong)?;
    let hash = SecretHash::from_hex(hash).ok_or_else(wrong)?.0;
    Ok(Link { number: number.parse().map_err(|_| wrong())?, hash })
}
