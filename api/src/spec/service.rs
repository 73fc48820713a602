//! One service of one environment: what its fields say together, and the spec with all defaults.

use super::defaults;
use super::fields::{CHECK, Object, PORT, SECRET_FILE, SECRET_VARIABLE, SERVICE};
use super::problem::{Findings, Span, quoted};
use super::read::{Value, Values};
use lapstrake_core::spec::{
    Check, CheckKind, ImageSource, Port, Protocol, Pull, SecretFile, ServiceSpec, ServiceType, Size, WhenCutOff,
};
use lapstrake_core::time::Millis;
use lapstrake_core::values::VALUES_PER_SCOPE;
use std::collections::{BTreeMap, BTreeSet};

/// The most secrets of a service that are variables, and the most that are files. As many as one scope can hold, and
/// few enough that a node can name them all to its engine.
const MAX_SECRETS: usize = VALUES_PER_SCOPE;

/// A service as read. The spec is complete only if nothing was noted as an error.
pub(super) struct Draft {
    pub spec: ServiceSpec,
    pub key: Span,
    /// Where the values stand that are written below `deploy` and `size`, by their names: `deploy.overlap`.
    pub fields: BTreeMap<String, Span>,
    pub routes: Vec<DraftRoute>,
}

/// A public port's way in.
pub(super) struct DraftRoute {
    /// `None` for the service's default host.
    pub host: Option<String>,
    pub path: String,
    /// Where the port is written.
    pub port: Span,
    /// Where its host is written, else the port.
    pub host_span: Span,
}

/// Checks the fields of a service together and fills in the defaults.
pub(super) fn draft(name: &str, key: Span, given: &Values, findings: &mut Findings) -> Draft {
    missing(&SERVICE, &format!("service {}", quoted(name)), key, given, findings);
    let service_type = match given.text("type") {
        Some("worker") => Some(ServiceType::Worker),
        Some(_) => Some(ServiceType::Web),
        None => None,
    };
    if let Some(service_type) = service_type {
        lacking(service_type, given, findings);
    }
    let (ports, routes) = ports(given, findings);
    let scale = small(given.number("scale")).unwrap_or(defaults::SCALE);
    let deploy = super::deploy::policy(given.object("deploy"), scale, findings);
    let health = health(service_type, &ports, given, findings);
    if service_type == Some(ServiceType::Web) && !given.has("ports") {
        let message = format!("the web service {} has no `ports`, so nothing can reach it", quoted(name));
        findings.warning(key, message, "a service that is not asked over the network is a `worker`");
    }
    let spec = ServiceSpec {
        service_type: service_type.unwrap_or(ServiceType::Web),
        image: ImageSource {
            reference: given.text("image").unwrap_or_default().to_owned(),
            pull: match given.text("pull") {
                Some("local") => Pull::Local,
                Some(_) => Pull::Registry,
                None => defaults::PULL,
            },
        },
        command: given.words("command").unwrap_or_default().to_vec(),
        size: size(given.object("size")),
        scale,
        ports,
        health,
        deploy,
        env: variables(given),
        secrets: secrets(given, findings),
        files: files(given, findings),
        replace_after: given.number("replace_after").map_or(defaults::REPLACE_AFTER, Millis),
        when_cut_off: match given.text("when_cut_off") {
            Some("stop") => WhenCutOff::Stop,
            _ => WhenCutOff::Keep,
        },
        init: given.flag("init").unwrap_or(defaults::INIT),
        read_only: given.flag("read_only").unwrap_or(defaults::READ_ONLY),
        constraints: given.constraints("constraints").unwrap_or_default().to_vec(),
    };
    Draft { spec, key, fields: fields(given), routes }
}

fn fields(given: &Values) -> BTreeMap<String, Span> {
    let below = |object: &'static str| {
        let values = given.object(object).into_iter();
        values.flat_map(move |values| values.names().map(move |name| (format!("{object}.{name}"), values.place(name))))
    };
    below("deploy").chain(below("size")).collect()
}

/// Notes the required fields that are missing, at `place`.
pub(super) fn missing(object: &Object, what: &str, place: Span, given: &Values, findings: &mut Findings) {
    for field in object.fields.iter().filter(|field| field.required && !given.has(field.name)) {
        let hint = format!("for example `{}: {}`", field.name, field.example);
        findings.error_with_hint(place, format!("{what} has no `{}`", field.name), hint);
    }
}

/// Notes the fields that another type of service has.
fn lacking(service_type: ServiceType, given: &Values, findings: &mut Findings) {
    let others = SERVICE.fields.iter().filter(|field| field.only.is_some_and(|only| only != service_type));
    for field in others.filter(|field| given.has(field.name)) {
        let only = field.only.map_or("", ServiceType::name);
        let message = format!("a `{}` service has no `{}`", service_type.name(), field.name);
        findings.error_with_hint(given.key(field.name), message, format!("only a `{only}` service has it"));
    }
}

