//! A spec as the document that a person would write: for YAML that is read back the same, and for the differences that
//! `plan` shows. Every field is in it, defaults too.

use super::name::Name;
use super::values::{print_bytes, print_cpu, print_mode, print_span};
use lapstrake_core::spec::{
    CanaryStep, Check, CheckKind, DeployPolicy, Port, Protocol, Pull, SecretFile, ServiceSpec, WhenCutOff,
};
use std::collections::{BTreeMap, BTreeSet};

/// A part of a document.
enum Part {
    /// A text, quoted where YAML would read something else.
    Text(String),
    /// A number, a boolean, a time or an amount, which need no quotes.
    Plain(String),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

/// One field that differs between two specs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Change {
    /// The field's path, for example `deploy.overlap`, `env.LOG_LEVEL` or `ports[0].path`.
    pub field: String,
    /// Its value so far; `None` when it had none.
    pub old: Option<String>,
    /// Its value from now on; `None` when it has none.
    pub new: Option<String>,
}

/// The fields that differ between two specs, by path.
pub fn diff(old: &ServiceSpec, new: &ServiceSpec) -> Vec<Change> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &service(old), &mut before);
    flatten("", &service(new), &mut after);
    let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changes = fields.into_iter().map(|field| Change {
        field: field.clone(),
        old: before.get(field).cloned(),
        new: after.get(field).cloned(),
    });
    changes.filter(|change| change.old != change.new).collect()
}

fn flatten(path: &str, part: &Part, leaves: &mut BTreeMap<String, String>) {
    match part {
        Part::Text(text) | Part::Plain(text) => {
            leaves.insert(path.to_owned(), text.clone());
        }
        // A command reads better as a whole.
        Part::List(items) if items.iter().all(|item| matches!(item, Part::Text(_))) && !items.is_empty() => {
            leaves.insert(path.to_owned(), flow(items));
        }
        Part::List(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), item, leaves);
            }
        }
        Part::Map(entries) => {
            for (key, value) in entries {
                let path = match path {
                    "" => key.clone(),
                    // `files[/run/secrets/tls.key].mode`: a path has dots of its own.
                    path if key.starts_with('/') => format!("{path}[{key}]"),
                    path => format!("{path}.{key}"),
                };
                flatten(&path, value, leaves);
            }
        }
    }
}

/// The services of an application as a spec file, which `parse` reads back as they are when the caller names an
/// environment.
pub fn to_yaml(application: &Name, services: &BTreeMap<Name, ServiceSpec>) -> String {
    let services = services.iter().map(|(name, spec)| (name.to_string(), service(spec))).collect();
    let file = Part::Map(vec![
        ("application".to_owned(), Part::Text(application.to_string())),
        ("services".to_owned(), Part::Map(services)),
    ]);
    let mut yaml = String::new();
    write(&file, 0, &mut yaml);
    yaml
}

fn entry(name: &str, part: Part) -> (String, Part) {
    (name.to_owned(), part)
}

