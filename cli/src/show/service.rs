//! One service, or one deployment, with all there is to know.

use super::amount::{ago, span};
use super::listing;
use super::timeline::{timeline, took_ms};
use crate::output::{Style, Surface, printable, without_subject};
use lapstrake_api::view::{Deployment, Hold, Service};

/// `lap status shop/production/web`.
pub fn service(service: &Service, now_ms: u64, surface: Surface) -> String {
    let state = Style::of_word(&service.state).paint(&printable(&service.state), surface.colour);
    let mut shown = format!(
        "{} is {state}: {}\n",
        Style::Strong.paint(&printable(&service.path), surface.colour),
        without_subject(&service.message, &service.path)
    );
    let revision = service.revision.map_or("none yet".into(), |revision| format!("r{revision}"));
    let pinned = service.pinned.as_ref().map(|pinned| printable(pinned)).unwrap_or_default();
    let facts = [
        ("type", printable(&service.service_type)),
        ("revision", revision),
        ("image", printable(&service.image)),
        ("bound to", if service.pinned.as_ref() == Some(&service.image) { String::new() } else { pinned }),
        ("healthy", format!("{} of {}", service.healthy, service.scale)),
        ("routes", printable(&service.routes.join(", "))),
        ("held", service.not_redeployable.as_ref().map(|hold| not_redeployable(hold, now_ms)).unwrap_or_default()),
        ("deployed", service.deployment.as_ref().map(|newest| newest_line(newest, now_ms)).unwrap_or_default()),
    ];
    for (what, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        shown.push_str(&fact(what, value, surface));
    }
    if !service.jobs.is_empty() {
        shown.push('\n');
        shown.push_str(&listing::jobs(&service.jobs).draw(surface));
    }
    shown
}

/// Who paused it is in its message already.
fn not_redeployable(hold: &Hold, now_ms: u64) -> String {
    let reason = hold.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    printable(&format!("not redeployable, by {}, {}{reason}", hold.by, ago(hold.since_ms, now_ms)))
}

fn newest_line(newest: &Deployment, now_ms: u64) -> String {
    let message = newest.message.as_ref().map(|message| format!(": {}", without_subject(message, &newest.service)));
    let message = message.unwrap_or_default();
    let when = ago(newest.created_ms, now_ms);
    printable(&format!(
        "deployment {} ({} by {}, {when}) is {}{message}",
        newest.number, newest.trigger, newest.by, newest.phase
    ))
}

/// `lap deployments shop/production/web 4`.
pub fn deployment(deployment: &Deployment, now_ms: u64, surface: Surface) -> String {
    let phase = Style::of_word(&deployment.phase).paint(&printable(&deployment.phase), surface.colour);
    let title = format!("{} deployment {}", printable(&deployment.service), deployment.number);
    let message = deployment.message.as_ref();
    let message = message.map(|message| format!(": {}", without_subject(message, &deployment.service)));
    let message = message.unwrap_or_default();
    let mut shown = format!("{} is {phase}{message}\n", Style::Strong.paint(&title, surface.colour));
    let named = |revision: Option<u32>| revision.map_or("none".to_owned(), |revision| format!("r{revision}"));
    let asked = format!("{} by {}, {}", deployment.trigger, deployment.by, ago(deployment.created_ms, now_ms));
    let facts = [
        ("asked", printable(&asked)),
        ("why", printable(&deployment.why)),
        ("image", printable(&deployment.image)),
        ("revision", format!("{} → {}", named(deployment.from), named(deployment.revision))),
        ("took", took_ms(deployment).map(span).unwrap_or_default()),
    ];
    for (what, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        shown.push_str(&fact(what, value, surface));
    }
    for slot in deployment.slots.iter().filter(|slot| slot.message.is_some()) {
        let said = format!("{} on {}: {}", slot.slot, slot.node, slot.message.as_deref().unwrap_or(""));
        shown.push_str(&fact(&slot.phase, &printable(&said), surface));
    }
    shown.push_str(&timeline(deployment, surface));
    shown
}

fn fact(what: &str, value: &str, surface: Surface) -> String {
    let what = format!("{:<9}", printable(what));
    format!("  {}  {value}\n", Style::Faint.paint(&what, surface.colour))
}
