//! What a spec would do, or did.

use super::amount::count;
use crate::output::{Style, Surface, printable};
use lapstrake_api::view::{Changes, ServiceChange};
use unicode_width::UnicodeWidthStr as _;

/// For `lap plan`.
pub fn plan(changes: &Changes, surface: Surface) -> String {
    let mut shown = body(changes, "is not there and will be created", surface);
    let touched = changes.services.iter().filter(|service| service.action != "nothing").count() as u64;
    shown.push_str(&match touched {
        0 => "Nothing would change.\n".to_owned(),
        _ => format!("{} would change; nothing was changed yet.\n", count(touched, "service")),
    });
    shown
}

/// For `lap apply`.
pub fn applied(changes: &Changes, surface: Surface) -> String {
    let mut shown = body(changes, "was created", surface);
    if changes.services.iter().all(|service| service.action == "nothing") {
        shown.push_str("Nothing had to change.\n");
    }
    shown
}

fn body(changes: &Changes, created: &str, surface: Surface) -> String {
    let mut shown = String::new();
    if let Some(application) = &changes.creates_application {
        let sign = Style::Good.paint("+", surface.colour);
        shown.push_str(&format!(
            "{sign} {}  {created}, with development, staging and production\n",
            printable(application)
        ));
    }
    let names = changes.services.iter().map(|service| service.path.width()).max().unwrap_or(0);
    for service in &changes.services {
        shown.push_str(&one(service, names, surface));
    }
    for warning in &changes.warnings {
        shown.push_str(&warned(warning, "", surface));
    }
    shown
}

fn one(service: &ServiceChange, names: usize, surface: Surface) -> String {
    let (sign, style) = match service.action.as_str() {
        "create" => ("+", Style::Good),
        "nothing" => ("=", Style::Faint),
        _ => ("~", Style::Warn),
    };
    let path = printable(&service.path);
    let fill = " ".repeat(names.saturating_sub(path.width()));
    let deployment = service.deployment.map(|number| format!(" (deployment {number})")).unwrap_or_default();
    let mut shown =
        format!("{} {path}{fill}  {}{deployment}\n", style.paint(sign, surface.colour), printable(&service.summary));
    if let Some(release) = &service.release {
        shown.push_str(&format!("    its release command runs first, once: {}\n", printable(release)));
    }
    let fields = service.changes.iter().map(|change| change.field.width()).max().unwrap_or(0);
    for change in &service.changes {
        let field = printable(&change.field);
        let fill = " ".repeat(fields.saturating_sub(field.width()));
        let value = match (&change.old, &change.new) {
            (Some(old), Some(new)) => format!("{} → {}", printable(old), printable(new)),
            (None, Some(new)) => format!("{} (new)", printable(new)),
            (Some(old), None) => format!("{} (goes)", printable(old)),
            (None, None) => String::new(),
        };
        shown.push_str(&format!("    {}{fill}  {value}\n", Style::Strong.paint(&field, surface.colour)));
    }
    for warning in &service.warnings {
        shown.push_str(&warned(warning, "    ", surface));
    }
    shown
}

fn warned(warning: &str, indent: &str, surface: Surface) -> String {
    format!("{indent}{} {}\n", Style::Warn.paint("warning:", surface.colour), printable(warning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_api::view::FieldChange;

    #[test]
    fn a_plan_names_every_field_and_says_that_nothing_was_done() {
        let service = |path: &str, action: &str, summary: &str| ServiceChange {
            path: path.into(),
            action: action.into(),
            summary: summary.into(),
            release: None,
            changes: Vec::new(),
            warnings: Vec::new(),
            deployment: None,
        };
        let mut web = service("shop/production/web", "replace", "2 jobs are replaced");
        web.changes = vec![
            FieldChange { field: "image".into(), old: Some("web:1".into()), new: Some("web:2".into()) },
            FieldChange { field: "env.DEBUG".into(), old: Some("1".into()), new: None },
        ];
        web.release = Some("bin/migrate up".into());
        web.warnings = vec!["an overlap with scale 1".into()];
        let mailer = service("shop/production/mailer", "nothing", "is as the file says");
        let changes =
            Changes { creates_application: None, services: vec![mailer, web], warnings: Vec::new(), tag: None };
        assert_eq!(
            plan(&changes, Surface::PLAIN),
            "\
= shop/production/mailer  is as the file says
~ shop/production/web     2 jobs are replaced
    its release command runs first, once: bin/migrate up
    image      web:1 → web:2
    env.DEBUG  1 (goes)
    warning: an overlap with scale 1
1 service would change; nothing was changed yet.
"
        );
    }
}
