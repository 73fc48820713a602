//! How large an assignment set is on the wire, at most.
//!
//! An agent decodes messages up to a limit and ends a session that sends a larger one, so a set that outgrew it would lock
//! its node out. The numbers here are never below what protobuf makes of the same: a field's key is one byte, as no field
//! of these messages has a number above 15, a length takes at most five, a number at most ten. A test compares them with
//! the real encoding.

use super::{Assignment, AssignmentSet, BoundImage, ServicePath};
use crate::spec::{Check, CheckKind, Port, Pull, ServiceSpec};
use crate::values::{Body, Place};
use alloc::collections::BTreeMap;
use alloc::string::String;

/// Key and length of a text, of bytes or of a message.
const HEAD: u64 = 6;
/// Key and value of a number or a word of a list.
const NUMBER: u64 = 11;
/// An id.
const ID: u64 = HEAD + 16;
/// What a version of the wire adds to an assignment before this file knows it, and padding for what is small.
const SPARE: u64 = 256;
/// What a sentence takes that stands where a value could not be opened.
const UNREADABLE: u64 = 256;
/// The credentials for an image's registry. Which they are is not known when a job is placed, and they may change later;
/// the longest that registries give out are keys in JSON of some 2.5 KiB.
const LOGIN: u64 = 4 << 10;

/// All that one node's assignments may come to. An agent decodes 16 MiB; a quarter is left for what is not counted when a
/// job is placed: longer credentials for registries, names that grow with a version, and `KEPT_IMAGES_BYTES`.
pub const SET_BYTES: u64 = 12 << 20;

/// All that the names of kept images may come to in a set: some 7000 of 150 bytes, of which a firm one counts twice. Of more,
/// the images of older revisions are not kept.
pub const KEPT_IMAGES_BYTES: u64 = 1 << 20;

/// What the name of a kept image takes.
pub fn of_kept_image(pinned: &str) -> u64 {
    text(pinned)
}

fn text(text: &str) -> u64 {
    HEAD + text.len() as u64
}

fn texts(texts: &[String]) -> u64 {
    texts.iter().map(|one| text(one)).sum()
}

/// What an assignment takes besides its values: what is the same for all jobs of a revision.
pub fn of_job(
    path: &ServicePath,
    image: &BoundImage,
    spec: &ServiceSpec,
    hosts: &[Option<String>],
    places: u64,
) -> u64 {
    let slot = HEAD + ID + text(spec.target()) + NUMBER;
    let path = HEAD + text(&path.application) + text(&path.environment) + text(&path.service);
    let image = HEAD + text(image.reference()) + text(image.pinned());
    let hosts: u64 = hosts.iter().map(|host| HEAD + text(host.as_deref().unwrap_or_default())).sum();
    let login = if spec.image.pull == Pull::Registry { LOGIN } else { 0 };
    let run = HEAD + 2 * ID + path + NUMBER + image + of_spec(spec) + hosts + places;
    HEAD + slot + 2 * ID + run + login + SPARE
}

fn of_spec(spec: &ServiceSpec) -> u64 {
    let image = HEAD + text(&spec.image.reference) + NUMBER;
    let size = HEAD + 3 * NUMBER;
    let deploy = HEAD + 8 * NUMBER;
    let env = of_variables(&spec.env);
    let ports: u64 = spec.ports.iter().map(of_port).sum();
    let health: u64 = spec.health.iter().map(of_check).sum();
    HEAD + 6 * NUMBER + image + texts(&spec.command) + size + ports + health + deploy + env
}

fn of_variables(env: &BTreeMap<String, String>) -> u64 {
    env.iter().map(|(name, value)| HEAD + text(name) + text(value)).sum()
}

/// What a command and variables of its own take besides what its revision's jobs take.
pub fn of_command(command: &[String], env: &BTreeMap<String, String>) -> u64 {
    texts(command) + of_variables(env)
}

fn of_port(port: &Port) -> u64 {
    let optional = |it: &Option<String>| it.as_deref().map_or(0, text);
    HEAD + 3 * NUMBER + optional(&port.path) + optional(&port.host)
}

fn of_check(check: &Check) -> u64 {
    let kind = match &check.kind {
        CheckKind::Http { path, .. } => NUMBER + text(path),
        CheckKind::Tcp { .. } => NUMBER,
        CheckKind::Grpc { service, .. } => NUMBER + text(service),
        CheckKind::Exec { command } => texts(command),
    };
    2 * HEAD + kind + 4 * NUMBER
}

/// What one place of a value takes in its job's assignment.
pub fn of_place(place: &Place) -> u64 {
    let place = match place {
        Place::Variable(name) => text(name),
        Place::File { path, .. } => HEAD + text(path) + NUMBER,
        Place::Registry => HEAD,
    };
    HEAD + ID + place
}

/// What a value takes in its set, by the lengths of what people call it and of its sealed bytes, which are more than the
/// open ones.
pub fn of_value(called: u64, body: u64) -> u64 {
    HEAD + ID + HEAD + called + HEAD + body.max(UNREADABLE)
}

/// What a whole set takes.
pub fn of_set(set: &AssignmentSet) -> u64 {
    let values = set.values.values().map(|given| {
        let body = match &given.body {
            Body::Stored { sealed, .. } | Body::Sealed(sealed) => sealed.0.len(),
            Body::Clear(clear) => clear.0.len(),
            Body::Unreadable { said } => said.len(),
        };
        of_value(given.called.len() as u64, body as u64)
    });
    let jobs = set.assignments.iter().map(|Assignment { run, .. }| {
        let places = run.values.iter().map(|binding| of_place(&binding.place)).sum();
        of_job(&run.path, &run.image, &run.spec, &run.hosts, places)
    });
    let kept = set.kept_images.iter().flat_map(|kept| kept.all.iter().chain(&kept.firm));
    let kept = kept.map(|pinned| text(pinned)).sum::<u64>();
    HEAD + ID + 2 * NUMBER + values.sum::<u64>() + jobs.sum::<u64>() + HEAD + kept
}
