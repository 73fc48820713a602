//! The tree of a file against the table of fields: every value that is wrong by itself is noted, the others are typed.

use super::fields::{Choice, Field, Kind, Object, SECRET_FILE, SECRET_VARIABLE};
use super::problem::{Findings, Span, quoted};
use super::suggest::nearest;
use super::tree::{Content, Key, Node};
use super::{values, words};
use lapstrake_core::label::{CONSTRAINTS_PER_SERVICE, Comparison, Constraint};
use lapstrake_core::values::AUTOMATIC;
use std::collections::BTreeMap;

/// The kernel gives a program no longer argument and no longer `NAME=value` (MAX_ARG_STRLEN, with the zero at its end).
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;

/// The fields of a mapping that were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub span: Span,
    fields: BTreeMap<&'static str, Entry>,
}

/// A key and what it holds; no value when that was refused.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Span,
    pub value: Option<At>,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct At {
    pub span: Span,
    pub value: Value,
}

/// A value of the type that its field asks for.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    Words(Vec<String>),
    Object(Values),
    Named(BTreeMap<String, Entry>),
    List(Vec<Values>),
    Constraints(Vec<Constraint>),
}

impl Values {
    /// Whether the field was given, well or not.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The fields that were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(AsRef::as_ref)
    }

    /// Where the field's key stands; of a missing one, the mapping.
    pub fn key(&self, name: &str) -> Span {
        self.fields.get(name).map_or(self.span, |entry| entry.key)
    }

    /// Where the field's value stands; of a missing one, the mapping.
    pub fn place(&self, name: &str) -> Span {
        self.get(name).map_or(self.span, |at| at.span)
    }

    fn get(&self, name: &str) -> Option<&At> {
        self.fields.get(name).and_then(|entry| entry.value.as_ref())
    }

    /// A field that holds `true` or `false`.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(|at| if let Value::Flag(flag) = at.value { Some(flag) } else { None })
    }

    /// A field that holds a number, a time or an amount.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|at| if let Value::Number(number) = at.value { Some(number) } else { None })
    }

    /// A field that holds a text or a word of a choice.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|at| if let Value::Text(text) = &at.value { Some(text.as_str()) } else { None })
    }

    /// A field that holds a command.
    pub fn words(&self, name: &str) -> Option<&[String]> {
        self.get(name).and_then(|at| if let Value::Words(words) = &at.value { Some(words.as_slice()) } else { None })
    }

    /// A field that holds a mapping with fields.
    pub fn object(&self, name: &str) -> Option<&Values> {
        self.get(name).and_then(|at| if let Value::Object(values) = &at.value { Some(values) } else { None })
    }

    /// A field that holds a list.
    pub fn list(&self, name: &str) -> Option<&[Values]> {
        self.get(name).and_then(|at| if let Value::List(list) = &at.value { Some(list.as_slice()) } else { None })
    }

    /// A field that holds constraints.
    pub fn constraints(&self, name: &str) -> Option<&[Constraint]> {
        self.get(name)
            .and_then(|at| if let Value::Constraints(list) = &at.value { Some(list.as_slice()) } else { None })
    }

    /// A field that holds values by name.
    pub fn named(&self, name: &str) -> Option<&BTreeMap<String, Entry>> {
        self.get(name).and_then(|at| if let Value::Named(named) = &at.value { Some(named) } else { None })
    }

    /// These fields, with those of another mapping laid over them: mappings go together key by key, anything else is
    /// replaced.
    pub fn overlaid(&self, over: &Values) -> Values {
        let mut fields = self.fields.clone();
        for (name, entry) in &over.fields {
            let merged = fields.get(name).map_or_else(|| entry.clone(), |below| below.overlaid(entry));
            fields.insert(name, merged);
        }
        Values { span: self.span, fields }
    }
}

