//! Spec files: YAML text in, every mistake at once or a checked file out.
//!
//! A file goes through four readers, each of which notes all the mistakes that it alone can see:
//! `tree` (is it YAML, within its limits), `read` (is every value what the table in `fields` says), `service` (do the
//! fields of a service agree, once the environment's own are laid over them) and this page (do the services of an
//! environment, and the environments, agree). Nothing here asks a clock, a file or the network; quotas, policies and
//! whether something exists are the controller's.
//!
//! What a spec's author may wonder about:
//! * An environment's fields are laid over the service's own: mappings (`size`, `deploy`, `env`, `files`) key by key,
//!   everything else, lists too, as a whole. The environments are those that the caller names, else those of the file.
//! * A `command` as one text is split at spaces with quotes, and no shell is started; a list is taken as it is.
//! * Texts stay as they were written: `1.10`, `no` and `010` are texts in `env`; `null` and an empty value are mistakes.
//! * `NAME: { secret: api-key }` in `env` and `/path: { secret: api-key }` in `files` name a secret; a spec never holds one.
//! * Amounts have binary units with an `i` and times have units; what could be read in two ways is refused with both.
//! * Anchors, aliases and `<<` work and count as what they stand for; tags and several documents in a file do not.

mod defaults;
mod deploy;
mod document;
mod fields;
mod mistake;
mod name;
mod problem;
mod read;
mod render;
mod schema;
mod service;
mod suggest;
mod tree;
mod values;
mod words;

pub use document::{Change, diff, to_yaml};
pub use mistake::{mistakes, problems};
pub use name::{MAX_NAME_LEN, Name, NotAName};
pub use problem::{Place, Problem, Severity, Span};
pub use render::{Colour, render};
pub use schema::schema;
pub use tree::MAX_FILE_BYTES;

use lapstrake_core::spec::ServiceSpec;
use problem::{Finding, Findings, Lines, quoted};
use read::{Entry, Value, Values};
use service::{Draft, missing};
use std::collections::{BTreeMap, BTreeSet};
use values::MAX_LABEL_LEN;

/// The most environments that one file can be for. Each holds a spec of every service, so that a short file could
/// otherwise stand for a very large answer.
pub const MAX_ENVIRONMENTS: usize = 32;

/// A spec file without mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecFile {
    /// The application that it describes.
    pub application: Name,
    /// What each environment is to have, with every default filled in.
    pub environments: BTreeMap<Name, BTreeMap<Name, Declared>>,
    /// What is allowed and perhaps not meant, by position.
    pub warnings: Vec<Problem>,
}

/// A service as a file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its spec in this environment.
    pub spec: ServiceSpec,
    /// Where its key stands, for who refuses it later (a quota, a policy).
    pub at: Place,
    /// Where the values stand that are written below `deploy` and `size`, by their names: `deploy.overlap`.
    pub fields: BTreeMap<String, Place>,
}

impl Declared {
    /// A problem of this service that only the controller can see, at one of its fields, or at its key.
    pub fn problem(&self, field: &str, message: impl Into<String>, hint: Option<String>) -> Problem {
        let at = self.fields.get(field).copied().unwrap_or(self.at);
        Problem { at, severity: Severity::Error, message: message.into(), hint }
    }
}

/// Reads a spec file. `environments` are those that the caller names (`--env`); with none, those that the file names.
/// Every service of the file becomes one in each of them.
///
/// # Errors
/// Every mistake of the file, by position; never empty.
pub fn parse(text: &[u8], environments: &[Name]) -> Result<SpecFile, Vec<Problem>> {
    let mut findings = Findings::default();
    let file = check(text, environments, &mut findings);
    let warnings = findings.into_problems(text)?;
    let (application, drafts) = file.ok_or_else(|| vec![unexplained(text)])?;
    let lines = Lines::of(text);
    let declared = |draft: Draft| Declared {
        spec: draft.spec,
        at: lines.place(draft.key),
        fields: draft.fields.into_iter().map(|(name, span)| (name, lines.place(span))).collect(),
    };
    let environments = drafts.into_iter().map(|(environment, services)| {
        (environment, services.into_iter().map(|(name, draft)| (name, declared(draft))).collect())
    });
    Ok(SpecFile { application, environments: environments.collect(), warnings })
}