fn text(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn plain(value: impl ToString) -> Part {
    Part::Plain(value.to_string())
}

fn texts(texts: &[String]) -> Part {
    Part::List(texts.iter().map(|word| text(word)).collect())
}

fn service(spec: &ServiceSpec) -> Part {
    let pull = match spec.image.pull {
        Pull::Registry => "registry",
        Pull::Local => "local",
    };
    let when_cut_off = match spec.when_cut_off {
        WhenCutOff::Keep => "keep",
        WhenCutOff::Stop => "stop",
    };
    let mut fields = vec![
        entry("type", text(spec.service_type.name())),
        entry("image", text(&spec.image.reference)),
        entry("pull", text(pull)),
        entry("command", texts(&spec.command)),
        entry(
            "size",
            Part::Map(vec![
                entry("cpu", plain(print_cpu(spec.size.cpu_milli.into()))),
                entry("memory", plain(print_bytes(spec.size.memory_bytes))),
                entry("pids", plain(spec.size.pids)),
            ]),
        ),
        entry("scale", plain(spec.scale)),
    ];
    if !spec.constraints.is_empty() {
        let constraints: Vec<String> = spec.constraints.iter().map(ToString::to_string).collect();
        fields.push(entry("constraints", texts(&constraints)));
    }
    if !spec.ports.is_empty() {
        fields.push(entry("ports", Part::List(spec.ports.iter().map(port).collect())));
    }
    fields.extend([
        entry("health", Part::List(spec.health.iter().map(check).collect())),
        entry("deploy", deploy(&spec.deploy)),
        entry("env", variables(spec)),
    ]);
    if !spec.files.is_empty() {
        let file = |file: &SecretFile| {
            Part::Map(vec![entry("secret", text(&file.secret)), entry("mode", text(&print_mode(file.mode)))])
        };
        let files = spec.files.iter().map(|(path, secret)| entry(path, file(secret)));
        fields.push(entry("files", Part::Map(files.collect())));
    }
    fields.extend([
        entry("replace_after", plain(print_span(spec.replace_after.0))),
        entry("when_cut_off", text(when_cut_off)),
        entry("init", plain(spec.init)),
        entry("read_only", plain(spec.read_only)),
    ]);
    Part::Map(fields)
}

/// Texts and secrets by their variables' names.
fn variables(spec: &ServiceSpec) -> Part {
    let texts = spec.env.iter().map(|(name, value)| (name.clone(), text(value)));
    let secrets =
        spec.secrets.iter().map(|(name, secret)| (name.clone(), Part::Map(vec![entry("secret", text(secret))])));
    Part::Map(texts.chain(secrets).collect::<BTreeMap<_, _>>().into_iter().collect())
}

fn port(port: &Port) -> Part {
    let protocol = match port.protocol {
        Protocol::Http => "http",
        Protocol::H2c => "h2c",
        Protocol::Tcp => "tcp",
    };
    let mut fields = vec![entry("port", plain(port.port)), entry("protocol", text(protocol))];
    fields.extend(port.path.as_deref().map(|path| entry("path", text(path))));
    fields.push(entry("public", plain(port.public)));
    fields.extend(port.host.as_deref().map(|host| entry("host", text(host))));
    Part::Map(fields)
}

fn check(check: &Check) -> Part {
    let mut fields = match &check.kind {
        CheckKind::Http { port, path } => vec![entry("port", plain(port)), entry("http", text(path))],
        CheckKind::Tcp { port } => vec![entry("port", plain(port)), entry("tcp", plain(true))],
        CheckKind::Grpc { port, service } => vec![entry("port", plain(port)), entry("grpc", text(service))],
        CheckKind::Exec { command } => vec![entry("exec", texts(command))],
    };
    fields.extend([
        entry("interval", plain(print_span(check.interval.0))),
        entry("timeout", plain(print_span(check.timeout.0))),
        entry("grace", plain(print_span(check.grace.0))),
        entry("restart_after", plain(check.restart_after)),
    ]);
    Part::Map(fields)
}

fn deploy(policy: &DeployPolicy) -> Part {
    let mut fields = vec![
        entry("strategy", text(policy.strategy.name())),
        entry("overlap", plain(print_span(policy.overlap.0))),
        entry("drain", plain(print_span(policy.drain.0))),
        entry("stop_grace", plain(print_span(policy.stop_grace.0))),
        entry("min_healthy", plain(print_span(policy.min_healthy.0))),
        entry("timeout", plain(print_span(policy.timeout.0))),
        entry("max_surge", plain(policy.max_surge)),
        entry("max_unavailable", plain(policy.max_unavailable)),
        entry("max_attempts", plain(policy.max_attempts)),
    ];
    if !policy.steps.is_empty() {
        let hold = |step: &CanaryStep| step.hold.map(|hold| entry("hold", plain(print_span(hold.0))));
        let step = |step: &CanaryStep| {
            Part::Map(std::iter::once(entry("weight", plain(step.weight))).chain(hold(step)).collect())
        };
        fields.push(entry("steps", Part::List(policy.steps.iter().map(step).collect())));
    }
    if let Some(release) = &policy.release {
        let timeout = entry("timeout", plain(print_span(release.timeout.0)));
        fields.push(entry("release", Part::Map(vec![entry("command", texts(&release.command)), timeout])));
    }
    Part::Map(fields)
}

/// Writes a part in block style; what holds only texts, or nothing, stays on its line.
fn write(part: &Part, indent: usize, yaml: &mut String) {
    let margin = "  ".repeat(indent);
    match part {
        Part::Text(_) | Part::Plain(_) => {}
        Part::List(items) => {
            for item in items {
                let mut block = String::new();
                write(item, indent + 1, &mut block);
                // The first field of an entry stands beside its dash.
                yaml.push_str(&format!("{margin}- {}", block.trim_start_matches(' ')));
            }
        }
        Part::Map(entries) => {
            for (key, value) in entries {
                match one_line(value) {
                    Some(line) => yaml.push_str(&format!("{margin}{}: {line}\n", scalar(key))),
                    None => {
                        yaml.push_str(&format!("{margin}{}:\n", scalar(key)));
                        write(value, indent + 1, yaml);
                    }
                }
            }
        }
    }
}

fn one_line(part: &Part) -> Option<String> {
    match part {
        Part::Text(text) => Some(scalar(text)),
        Part::Plain(text) => Some(text.clone()),
        Part::List(items) if items.iter().all(|item| matches!(item, Part::Text(_))) => Some(flow(items)),
        Part::Map(entries) if entries.is_empty() => Some("{}".to_owned()),
        Part::List(_) | Part::Map(_) => None,
    }
}

fn flow(items: &[Part]) -> String {
    let items = items.iter().map(|item| match item {
        Part::Text(text) => scalar(text),
        _ => String::new(),
    });
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A text as YAML reads it back in every position: as it is when nothing in it could be taken for something else.
fn scalar(text: &str) -> String {
    let option = text.strip_prefix("--").unwrap_or(text);
    let first = option.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/' || b == b'_');
    // A colon is only special before a space and at the end.
    let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-:".contains(&b)) && !text.ends_with(':');
    let word = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase());
    if first && rest && !word { text.to_owned() } else { double_quoted(text) }
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            _ if (c as u32) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            _ => quoted.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::super::fields::{
        CHECK, DEPLOY, Field, Kind, Object, PORT, RELEASE, SECRET_FILE, SECRET_VARIABLE, SERVICE, SIZE,
    };
    use super::super::parse;
    use super::*;

    fn spec(fields: &str) -> ServiceSpec {
        let text = format!("application: a\nservices: {{ s: {{ {fields} }} }}\nenvironments: {{ e: }}\n");
        let mut file = parse(text.as_bytes(), &[]).unwrap_or_else(|problems| panic!("{text}{problems:?}"));
        file.environments.remove("e").and_then(|mut services| services.remove("s")).expect("it has the service").spec
    }

    /// Fields as flow YAML, those of `base` with one replaced or added.
    fn with(base: &[(&str, &str)], field: &Field) -> String {
        let kept = base.iter().filter(|(name, _)| *name != field.name).map(|(name, value)| format!("{name}: {value}"));
        kept.chain([format!("{}: {}", field.name, field.example)]).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_field_of_the_table_is_read_and_printed_as_its_example_says() {
        const SMALL: [(&str, &str); 2] = [("type", "web"), ("image", "a/b")];
        const PUBLIC: [(&str, &str); 4] = [("port", "81"), ("protocol", "http"), ("path", "/"), ("public", "true")];
        let small = "type: web, image: a/b";
        let check = |field: &Field| {
            let base: &[(&str, &str)] = match field.name {
                "exec" => &[],
                "http" | "grpc" | "tcp" => &[("port", "8080")],
                _ => &[("port", "8080"), ("tcp", "true")],
            };
            format!("{small}, ports: [{{ port: 8080 }}], health: [{{ {} }}]", with(base, field))
        };
        let deploy = |field: &Field| {
            let base: &[(&str, &str)] = if field.name == "steps" { &[("strategy", "canary")] } else { &[] };
            format!("{small}, deploy: {{ {} }}", with(base, field))
        };
        type Written<'w> = &'w dyn Fn(&Field) -> String;
        let secret_file =
            |field: &Field| format!("{small}, files: {{ /a.b: {{ {} }} }}", with(&[("secret", "a")], field));
        let release = |field: &Field| {
            let base: &[(&str, &str)] = if field.name == "command" { &[] } else { &[("command", "/app")] };
            format!("{small}, deploy: {{ release: {{ {} }} }}", with(base, field))
        };
        let objects: [(&Object, &str, Written<'_>); 8] = [
            (&RELEASE, "deploy.release.", &release),
            (&SERVICE, "", &|field| with(&SMALL, field)),
            (&SIZE, "size.", &|field| format!("{small}, size: {{ {} }}", with(&[], field))),
            (&DEPLOY, "deploy.", &deploy),
            (&PORT, "ports[0].", &|field| format!("{small}, ports: [{{ {} }}]", with(&PUBLIC, field))),
            (&CHECK, "health[0].", &check),
            (&SECRET_VARIABLE, "env.A.", &|field| format!("{small}, env: {{ A: {{ {} }} }}", with(&[], field))),
            (&SECRET_FILE, "files[/a.b].", &secret_file),
        ];
        for (object, path, written) in objects {
            for field in object.fields {
                let mut leaves = BTreeMap::new();
                flatten("", &service(&spec(&written(field))), &mut leaves);
                let path = format!("{path}{}", field.name);
                match field.kind {
                    Kind::Object(_)
                    | Kind::Named(_)
                    | Kind::List(_)
                    | Kind::Command(_)
                    | Kind::Variables
                    | Kind::Files => {
                        assert!(leaves.keys().any(|leaf| leaf.starts_with(&path)), "{path} in {leaves:?}");
                    }
                    // Its quotes are YAML's.
                    Kind::Mode => assert_eq!(leaves.get(&path).map(String::as_str), Some("0400"), "{path}"),
                    _ => assert_eq!(leaves.get(&path).map(String::as_str), Some(field.example), "{path}"),
                }
            }
        }
    }

    #[test]
    fn a_difference_names_the_field_and_both_values() {
        let old = spec("type: web, image: a/b:1, env: { A: x, B: y }, ports: [{ port: 80 }]");
        let new =
            spec("type: web, image: a/b:2, env: { A: z, C: y }, ports: [{ port: 80 }], deploy: { overlap: 1m30s }");
        let change = |field: &str, old: Option<&str>, new: Option<&str>| Change {
            field: field.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        let expected = [
            change("deploy.overlap", Some("0s"), Some("1m30s")),
            change("env.A", Some("x"), Some("z")),
            change("env.B", Some("y"), None),
            change("env.C", None, Some("y")),
            change("image", Some("a/b:1"), Some("a/b:2")),
        ];
        assert_eq!(diff(&old, &new), expected);
        assert_eq!(diff(&old, &old), []);
    }

    #[test]
    fn a_difference_tells_a_text_from_a_secret_and_never_what_the_secret_is() {
        let old = spec("type: worker, image: a/b, env: { A: x }, files: { /a.b: { secret: a } }");
        let new =
            spec("type: worker, image: a/b, env: { A: { secret: x } }, files: { /a.b: { secret: b, mode: \"400\" } }");
        let told: Vec<String> = diff(&old, &new)
            .into_iter()
            .map(|Change { field, old, new }| {
                format!("{field} {} {}", old.unwrap_or("-".into()), new.unwrap_or("-".into()))
            })
            .collect();
        assert_eq!(told, ["env.A x -", "env.A.secret - x", "files[/a.b].mode 0444 0400", "files[/a.b].secret a b"]);
    }
}