impl Entry {
    fn overlaid(&self, over: &Entry) -> Entry {
        let (Some(below), Some(above)) = (&self.value, &over.value) else {
            return over.clone();
        };
        let value = match (&below.value, &above.value) {
            (Value::Object(below), Value::Object(above)) => Value::Object(below.overlaid(above)),
            (Value::Named(below), Value::Named(above)) => {
                let mut named = below.clone();
                for (name, entry) in above {
                    let merged = named.get(name).map_or_else(|| entry.clone(), |below| below.overlaid(entry));
                    named.insert(name.clone(), merged);
                }
                Value::Named(named)
            }
            _ => return over.clone(),
        };
        Entry { key: self.key, value: Some(At { span: below.span, value }) }
    }
}

/// Reads a mapping with the fields of `object`. An empty value is an empty mapping.
pub(super) fn object(object: &'static Object, name: &str, node: &Node, findings: &mut Findings) -> Option<Values> {
    let entries = match &node.content {
        Content::Map(entries) => entries.as_slice(),
        _ if node.is_null() => &[],
        _ => {
            refuse(Kind::Object(object), name, node, findings);
            return None;
        }
    };
    if let Some((field, choice, node)) = later_word(object, entries) {
        // What else it holds is of no use in this version, nor are the mistakes in it.
        choose(choice, field.name, node, findings);
        return None;
    }
    let mut fields = BTreeMap::new();
    for (key, node) in entries {
        match object.field(&key.text) {
            Some(field) => {
                let value = read(field.kind, field.name, node, findings);
                let value = value.map(|value| At { span: node.span, value });
                fields.insert(field.name, Entry { key: key.span, value });
            }
            None => {
                // What is only misspelt is not missing as well.
                if let Some(meant) = unknown_field(object, key, findings) {
                    fields.entry(meant).or_insert(Entry { key: key.span, value: None });
                }
            }
        }
    }
    Some(Values { span: node.span, fields })
}

/// The first field that holds a word of a later version's choice of types.
fn later_word<'n>(
    object: &'static Object,
    entries: &'n [(Key, std::rc::Rc<Node>)],
) -> Option<(&'static Field, &'static Choice, &'n Node)> {
    let field = object.field("type")?;
    let Kind::Choice(choice) = field.kind else { return None };
    let (_, node) = entries.iter().find(|(key, _)| key.text == field.name)?;
    match &node.content {
        Content::Scalar { text, .. } if choice.later.contains(&text.as_str()) => Some((field, choice, node)),
        _ => None,
    }
}