/// The sentence for a refusal that gave no reason, which no file should be able to cause.
fn unexplained(text: &[u8]) -> Problem {
    let message = "the file cannot be read, and that no reason is known is a bug".to_owned();
    Problem { at: Lines::of(text).place(Span::default()), severity: Severity::Error, message, hint: None }
}

/// An amount of memory as a spec writes it, `256MiB`, in bytes.
pub fn memory(text: &str) -> Option<u64> {
    values::bytes(text)
}

/// Cores as a spec writes them, `0.5`, in thousandths.
pub fn cores(text: &str) -> Option<u64> {
    values::cpu(text)
}

type Environments<T> = BTreeMap<Name, BTreeMap<Name, T>>;

fn check(text: &[u8], wanted: &[Name], findings: &mut Findings) -> Option<(Name, Environments<Draft>)> {
    let root = tree::read(text, findings)?;
    if !matches!(root.content, tree::Content::Map(_)) {
        let message = format!("a spec file is a mapping with `application` and `services`, not {}", root.describe());
        findings.error(root.span, message);
        return None;
    }
    let file = read::object(&fields::FILE, "file", &root, findings)?;
    let top = Span { start: root.span.start, end: root.span.start };
    missing(&fields::FILE, "the file", top, &file, findings);

    let services = file.named("services");
    if services.is_some_and(BTreeMap::is_empty) {
        findings.error(file.key("services"), "`services` names no service");
    }
    let overlays = file.named("environments");
    let environments = environments(wanted, overlays, &file, findings);
    let none = BTreeMap::new();
    for overlay in overlays.into_iter().flat_map(BTreeMap::values).filter_map(values_of) {
        only_known_services(overlay, services.unwrap_or(&none), findings);
    }
    if environments.is_empty() {
        // Without an environment nothing is laid over the services, and what is wrong with them is said all the same.
        for (name, entry) in services.unwrap_or(&none) {
            values_of(entry).map(|values| service::draft(name, entry.key, values, findings));
        }
    }
    let drafts = draft_environments(&environments, services.unwrap_or(&none), overlays.unwrap_or(&none), findings);
    each_route_once(&drafts, findings);
    each_host_in_one_environment(&drafts, findings);
    let application = file.text("application")?.parse().ok()?;
    each_default_host_fits(&application, &drafts, findings);
    Some((application, drafts))
}

fn values_of(entry: &Entry) -> Option<&Values> {
    match &entry.value.as_ref()?.value {
        Value::Object(values) => Some(values),
        _ => None,
    }
}

/// The environments that the caller names, else those that the file names; none named is a mistake.
fn environments(
    wanted: &[Name],
    overlays: Option<&BTreeMap<String, Entry>>,
    file: &Values,
    findings: &mut Findings,
) -> BTreeSet<Name> {
    if !wanted.is_empty() {
        return bounded(wanted.iter().cloned().collect(), file.key("services"), findings);
    }
    let named: BTreeSet<Name> = overlays.into_iter().flat_map(BTreeMap::keys).filter_map(|n| n.parse().ok()).collect();
    let refused = file.has("environments") && overlays.is_none_or(|overlays| !overlays.is_empty());
    if named.is_empty() && !refused {
        let place = if file.has("environments") { file.key("environments") } else { file.key("services") };
        let start_of_key = Span { end: place.end.min(place.start + "environments".len()), ..place };
        let hint = "add `environments: { production: {} }`, or name one with `--env`".to_owned();
        findings.error_with_hint(start_of_key, "no environment is named", hint);
    }
    bounded(named, file.key("environments"), findings)
}

fn bounded(named: BTreeSet<Name>, place: Span, findings: &mut Findings) -> BTreeSet<Name> {
    if named.len() <= MAX_ENVIRONMENTS {
        return named;
    }
    let message = format!("{} environments are named, and a file can be for {MAX_ENVIRONMENTS}", named.len());
    findings.error(place, message);
    named.into_iter().take(MAX_ENVIRONMENTS).collect()
}

