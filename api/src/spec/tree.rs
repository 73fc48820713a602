//! YAML text as a tree whose every value knows the bytes it was written with.
//!
//! We build it from the events of `granit-parser` (the parser under serde-saphyr), which hands out scalars as text:
//! `1.10` stays `1.10` and `no` stays `no` until a field says what it wants. Limits come first, so that a small hostile
//! file cannot grow: aliases count as what they stand for, and depth is counted through them.

use super::problem::{Findings, Span, quoted};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The largest spec file. A full application (16 services with 100 variables each in 3 environments) is below 500 KiB.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Values in a file, aliases counted as what they stand for. The application above has about 10,000.
const MAX_NODES: usize = 100_000;
/// Collections inside each other. The deepest field of a spec lies 8 deep.
const MAX_DEPTH: usize = 32;

/// A value of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub span: Span,
    pub content: Content,
    /// Values in it, itself included, aliases counted as what they stand for.
    nodes: usize,
    /// Collections inside each other, itself included; 0 for a scalar.
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Content {
    /// A text, as YAML unquotes it. Only a plain one (without quotes) can be a number, a boolean or nothing.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping with each key once, in the order of the file.
    Map(Vec<(Key, Rc<Node>)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub text: String,
    pub span: Span,
}

impl Node {
    /// Whether nothing was written, or YAML's word for nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What a message calls it.
    pub fn describe(&self) -> String {
        match &self.content {
            _ if self.is_null() => "nothing".to_owned(),
            Content::Scalar { text, .. } => quoted(text),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Reads a file as YAML. `None` when there is no tree to look at; `findings` then says why. Mistakes that leave a tree
/// (a key given twice) are noted too.
pub(super) fn read(text: &[u8], findings: &mut Findings) -> Option<Rc<Node>> {
    if text.len() > MAX_FILE_BYTES {
        let (size, most) = (text.len() / 1024, MAX_FILE_BYTES / 1024);
        findings.error(Span::default(), format!("the file has {size} KiB; a spec file has at most {most} KiB"));
        return None;
    }
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let start = error.valid_up_to();
            let end = start + error.error_len().unwrap_or(1);
            let hint = "save the file as UTF-8".to_owned();
            findings.error_with_hint(Span { start, end }, "the file is not text: this is not UTF-8", hint);
            return None;
        }
    };
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder { findings, open: Vec::new(), anchors: BTreeMap::new(), root: None, nodes: 0 };
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => {
                let tag = span.tag_span().map(|tag| bytes(&tag));
                builder.take(event, bytes(&span), tag)
            }
            Err(error) => Err(syntax_error(&error)),
        };
        if let Err((span, message, hint)) = step {
            builder.findings.error_with_hint(span, message, hint);
            return None;
        }
    }
    if builder.root.is_none() {
        builder.findings.error(Span::default(), "the file is empty: it has no `application` and no `services`");
    }
    builder.root
}

type Fatal = (Span, String, Option<String>);

fn bytes(span: &granit_parser::Span) -> Span {
    // The parser gives byte offsets for every text that lies in memory as a whole, as ours does.
    let start = span.start.byte_offset().unwrap_or_default();
    Span { start, end: span.end.byte_offset().unwrap_or(start).max(start) }
}

fn syntax_error(error: &ScanError) -> Fatal {
    let start = error.marker().byte_offset().unwrap_or_default();
    let span = Span { start, end: start };
    let hint = |text: &str| Some(text.to_owned());
    let (message, hint) = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(span),
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            ("the line is indented with a tab".to_owned(), hint("YAML indents with spaces only"))
        }
        ErrorKind::MappingValueNotAllowed => {
            let hint = hint("check the indentation, and put quotes around a text that has `: ` in it");
            ("a `:` cannot stand here".to_owned(), hint)
        }
        ErrorKind::UnclosedQuotedScalar => ("a quote is opened and never closed".to_owned(), None),
        ErrorKind::UnexpectedCharacter { character: c @ ('@' | '`' | '%' | '|') } => {
            (format!("a text cannot start with `{c}`"), hint("put quotes around it"))
        }
        _ => (error.info(), hint("check the indentation, brackets and quotes before this place")),
    };
    (span, format!("this is not YAML: {message}"), hint)
}

fn too_deep(span: Span) -> Fatal {
    (span, format!("values lie more than {MAX_DEPTH} deep inside each other"), None)
}

/// A collection that is not closed yet.
struct Open {
    span: Span,
    anchor: usize,
    content: OpenContent,
    nodes: usize,
    depth: usize,
}

enum OpenContent {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<(Key, Rc<Node>)>, merged: Vec<Rc<Node>>, awaits: Awaits },
}

enum Awaits {
    Key,
    /// The value of this key; of `None` when the key was no text and the value is left out.
    Value(Option<Key>),
}

