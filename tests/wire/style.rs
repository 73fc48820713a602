//! The style of the contract: buf's STANDARD rules as far as they concern us, and comments that say what one must know.

use crate::contract::{self, ENUMS, FIELDS, METHODS, ONEOFS, SERVICES, VALUES};
use prost_types::FileDescriptorProto;
use prost_types::field_descriptor_proto::Type;
use std::collections::BTreeSet;

/// Everything in a file that breaks a rule, so that a test shows all of it at once.
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "the contract breaks its style:\n{}", complaints.join("\n"));
}

fn is_lower_snake(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.contains("__")
        && !name.ends_with('_')
}

fn upper_snake(camel: &str) -> String {
    let mut name = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[test]
fn files_lie_where_their_package_says() {
    for file in contract::files() {
        assert_eq!(file.package(), "lapstrake.v1", "{}", file.name());
        let stem = file.name().strip_prefix("lapstrake/v1/").and_then(|name| name.strip_suffix(".proto"));
        assert!(stem.is_some_and(is_lower_snake), "{}", file.name());
    }
}

#[test]
fn every_rpc_has_a_request_and_a_response_of_its_own() {
    let mut used = BTreeSet::new();
    for file in contract::files() {
        for service in &file.service {
            assert!(service.name().ends_with("Service"), "{}", service.name());
            for rpc in &service.method {
                let expected = |suffix: &str| format!(".lapstrake.v1.{}{suffix}", rpc.name());
                assert_eq!(rpc.input_type(), expected("Request"));
                assert_eq!(rpc.output_type(), expected("Response"));
                assert!(used.insert(rpc.input_type().to_owned()), "{} is used twice", rpc.input_type());
                assert_ne!(rpc.name(), "Connect", "generated clients have a `connect` of their own");
            }
        }
    }
    assert!(!used.is_empty());
}

#[test]
fn every_rpc_says_what_success_means_what_a_retry_does_and_who_may_call() {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for file in contract::files() {
        let comments = contract::comments(&file);
        for (s, service) in file.service.iter().enumerate() {
            for (m, rpc) in service.method.iter().enumerate() {
                seen += 1;
                let comment = comments.get(&vec![SERVICES, s as i32, METHODS, m as i32]);
                for part in ["Success: ", "Retry: ", "Caller: "] {
                    if !comment.is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with(part))) {
                        complaints.push(format!("{}.{} has no line `{part}`", service.name(), rpc.name()));
                    }
                }
            }
        }
    }
    assert!(seen >= 4, "the contract has {seen} RPCs");
    assert_none(complaints);
}

#[test]
fn every_element_has_a_comment() {
    let without = |file: &FileDescriptorProto| {
        let comments = contract::comments(file);
        let mut places = Vec::new();
        for message in contract::messages(file) {
            let inside = |kind: i32, i: usize| [&message.place[..], &[kind, i as i32]].concat();
            for (i, field) in message.it.field.iter().enumerate() {
                places.push((inside(FIELDS, i), format!("{}.{}", message.name, field.name())));
            }
            for (i, oneof) in message.it.oneof_decl.iter().enumerate() {
                // The compiler makes one for each `optional` field.
                if !oneof.name().starts_with('_') {
                    places.push((inside(ONEOFS, i), format!("{}.{}", message.name, oneof.name())));
                }
            }
            places.push((message.place, message.name));
        }
        for of_enum in contract::enums(file) {
            for (i, value) in of_enum.it.value.iter().enumerate() {
                places.push(([&of_enum.place[..], &[VALUES, i as i32]].concat(), value.name().to_owned()));
            }
            places.push((of_enum.place, of_enum.name));
        }
        for (i, service) in file.service.iter().enumerate() {
            places.push((vec![SERVICES, i as i32], service.name().to_owned()));
        }
        places.retain(|(place, _)| !comments.contains_key(place));
        places.into_iter().map(|(_, name)| format!("{name} has no comment")).collect::<Vec<_>>()
    };
    assert_none(contract::files().iter().flat_map(without).collect());
}

#[test]
fn enums_begin_with_unspecified_and_carry_their_name() {
    let files = contract::files();
    let enums: Vec<_> = files.iter().flat_map(contract::enums).collect();
    assert!(!enums.is_empty());
    for of_enum in enums {
        assert_eq!(of_enum.place[of_enum.place.len() - 2], ENUMS, "{} stands at the top of its file", of_enum.name);
        let prefix = upper_snake(of_enum.it.name());
        for value in &of_enum.it.value {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{} begins with {prefix}_", value.name());
        }
        let zero = of_enum.it.value.iter().find(|value| value.number() == 0);
        assert_eq!(zero.map(|value| value.name().to_owned()), Some(format!("{prefix}_UNSPECIFIED")));
    }
}

/// Numbers that count, order or name something, or are bits, and so have no unit.
const WITHOUT_UNIT: [&str; 16] = [
    "attempt",
    "code",
    "columns",
    "max_attempts",
    "max_surge",
    "max_unavailable",
    "mode",
    "number",
    "percent",
    "pids",
    "port",
    "restart_after",
    "revision",
    "rows",
    "scale",
    "tail",
];

#[test]
fn names_of_fields_say_what_is_in_them() {
    let mut complaints = Vec::new();
    for file in contract::files() {
        for message in contract::messages(&file) {
            for field in &message.it.field {
                let name = field.name();
                let has_unit = ["_ms", "_bytes", "_milli"].iter().any(|unit| name.ends_with(unit));
                let fit = match field.r#type() {
                    Type::Uint32 | Type::Uint64 | Type::Int64 => {
                        has_unit || WITHOUT_UNIT.contains(&name) || name == "times"
                    }
                    Type::Float | Type::Double => false,
                    Type::Bytes => {
                        let says = name.ends_with("_id") || name.ends_with("_sha256");
                        says || ["address", "clear", "piece", "proof", "secret", "text"].contains(&name)
                    }
                    _ => true,
                };
                if !fit || !is_lower_snake(name) {
                    complaints.push(format!("{}.{name} of type {:?}", message.name, field.r#type()));
                }
            }
        }
    }
    assert_none(complaints);
}