/// A number that the table of fields keeps far below this limit.
pub(super) fn small<T: TryFrom<u64>>(number: Option<u64>) -> Option<T> {
    number.and_then(|number| T::try_from(number).ok())
}

fn size(given: Option<&Values>) -> Size {
    let number = |name| given.and_then(|size| size.number(name));
    Size {
        cpu_milli: small(number("cpu")).unwrap_or(defaults::SIZE.cpu_milli),
        memory_bytes: number("memory").unwrap_or(defaults::SIZE.memory_bytes),
        pids: small(number("pids")).unwrap_or(defaults::SIZE.pids),
    }
}

fn variables(given: &Values) -> BTreeMap<String, String> {
    let entries = given.named("env").into_iter().flatten();
    let texts = entries.filter_map(|(name, entry)| match &entry.value.as_ref()?.value {
        Value::Text(text) => Some((name.clone(), text.clone())),
        _ => None,
    });
    texts.collect()
}

/// The variables that are secrets.
fn secrets(given: &Values, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    let mut count = 0;
    for (name, entry) in given.named("env").into_iter().flatten() {
        let Some(Value::Object(values)) = entry.value.as_ref().map(|at| &at.value) else { continue };
        count += 1;
        missing(&SECRET_VARIABLE, &quoted(name), entry.key, values, findings);
        secrets.extend(values.text("secret").map(|secret| (name.clone(), secret.to_owned())));
    }
    if count > MAX_SECRETS {
        let message = format!("`env` has {count} secrets; {MAX_SECRETS} are allowed");
        findings.error(given.key("env"), message);
    }
    secrets
}

/// The secrets that are files.
fn files(given: &Values, findings: &mut Findings) -> BTreeMap<String, SecretFile> {
    let mut files = BTreeMap::new();
    let Some(named) = given.named("files") else { return files };
    if named.len() > MAX_SECRETS {
        let message = format!("`files` has {} entries; {MAX_SECRETS} are allowed", named.len());
        findings.error(given.key("files"), message);
        return files;
    }
    for (path, entry) in named {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(file) = folders.into_iter().find(|folder| named.contains_key(*folder)) {
            let message = format!("{} cannot be in {}, which is a file", quoted(path), quoted(file));
            findings.error(entry.key, message);
        }
        let Some(Value::Object(values)) = entry.value.as_ref().map(|at| &at.value) else { continue };
        missing(&SECRET_FILE, &quoted(path), entry.key, values, findings);
        let mode = small(values.number("mode")).unwrap_or(defaults::SECRET_FILE_MODE);
        files
            .extend(values.text("secret").map(|secret| (path.clone(), SecretFile { secret: secret.to_owned(), mode })));
    }
    files
}

fn ports(given: &Values, findings: &mut Findings) -> (Vec<Port>, Vec<DraftRoute>) {
    let (mut ports, mut routes): (Vec<Port>, Vec<DraftRoute>) = (Vec::new(), Vec::new());
    for entry in given.list("ports").unwrap_or_default() {
        missing(&PORT, "this port", entry.span, entry, findings);
        let public = entry.flag("public").unwrap_or(false);
        if public {
            check_public(entry, findings)
        } else {
            check_private(entry, findings)
        }
        let protocol = match entry.text("protocol") {
            Some("http") => Protocol::Http,
            Some("h2c") => Protocol::H2c,
            _ => Protocol::Tcp,
        };
        let owned = |name| entry.text(name).map(str::to_owned);
        let Some(number) = small(entry.number("port")) else { continue };
        let port = Port { port: number, protocol, path: owned("path"), public, host: owned("host") };
        // A port may have several ways in, and no other reason to be written twice.
        if ports.iter().any(|p| p.port == port.port && !(p.public && public && p.protocol == protocol)) {
            findings.error(entry.place("port"), format!("port {number} is declared twice"));
        }
        if let (true, Some(path)) = (public, &port.path) {
            let host_span = if entry.has("host") { entry.place("host") } else { entry.span };
            let (host, path) = (port.host.clone(), path.clone());
            routes.push(DraftRoute { host, path, port: entry.span, host_span });
        }
        ports.push(port);
    }
    (ports, routes)
}

fn check_public(entry: &Values, findings: &mut Findings) {
    let place = entry.key("public");
    let without: Vec<&str> = ["protocol", "path"].into_iter().filter(|name| !entry.has(name)).collect();
    if entry.text("protocol") == Some("tcp") {
        let message = "this version has no public `tcp` ports";
        findings.error_with_hint(
            entry.place("protocol"),
            message,
            "public ports have `protocol: http`, or `h2c`".to_owned(),
        );
    } else if !without.is_empty() {
        let message = format!("a public port needs `{}`", without.join("` and `"));
        findings.error_with_hint(place, message, "for example `protocol: http, path: /`".to_owned());
    }
}

