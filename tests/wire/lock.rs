//! What was once in the contract stays in it: nothing is removed, renumbered or retyped, because an older agent or
//! controller still says it. `proto/lapstrake.v1.lock` is the memory.

use crate::contract;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

/// Set to any value, it makes the test write what is new into the lock. It never takes anything out.
const EXTEND: &str = "LAPSTRAKE_EXTEND_WIRE_LOCK";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto/lapstrake.v1.lock")
}

/// Every promise of the contract, one a line: `message.field number type`, `enum.value number`, `service.rpc types`.
fn promises() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in contract::files() {
        for message in contract::messages(&file) {
            let fields = message.it.field.iter();
            lines.extend(fields.map(|field| {
                format!("{}.{} {} {}", message.name, field.name(), field.number(), type_of(message.it, field))
            }));
        }
        for of_enum in contract::enums(&file) {
            let values = of_enum.it.value.iter();
            lines.extend(values.map(|value| format!("{}.{} {}", of_enum.name, value.name(), value.number())));
        }
        for service in &file.service {
            lines.extend(service.method.iter().map(|rpc| {
                let stream = |yes: bool| if yes { "stream " } else { "" };
                format!(
                    "{}.{}.{} {}{} -> {}{}",
                    file.package(),
                    service.name(),
                    rpc.name(),
                    stream(rpc.client_streaming()),
                    bare(rpc.input_type()),
                    stream(rpc.server_streaming()),
                    bare(rpc.output_type()),
                )
            }));
        }
    }
    lines
}

/// A type's full name without the dot before it.
fn bare(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let short = || bare(field.type_name()).rsplit('.').next().unwrap_or_default();
    let map = message
        .nested_type
        .iter()
        .find(|nested| nested.options.as_ref().is_some_and(|options| options.map_entry()) && nested.name() == short());
    if let Some(entry) = map {
        let sides: Vec<_> = entry.field.iter().map(|side| type_of(entry, side)).collect();
        return format!("map<{}>", sides.join(", "));
    }
    let of = match field.r#type() {
        Type::Message | Type::Enum => bare(field.type_name()).to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let place = match field.oneof_index {
        _ if field.label() == Label::Repeated => "repeated ".to_owned(),
        Some(_) if field.proto3_optional() => "optional ".to_owned(),
        Some(i) => format!("oneof {} ", message.oneof_decl[i as usize].name()),
        None => String::new(),
    };
    format!("{place}{of}")
}

fn text(lines: &BTreeSet<String>) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn nothing_that_an_older_version_says_is_gone_or_changed() {
    let now = promises();
    // Without a lock everything is new.
    let locked: BTreeSet<String> = fs::read_to_string(path()).unwrap_or_default().lines().map(str::to_owned).collect();
    let broken = text(&locked.difference(&now).cloned().collect());
    assert!(
        broken.is_empty(),
        "the contract no longer has:\n{broken}Take a new field beside the old one instead. (Before the first release a \
         line may be taken out of {} by hand.)",
        path().display()
    );
    let new = text(&now.difference(&locked).cloned().collect());
    if !new.is_empty() && env::var_os(EXTEND).is_some() {
        fs::write(path(), text(&now)).expect("the lock can be written");
        return;
    }
    assert!(new.is_empty(), "not yet in {}; run this test with {EXTEND}=1:\n{new}", path().display());
}