fn only_known_services(overlay: &Values, services: &BTreeMap<String, Entry>, findings: &mut Findings) {
    for (name, entry) in overlay.named("services").into_iter().flatten() {
        if services.contains_key(name) {
            continue;
        }
        let hint = suggest::nearest(name, services.keys().map(String::as_str)).map_or_else(
            || "an environment only changes services that the top-level `services` has".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        findings.error_with_hint(entry.key, format!("the file has no service {}", quoted(name)), hint);
    }
}

/// Every service in every environment. What is wrong in some environments only says in which.
fn draft_environments(
    environments: &BTreeSet<Name>,
    services: &BTreeMap<String, Entry>,
    overlays: &BTreeMap<String, Entry>,
    findings: &mut Findings,
) -> Environments<Draft> {
    let mut drafts: Environments<Draft> = BTreeMap::new();
    let mut found: BTreeMap<Finding, Vec<String>> = BTreeMap::new();
    for environment in environments {
        let overlay = overlays.get(environment.as_str()).and_then(values_of).and_then(|v| v.named("services"));
        let mut own = Findings::default();
        let drafted = drafts.entry(environment.clone()).or_default();
        for (name, base) in services {
            let (Ok(parsed), Some(values)) = (name.parse::<Name>(), values_of(base)) else { continue };
            let over = overlay.and_then(|overlay| overlay.get(name));
            let merged = match over.map(values_of) {
                None => values.clone(),
                Some(Some(over)) => values.overlaid(over),
                // The overlay was refused, so nothing is known about the service here.
                Some(None) => continue,
            };
            drafted.insert(parsed, service::draft(name, base.key, &merged, &mut own));
        }
        for finding in own.into_list() {
            found.entry(finding).or_default().push(quoted(environment.as_str()));
        }
    }
    findings.extend(found.into_iter().map(|(finding, named)| {
        if named.len() == environments.len() {
            return finding;
        }
        Finding { message: format!("{} (in {})", finding.message, named.join(" and ")), ..finding }
    }));
    drafts
}

/// Two ways in with the same host and path lead nowhere.
fn each_route_once(drafts: &Environments<Draft>, findings: &mut Findings) {
    for services in drafts.values() {
        // Until the controller knows the domain, a default host is told apart by its service.
        let mut taken: BTreeMap<(Result<&str, &Name>, &str), &Name> = BTreeMap::new();
        let routes = services.iter().flat_map(|(name, draft)| draft.routes.iter().map(move |route| (name, route)));
        let mut in_order: Vec<_> = routes.collect();
        in_order.sort_by_key(|(_, route)| route.port);
        for (name, route) in in_order {
            let path = route.path.trim_end_matches('/');
            let host = route.host.as_deref().ok_or(name);
            let Some(first) = taken.get(&(host, path)) else {
                taken.insert((host, path), name);
                continue;
            };
            let shown = host.unwrap_or("the default host");
            let message = format!("{} on {shown} already leads to `{first}`", quoted(&route.path));
            let hint = "two public ports need different paths or hosts".to_owned();
            findings.error_with_hint(route.port, message, hint);
        }
    }
}

/// A public port without a host of its own gets one whose first label is made of three names.
fn each_default_host_fits(application: &Name, drafts: &Environments<Draft>, findings: &mut Findings) {
    for (environment, services) in drafts {
        for (name, draft) in services {
            let label = format!("{name}-{environment}-{application}");
            let unnamed = draft.routes.iter().filter(|route| route.host.is_none() && label.len() > MAX_LABEL_LEN);
            for route in unnamed {
                let message = format!(
                    "the default host would begin with {}, and DNS allows {MAX_LABEL_LEN} characters",
                    quoted(&label)
                );
                findings.error_with_hint(
                    route.port,
                    message,
                    "give the port a `host`, or choose shorter names".to_owned(),
                );
            }
        }
    }
}

/// A host is unique in the cluster, and so belongs to one environment.
fn each_host_in_one_environment(drafts: &Environments<Draft>, findings: &mut Findings) {
    let mut owners: BTreeMap<&str, BTreeMap<&Name, BTreeSet<Span>>> = BTreeMap::new();
    for (environment, services) in drafts {
        for route in services.values().flat_map(|draft| &draft.routes) {
            if let Some(host) = &route.host {
                owners.entry(host).or_default().entry(environment).or_default().insert(route.host_span);
            }
        }
    }
    for (host, environments) in owners.into_iter().filter(|(_, environments)| environments.len() > 1) {
        let named: Vec<String> = environments.keys().map(|name| quoted(name.as_str())).collect();
        let message =
            format!("the host {} would be in {}, and a host belongs to one", quoted(host), named.join(" and "));
        let hint = "give each environment its own `host` under `environments`, or none for the default host";
        for span in environments.values().flatten() {
            findings.error_with_hint(*span, message.clone(), hint.to_owned());
        }
    }
}
