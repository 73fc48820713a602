//! The compiled contract, as the tests read it.

use prost::Message as _;
use prost_types::source_code_info::Location;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;

/// Numbers of fields in descriptor.proto, of which a comment's place is made.
pub const MESSAGES: i32 = 4;
pub const ENUMS: i32 = 5;
pub const SERVICES: i32 = 6;
pub const FIELDS: i32 = 2;
pub const NESTED: i32 = 3;
pub const NESTED_ENUMS: i32 = 4;
pub const ONEOFS: i32 = 8;
pub const VALUES: i32 = 2;
pub const METHODS: i32 = 2;

pub fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(lapstrake::DESCRIPTOR).expect("the build wrote a descriptor set");
    assert!(!set.file.is_empty(), "the descriptor set holds the contract");
    set.file
}

/// A message or an enum with its full name and the place of its comment.
pub struct Named<'a, T> {
    pub name: String,
    pub place: Vec<i32>,
    pub it: &'a T,
}

pub fn messages(file: &FileDescriptorProto) -> Vec<Named<'_, DescriptorProto>> {
    let mut found = Vec::new();
    for (i, message) in file.message_type.iter().enumerate() {
        collect(file.package().to_owned(), vec![MESSAGES, i as i32], message, &mut found);
    }
    found
}

fn collect<'a>(
    outer: String,
    place: Vec<i32>,
    message: &'a DescriptorProto,
    found: &mut Vec<Named<'a, DescriptorProto>>,
) {
    // A map's entry is a message that the compiler made.
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    let name = format!("{outer}.{}", message.name());
    for (i, nested) in message.nested_type.iter().enumerate() {
        collect(name.clone(), [&place[..], &[NESTED, i as i32]].concat(), nested, found);
    }
    found.push(Named { name, place, it: message });
}

pub fn enums(file: &FileDescriptorProto) -> Vec<Named<'_, EnumDescriptorProto>> {
    let top = file.enum_type.iter().enumerate().map(|(i, it)| Named {
        name: format!("{}.{}", file.package(), it.name()),
        place: vec![ENUMS, i as i32],
        it,
    });
    let mut found: Vec<_> = top.collect();
    for message in messages(file) {
        found.extend(message.it.enum_type.iter().enumerate().map(|(i, it)| Named {
            name: format!("{}.{}", message.name, it.name()),
            place: [&message.place[..], &[NESTED_ENUMS, i as i32]].concat(),
            it,
        }));
    }
    found
}

/// The comment before each element, by the element's place.
pub fn comments(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|source| &source.location);
    let comment = |location: &Location| (location.path.clone(), location.leading_comments().to_owned());
    locations.map(comment).filter(|(_, text)| !text.trim().is_empty()).collect()
}