/// Notes a field that nobody knows, and answers which one may have been meant.
fn unknown_field(object: &'static Object, key: &Key, findings: &mut Findings) -> Option<&'static str> {
    let known = object.fields.iter().map(|field| field.name);
    let noun = with_article(object.noun);
    let all = format!("{noun} has: {}", known.clone().collect::<Vec<_>>().join(", "));
    let text = key.text.as_str();
    if object.later.contains(&text) {
        findings.error_with_hint(key.span, format!("this version has no {} of {noun}", quoted(text)), all);
        return None;
    }
    if text == "secrets" && object.field("services").is_some() {
        let hint = "`lap secret set` sets them; a service names them in `env` and `files`".to_owned();
        findings.error_with_hint(key.span, format!("{noun} has no secrets"), hint);
        return None;
    }
    let known_elsewhere = object.fields.iter().find(|field| field.elsewhere.contains(&text)).map(|field| field.name);
    let meant = known_elsewhere.or_else(|| nearest(text, known));
    let hint = meant.map_or(all, |meant| format!("did you mean `{meant}`?"));
    findings.error_with_hint(key.span, format!("{noun} has no field {}", quoted(text)), hint);
    meant
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn read(kind: Kind, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let plain = match &node.content {
        Content::Scalar { text, plain: true } => Some(text.as_str()),
        _ => None,
    };
    let within = |number: Option<u64>, min, max| number.filter(|n| (min..=max).contains(n)).map(Value::Number);
    let value = match kind {
        Kind::Flag => plain.and_then(|text| text.parse().ok()).map(Value::Flag),
        Kind::Count { min, max } => within(plain.and_then(values::count), min, max),
        Kind::Cpu { min, max } => within(plain.and_then(values::cpu), min, max),
        // Times and amounts are texts to YAML, with quotes or without.
        Kind::Span { min, max } => within(text_of(node).and_then(values::span), min, max),
        Kind::Bytes { min, max } => within(text_of(node).and_then(values::bytes), min, max),
        Kind::Choice(choice) => return choose(choice, name, node, findings),
        Kind::Text(rule) => return text(rule, name, node, findings),
        Kind::Words => return command(name, node, findings),
        Kind::Command(of) => return command_or(of, name, node, findings),
        Kind::Variables => return variables(name, node, findings),
        Kind::Files => return files(name, node, findings),
        Kind::Mode => match (&node.content, text_of(node).and_then(values::mode)) {
            (Content::Scalar { plain: false, .. }, Some(mode)) => Some(Value::Number(mode.into())),
            _ => None,
        },
        Kind::Constraints => return constraints(name, node, findings),
        Kind::Object(of) => return object(of, name, node, findings).map(Value::Object),
        Kind::Named(of) => return named(of, name, node, findings),
        Kind::List(of) => return list(of, name, node, findings),
    };
    if value.is_none() {
        refuse(kind, name, node, findings);
    }
    value
}

/// The text of a scalar that is not nothing.
fn text_of(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

fn refuse(kind: Kind, name: &str, node: &Node, findings: &mut Findings) {
    let message = format!("`{name}` must be {}, not {}", describe(kind), node.describe());
    findings.error_with_hint(node.span, message, hint(kind, node));
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Span { min, max } => {
            format!("a time from {} to {}, such as `30s` or `1h30m`", values::print_span(min), values::print_span(max))
        }
        Kind::Bytes { min, max } => {
            let (min, max) = (values::print_bytes(min), values::print_bytes(max));
            format!("an amount of memory from {min} to {max}, such as `256MiB`")
        }
        Kind::Cpu { min, max } => {
            format!("a number of cores from {} to {}, such as `0.5`", values::print_cpu(min), values::print_cpu(max))
        }
        Kind::Choice(choice) => one_of(choice.words),
        Kind::Text(rule) => rule.what.to_owned(),
        Kind::Words => "a command, as a text or as a list of texts".to_owned(),
        Kind::Command(object) => format!("a command, or a mapping with the fields of {}", with_article(object.noun)),
        Kind::Variables => "a mapping of variables to texts".to_owned(),
        Kind::Files => "a mapping of paths to secrets".to_owned(),
        Kind::Mode => "permission bits in octal and in quotes, from `\"0000\"` to `\"0777\"`".to_owned(),
        Kind::Constraints => "a list of constraints, such as `zone == a`".to_owned(),
        Kind::Object(object) => format!("a mapping with the fields of {}", with_article(object.noun)),
        Kind::Named(object) => format!("a mapping of names to {}s", object.noun),
        Kind::List(object) => format!("a list of {}s", object.noun),
    }
}

fn one_of(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
}

/// What to write instead, where a mistake is a known one.
fn hint(kind: Kind, node: &Node) -> Option<String> {
    let Content::Scalar { text, plain } = &node.content else {
        return match (kind, &node.content) {
            (Kind::Count { .. }, Content::Map(_)) => Some("this version has no autoscaling, only a number".to_owned()),
            (Kind::List(_), Content::Map(_)) => Some("begin each of its entries with `- `".to_owned()),
            (Kind::Constraints, Content::Map(_)) => Some("write `- zone == a` instead of `zone: a`".to_owned()),
            (Kind::Variables, Content::List(_)) => Some("write `NAME: value` instead of `- NAME=value`".to_owned()),
            (Kind::Files, Content::List(_)) => Some("write `/run/secrets/tls.key: { secret: tls-key }`".to_owned()),
            (Kind::Named(_), Content::List(_)) => Some("write `name:` instead of `- name`".to_owned()),
            _ => None,
        };
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[number.len()..];
    match kind {
        Kind::Constraints if !node.is_null() => Some("begin each of its entries with `- `".to_owned()),
        Kind::Mode if *plain && digits => {
            // Without a zero in front it may be a decimal number that somebody has worked out.
            let meant = if text.starts_with('0') { values::mode(text) } else { None };
            let example = values::print_mode(meant.unwrap_or(0o400));
            let disagree = "without quotes it is a number, and YAML's readers disagree on which";
            Some(format!("write it in octal and in quotes, as `\"{example}\"`: {disagree}"))
        }
        Kind::Mode => {
            let meant = text.strip_prefix("0o").and_then(values::mode).map(values::print_mode);
            meant.map(|mode| format!("write `\"{mode}\"`"))
        }
        Kind::Flag if !plain => Some("leave out the quotes".to_owned()),
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" | "1" => Some("write `true`".to_owned()),
            "no" | "off" | "false" | "n" | "0" => Some("write `false`".to_owned()),
            _ => None,
        },
        Kind::Count { .. } if digits && !plain => Some("leave out the quotes".to_owned()),
        Kind::Count { .. } if digits && text.len() > 1 && text.starts_with('0') => {
            Some("leave out the leading zeros".to_owned())
        }
        Kind::Cpu { .. } if !plain => Some("leave out the quotes".to_owned()),
        Kind::Cpu { .. } if unit == "m" => {
            values::count(number).map(|milli| format!("write `{}`", values::print_cpu(milli)))
        }
        Kind::Span { .. } if digits => Some(format!("write the unit too: `{text}s` or `{text}m`")),
        Kind::Span { .. } if unit == "d" => Some("the largest unit is `h`".to_owned()),
        Kind::Bytes { .. } if digits => Some(format!("write the unit too: `{text}MiB` or `{text}B`")),
        Kind::Bytes { .. } => match unit.to_ascii_lowercase().as_str() {
            "m" | "mb" | "mi" | "mib" => Some(format!("write `{number}MiB`: 1024 × 1024 bytes each")),
            "g" | "gb" | "gi" | "gib" => Some(format!("write `{number}GiB`: 1024 MiB each")),
            "k" | "kb" | "ki" | "kib" => Some(format!("write `{number}KiB`: 1024 bytes each")),
            _ => None,
        }
        .filter(|_| values::count(number).is_some()),
        _ => None,
    }
}

fn choose(choice: &'static Choice, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let Some(text) = text_of(node) else {
        refuse(Kind::Choice(choice), name, node, findings);
        return None;
    };
    if choice.words.contains(&text) {
        return Some(Value::Text(text.to_owned()));
    }
    if choice.later.contains(&text) {
        let hint = format!("it has {}", one_of(choice.words));
        findings.error_with_hint(node.span, format!("this version has no `{name}: {text}`"), hint);
        return None;
    }
    let hint = nearest(text, choice.words.iter().copied()).map(|meant| format!("did you mean `{meant}`?"));
    findings.error_with_hint(
        node.span,
        format!("`{name}` must be {}, not {}", one_of(choice.words), quoted(text)),
        hint,
    );
    None
}

fn text(rule: &'static values::Rule, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let Some(text) = text_of(node) else {
        refuse(Kind::Text(rule), name, node, findings);
        return None;
    };
    if text.is_empty() && !rule.may_be_empty {
        findings.error(node.span, format!("`{name}` is empty"));
        return None;
    }
    if let Err(why) = (rule.check)(text) {
        findings.error_with_hint(node.span, format!("{} is not {}", quoted(text), rule.what), why);
        return None;
    }
    Some(Value::Text(text.to_owned()))
}