fn check_private(entry: &Values, findings: &mut Findings) {
    for name in ["path", "host"].into_iter().filter(|name| entry.has(name)) {
        let message = format!("only a public port has a `{name}`");
        findings.error_with_hint(entry.key(name), message, "add `public: true`, or leave it out".to_owned());
    }
}

fn health(service_type: Option<ServiceType>, ports: &[Port], given: &Values, findings: &mut Findings) -> Vec<Check> {
    let Some(entries) = given.list("health") else {
        let numbers: BTreeSet<u16> = ports.iter().map(|port| port.port).collect();
        return numbers.into_iter().map(|port| check(CheckKind::Tcp { port }, &Values::default())).collect();
    };
    // When the ports themselves were refused nothing can be said about those of the checks.
    let ports_are_known = given.list("ports").is_some() || !given.has("ports");
    let mut checks = Vec::new();
    for entry in entries {
        if let (true, Some(port)) = (ports_are_known, entry.number("port")) {
            undeclared(service_type, port, ports, entry, findings);
        }
        checks.extend(check_kind(entry, findings).map(|kind| check(kind, entry)));
    }
    checks
}

fn undeclared(service_type: Option<ServiceType>, port: u64, ports: &[Port], entry: &Values, findings: &mut Findings) {
    if ports.iter().any(|declared| u64::from(declared.port) == port) || entry.has("exec") {
        return;
    }
    let numbers: BTreeSet<String> = ports.iter().map(|port| port.port.to_string()).collect();
    let hint = match service_type {
        Some(ServiceType::Worker) => "a worker has no ports; its checks are `exec: [program, argument]`".to_owned(),
        _ if numbers.is_empty() => format!("declare it: `ports: [{{ port: {port} }}]`"),
        _ => format!("`ports` has {}", numbers.into_iter().collect::<Vec<_>>().join(", ")),
    };
    findings.error_with_hint(entry.place("port"), format!("port {port} is not declared in `ports`"), hint);
}

/// The one way in which the check asks.
fn check_kind(entry: &Values, findings: &mut Findings) -> Option<CheckKind> {
    const WAYS: [&str; 4] = ["http", "tcp", "grpc", "exec"];
    let ways: Vec<&str> = WAYS.into_iter().filter(|way| entry.has(way)).collect();
    let way = match ways.as_slice() {
        [way] => *way,
        [] => {
            let hint = "for example `http: /healthz`, `tcp: true`, `grpc: \"\"` or `exec: [program]`".to_owned();
            findings.error_with_hint(entry.span, format!("this {} does not say how it asks", CHECK.noun), hint);
            return None;
        }
        [_, second, ..] => {
            let message = format!("a {} asks in one way, not in {}", CHECK.noun, ways.len());
            let hint = format!("make one entry for each of `{}`", ways.join("` and `"));
            findings.error_with_hint(entry.key(second), message, hint);
            return None;
        }
    };
    if way == "tcp" && entry.flag("tcp") == Some(false) {
        let hint = "`tcp: true`, or another way of asking".to_owned();
        findings.error_with_hint(entry.place("tcp"), "a check with `tcp: false` asks nothing", hint);
        return None;
    }
    if way == "exec" {
        if entry.has("port") {
            findings.error(entry.key("port"), "an `exec` check runs in the container and has no `port`");
        }
        let command = entry.words("exec")?.to_vec();
        if command.is_empty() {
            findings.error(entry.place("exec"), "`exec` is empty");
        }
        return Some(CheckKind::Exec { command });
    }
    if !entry.has("port") {
        let message = format!("a check with `{way}` needs a `port`");
        findings.error_with_hint(entry.key(way), message, "for example `port: 8080`".to_owned());
    }
    let port = small(entry.number("port"))?;
    match way {
        "http" => Some(CheckKind::Http { port, path: entry.text("http")?.to_owned() }),
        "grpc" => Some(CheckKind::Grpc { port, service: entry.text("grpc")?.to_owned() }),
        _ => Some(CheckKind::Tcp { port }),
    }
}

fn check(kind: CheckKind, given: &Values) -> Check {
    let millis = |name, default| given.number(name).map_or(default, Millis);
    Check {
        kind,
        interval: millis("interval", defaults::CHECK_INTERVAL),
        timeout: millis("timeout", defaults::CHECK_TIMEOUT),
        grace: millis("grace", defaults::CHECK_GRACE),
        restart_after: small(given.number("restart_after")).unwrap_or(defaults::RESTART_AFTER),
    }
}