struct Builder<'f> {
    findings: &'f mut Findings,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    /// Values so far, aliases counted as what they stand for.
    nodes: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, tag: Option<Span>) -> Result<(), Fatal> {
        if let Some(tag) = tag {
            let hint = "leave it out, and put quotes around what must be text".to_owned();
            self.findings.error_with_hint(tag, "spec files have no YAML tags", hint);
        }
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let hint = "put each application into a file of its own".to_owned();
                return Err((span, "a second YAML document begins here".to_owned(), Some(hint)));
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    let added = node.nodes;
                    self.place(node, added)?;
                }
                None => return Err((span, "this alias lies inside of what it stands for".to_owned(), None)),
            },
            Event::UnresolvedAlias(name) => {
                let message = format!("no anchor `&{}` stands before this alias", quoted(&name).trim_matches('`'));
                self.findings.error(span, message);
                // A text in its place, so that nothing else is said about it.
                self.place(scalar(format!("*{name}"), span, false), 1)?;
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = scalar(text.into_owned(), span, style == ScalarStyle::Plain);
                self.finish(node, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(span, anchor, OpenContent::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let map = OpenContent::Map { entries: Vec::new(), merged: Vec::new(), awaits: Awaits::Key };
                self.begin(span, anchor, map);
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            // Begins, ends and comments carry no value.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, span: Span, anchor: usize, content: OpenContent) {
        self.open.push(Open { span, anchor, content, nodes: 1, depth: 1 });
    }

    fn end(&mut self, span: Span) -> Result<(), Fatal> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = match open.content {
            OpenContent::List(items) => Content::List(items),
            OpenContent::Map { entries, merged, .. } => Content::Map(self.each_once(entries, &merged)),
        };
        let span = Span { start: open.span.start, end: span.end.max(open.span.end) };
        self.finish(Rc::new(Node { span, content, nodes: open.nodes, depth: open.depth }), open.anchor)
    }

    /// Drops and notes the keys that were there before, and adds the entries of merged mappings that are not there yet.
    fn each_once(&mut self, mut entries: Vec<(Key, Rc<Node>)>, merged: &[Rc<Node>]) -> Vec<(Key, Rc<Node>)> {
        let mut given = BTreeSet::new();
        entries.retain(|(key, _)| {
            let first = given.insert(key.text.clone());
            if !first {
                self.findings.error(key.span, format!("{} is given twice in this mapping", quoted(&key.text)));
            }
            first
        });
        for node in merged {
            if let Content::Map(others) = &node.content {
                entries.extend(others.iter().filter(|(key, _)| given.insert(key.text.clone())).cloned());
            }
        }
        entries
    }

    fn finish(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), Fatal> {
        // The parser numbers anchors from 1; 0 is none.
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, 1)
    }

    /// Puts a finished value, which adds so many values to the file, where the innermost open collection wants it.
    fn place(&mut self, node: Rc<Node>, added: usize) -> Result<(), Fatal> {
        self.nodes += added;
        if self.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values, counting aliases as what they stand for");
            return Err((node.span, message, None));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.nodes += node.nodes;
        open.depth = open.depth.max(node.depth + 1);
        if open.depth > MAX_DEPTH {
            return Err(too_deep(node.span));
        }
        match &mut open.content {
            OpenContent::List(items) => items.push(node),
            OpenContent::Map { entries, merged, awaits } => match std::mem::replace(awaits, Awaits::Key) {
                Awaits::Key => *awaits = Awaits::Value(key(&node, self.findings)),
                Awaits::Value(None) => {}
                Awaits::Value(Some(key)) if key.text == "<<" => merged.extend(merge_sources(node, self.findings)),
                Awaits::Value(Some(key)) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

fn scalar(text: String, span: Span, plain: bool) -> Rc<Node> {
    Rc::new(Node { span, content: Content::Scalar { text, plain }, nodes: 1, depth: 0 })
}

fn key(node: &Node, findings: &mut Findings) -> Option<Key> {
    match &node.content {
        Content::Scalar { text, .. } if !text.is_empty() => Some(Key { text: text.clone(), span: node.span }),
        _ => {
            findings.error(node.span, "a key must be text");
            None
        }
    }
}

/// The mappings that `<<: *one` or `<<: [*one, *two]` names.
fn merge_sources(node: Rc<Node>, findings: &mut Findings) -> Vec<Rc<Node>> {
    let sources = match &node.content {
        Content::List(items) => items.clone(),
        _ => vec![node],
    };
    let (maps, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(|n| matches!(n.content, Content::Map(_)));
    for other in others {
        findings.error(other.span, format!("`<<` takes the alias of a mapping, not {}", other.describe()));
    }
    maps
}