fn command(name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let words = match &node.content {
        Content::List(items) => {
            let words: Vec<Option<String>> = items.iter().map(|item| argument(name, item, findings)).collect();
            return words.into_iter().collect::<Option<Vec<String>>>().map(Value::Words);
        }
        _ => argument(name, node, findings)?,
    };
    match words::split(&words) {
        Ok(split) if split.words.is_empty() => {
            findings.error(node.span, format!("`{name}` is empty"));
            None
        }
        Ok(split) => {
            if let Some(sign) = split.shell_sign {
                let message = format!("no shell is started for `{name}`: the program gets `{sign}` as it is written");
                findings.warning(node.span, message, "for a shell write `[sh, -c, \"...\"]`");
            }
            Some(Value::Words(split.words))
        }
        Err(why) => {
            findings.error_with_hint(node.span, format!("`{name}` cannot be split into words: {why}"), None);
            None
        }
    }
}

/// A command alone is one without the other fields.
fn command_or(of: &'static Object, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    if matches!(node.content, Content::Map(_)) {
        return object(of, name, node, findings).map(Value::Object);
    }
    if node.is_null() {
        refuse(Kind::Command(of), name, node, findings);
        return None;
    }
    let value = command(name, node, findings).map(|value| At { span: node.span, value });
    let entry = Entry { key: node.span, value };
    Some(Value::Object(Values { span: node.span, fields: BTreeMap::from([("command", entry)]) }))
}

fn argument(name: &str, node: &Node, findings: &mut Findings) -> Option<String> {
    let Some(text) = text_of(node) else {
        let hint = node.is_null().then(|| "put quotes around it if it is meant as text".to_owned());
        let message = format!("`{name}` must be {}, not {}", describe(Kind::Words), node.describe());
        findings.error_with_hint(node.span, message, hint);
        return None;
    };
    passable(name, text, text.len(), node.span, findings)
}

/// A text that the kernel can hand to a program.
fn passable(name: &str, text: &str, bytes: usize, span: Span, findings: &mut Findings) -> Option<String> {
    if text.contains('\0') {
        findings.error(span, format!("{} has a zero byte, which no program can be given", quoted(name)));
        return None;
    }
    if bytes > MAX_ARGUMENT_BYTES {
        let message = format!("{} is longer than the {MAX_ARGUMENT_BYTES} bytes that Linux can pass", quoted(name));
        findings.error(span, message);
        return None;
    }
    Some(text.to_owned())
}

fn variables(name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let entries = match &node.content {
        Content::Map(entries) => entries.as_slice(),
        _ if node.is_null() => &[],
        _ => {
            refuse(Kind::Variables, name, node, findings);
            return None;
        }
    };
    let mut variables = BTreeMap::new();
    for (key, node) in entries {
        if let Err(why) = values::check_variable(&key.text) {
            let name = quoted(&key.text);
            let message = if key.text.starts_with(AUTOMATIC) {
                format!("{name} cannot be set")
            } else {
                format!("{name} is not the name of an environment variable")
            };
            findings.error_with_hint(key.span, message, why);
        }
        let value = variable(&key.text, node, findings).map(|value| At { span: node.span, value });
        variables.insert(key.text.clone(), Entry { key: key.span, value });
    }
    Some(Value::Named(variables))
}

fn variable(name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    if let Some(text) = text_of(node) {
        let with_name = name.len() + 1 + text.len();
        return passable(name, text, with_name, node.span, findings).map(Value::Text);
    }
    let (message, hint) = match &node.content {
        Content::Map(_) => return object(&SECRET_VARIABLE, name, node, findings).map(Value::Object),
        Content::Scalar { .. } => (format!("{} has no value", quoted(name)), "write \"\" for an empty text"),
        _ => (format!("{} must be a text, not {}", quoted(name), node.describe()), "put quotes around it"),
    };
    findings.error_with_hint(node.span, message, hint.to_owned());
    None
}

fn files(name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let entries = match &node.content {
        Content::Map(entries) => entries.as_slice(),
        _ if node.is_null() => &[],
        _ => {
            refuse(Kind::Files, name, node, findings);
            return None;
        }
    };
    let mut files = BTreeMap::new();
    for (key, node) in entries {
        if let Err(why) = values::check_file_path(&key.text) {
            findings.error_with_hint(key.span, format!("{} is not the path of a file", quoted(&key.text)), why);
        }
        let value = match &node.content {
            Content::Scalar { .. } if !node.is_null() => {
                let message = format!("{} must name a secret, not {}", quoted(&key.text), node.describe());
                findings.error_with_hint(node.span, message, "write `{ secret: NAME }`".to_owned());
                None
            }
            _ => object(&SECRET_FILE, &key.text, node, findings),
        };
        let value = value.map(|values| At { span: node.span, value: Value::Object(values) });
        files.insert(key.text.clone(), Entry { key: key.span, value });
    }
    Some(Value::Named(files))
}

fn constraints(name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let items = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => {
            refuse(Kind::Constraints, name, node, findings);
            return None;
        }
    };
    if items.len() > CONSTRAINTS_PER_SERVICE {
        let message = format!("`{name}` has {} entries; {CONSTRAINTS_PER_SERVICE} are allowed", items.len());
        findings.error(node.span, message);
        return None;
    }
    let mut list: Vec<Constraint> = Vec::new();
    let mut is_good = true;
    for item in items {
        match constraint(name, item, &list, findings) {
            Some(constraint) => list.push(constraint),
            None => is_good = false,
        }
    }
    is_good.then_some(Value::Constraints(list))
}

/// One constraint that does not stand against those before it.
fn constraint(name: &str, node: &Node, before: &[Constraint], findings: &mut Findings) -> Option<Constraint> {
    let Some(text) = text_of(node) else {
        let message = format!("an entry of `{name}` must be a text such as `zone == a`, not {}", node.describe());
        let hint =
            matches!(&node.content, Content::Map(_)).then(|| "write `- zone == a` instead of `- zone: a`".to_owned());
        findings.error_with_hint(node.span, message, hint);
        return None;
    };
    let constraint: Constraint = match text.parse() {
        Ok(constraint) => constraint,
        Err(why) => {
            let message = format!("{} is not a constraint: {why}", quoted(text));
            let single = !text.contains("==") && !text.contains("!=") && text.matches('=').count() == 1;
            let hint = single.then(|| "write `==` for equal".to_owned());
            findings.error_with_hint(node.span, message, hint);
            return None;
        }
    };
    if before.contains(&constraint) {
        findings.error(node.span, format!("the constraint `{constraint}` is there twice"));
        return None;
    }
    // `zone == a` with `zone == b`, or with `zone != a`.
    let against = before.iter().find(|other| {
        let both_are = other.comparison == Comparison::Is && constraint.comparison == Comparison::Is;
        other.attribute == constraint.attribute
            && (both_are || (other.comparison != constraint.comparison && other.value == constraint.value))
    });
    if let Some(other) = against {
        findings.error(node.span, format!("no node can meet both `{other}` and `{constraint}`"));
        return None;
    }
    Some(constraint)
}

fn named(of: &'static Object, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let entries = match &node.content {
        Content::Map(entries) => entries.as_slice(),
        _ if node.is_null() => &[],
        _ => {
            refuse(Kind::Named(of), name, node, findings);
            return None;
        }
    };
    let mut named = BTreeMap::new();
    for (key, node) in entries {
        if let Err(why) = super::name::Name::check(&key.text) {
            let message = format!("{} is not the name of {}", quoted(&key.text), with_article(of.noun));
            findings.error_with_hint(key.span, message, why.to_string());
        }
        let value = object(of, &key.text, node, findings);
        let value = value.map(|values| At { span: node.span, value: Value::Object(values) });
        named.insert(key.text.clone(), Entry { key: key.span, value });
    }
    Some(Value::Named(named))
}

fn list(of: &'static Object, name: &str, node: &Node, findings: &mut Findings) -> Option<Value> {
    let Content::List(items) = &node.content else {
        refuse(Kind::List(of), name, node, findings);
        return None;
    };
    let items: Vec<Option<Values>> = items.iter().map(|item| object(of, name, item, findings)).collect();
    items.into_iter().collect::<Option<Vec<Values>>>().map(Value::List)
}
