//! What no honest peer sends.

use crate::words;
use lapstrake::convert::{
    Enrolled, Enrolment, FromJob, LogsWord, Malformed, Renewal, Renewed, ReturnAnswer, ReturnWish, ToJob, Why,
};
use lapstrake::{limits, v1};
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::ValueId;
use lapstrake_core::message::{AgentWord, ControllerWord};
use lapstrake_core::values::{Binding, GivenValue, VALUE_BYTES};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use std::fmt::Debug;

/// Reads bytes as one message. Whatever they are, nothing panics; and what is taken can be sent on and means the same.
fn read<C, W>(bytes: &[u8]) -> Result<(), TestCaseError>
where
    C: Clone + Debug + PartialEq + TryFrom<W, Error = Malformed>,
    W: Message + Default + From<C>,
{
    let Ok(wire) = W::decode(bytes) else { return Ok(()) };
    match C::try_from(wire) {
        Ok(word) => prop_assert_eq!(C::try_from(W::from(word.clone())), Ok(word)),
        Err(refusal) => prop_assert!(refusal.to_string().starts_with("the field ")),
    }
    Ok(())
}

fn read_as_everything(bytes: &[u8]) -> Result<(), TestCaseError> {
    read::<AgentWord, v1::OpenSessionRequest>(bytes)?;
    read::<ControllerWord, v1::OpenSessionResponse>(bytes)?;
    read::<LogsWord, v1::StreamLogsRequest>(bytes)?;
    read::<FromJob, v1::StreamTunnelRequest>(bytes)?;
    read::<ToJob, v1::StreamTunnelResponse>(bytes)?;
    read::<Enrolment, v1::EnrolRequest>(bytes)?;
    read::<Enrolled, v1::EnrolResponse>(bytes)?;
    read::<Renewal, v1::RenewRequest>(bytes)?;
    read::<Renewed, v1::RenewResponse>(bytes)?;
    read::<ReturnWish, v1::AskReturnRequest>(bytes)?;
    read::<ReturnAnswer, v1::AskReturnResponse>(bytes)
}

/// Bytes of an honest message with some of them changed.
fn damage(mut bytes: Vec<u8>, changes: Vec<(Index, u8)>) -> Vec<u8> {
    for (place, byte) in changes {
        if !bytes.is_empty() {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
    }
    bytes
}

proptest! {
    #[test]
    fn two_values_for_one_place_and_two_bodies_for_one_value_are_refused(set in words::assignment_set()) {
        let wire = v1::AssignmentSet::from(set);
        let refused = |wire: v1::AssignmentSet| AssignmentSet::try_from(wire).expect_err("there twice").why;
        let mut twice = wire.clone();
        if let Some(value) = twice.values.first().cloned() {
            twice.values.insert(0, value);
            prop_assert_eq!(refused(twice), Why::OutOfOrder);
        }
        let mut twice = wire;
        let runs = twice.assignments.iter_mut().filter_map(|one| one.run.as_mut());
        if let Some(values) = runs.map(|run| &mut run.values).find(|values| !values.is_empty()) {
            let other = v1::Binding { value_id: vec![9; 16], ..values[0].clone() };
            values.insert(0, other);
            prop_assert_eq!(refused(twice), Why::OutOfOrder);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_understood(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes)?;
    }

    #[test]
    fn a_damaged_word_of_an_agent_is_refused_or_understood(
        word in words::agent_word(),
        changes in vec(any::<(Index, u8)>(), 1..5),
    ) {
        read_as_everything(&damage(v1::OpenSessionRequest::from(word).encode_to_vec(), changes))?;
    }

    #[test]
    fn a_damaged_word_of_the_controller_is_refused_or_understood(
        word in words::controller_word(),
        changes in vec(any::<(Index, u8)>(), 1..5),
    ) {
        read_as_everything(&damage(v1::OpenSessionResponse::from(word).encode_to_vec(), changes))?;
    }
}

fn slot() -> v1::SlotId {
    v1::SlotId { service_id: vec![7; 16], target: "web".into(), number: 1 }
}

fn job() -> v1::JobReport {
    v1::JobReport {
        job_id: vec![1; 16],
        slot: Some(slot()),
        attempt: 1,
        phase: v1::JobPhase::Running.into(),
        health: v1::Health::Healthy.into(),
        ..Default::default()
    }
}

fn report(jobs: Vec<v1::JobReport>) -> v1::OpenSessionRequest {
    let report = v1::NodeReport { jobs, capacity: Some(v1::Capacity::default()), ..Default::default() };
    v1::OpenSessionRequest { word: Some(v1::open_session_request::Word::Report(report)) }
}

fn refusal_of(jobs: Vec<v1::JobReport>) -> (String, Why) {
    let refusal = AgentWord::try_from(report(jobs)).expect_err("it breaks a rule");
    (refusal.field, refusal.why)
}

fn job_with(change: impl FnOnce(&mut v1::JobReport)) -> Vec<v1::JobReport> {
    let mut job = job();
    change(&mut job);
    vec![job]
}

#[test]
fn a_refusal_names_the_field_and_the_rule() {
    let target = |text: String| job_with(|job| job.slot = Some(v1::SlotId { target: text, ..slot() }));
    let failure = v1::Failure { kind: None };
    let too_long = "a".repeat(limits::NAME_BYTES + 1);
    let name_limit = Why::TooLong { is: limits::NAME_BYTES + 1, most: limits::NAME_BYTES };
    let cases = [
        (job_with(|job| job.job_id = vec![1; 15]), "job_id", Why::NotAnId { bytes: 15 }),
        (job_with(|job| job.job_id = vec![]), "job_id", Why::NotAnId { bytes: 0 }),
        (job_with(|job| job.slot = None), "slot", Why::Missing),
        (job_with(|job| job.phase = 0), "phase", Why::Missing),
        (job_with(|job| job.phase = 99), "phase", Why::UnknownValue(99)),
        (job_with(|job| job.health = -1), "health", Why::UnknownValue(-1)),
        (job_with(|job| job.address = Some(vec![127, 0, 0])), "address", Why::NotAnAddress { bytes: 3 }),
        (job_with(|job| job.failure = Some(failure)), "failure.kind", Why::Missing),
        (target(String::new()), "slot.target", Why::Empty),
        (target("web\u{1b}[2J".into()), "slot.target", Why::Character('\u{1b}')),
        (target(too_long), "slot.target", name_limit),
    ];
    for (jobs, field, why) in cases {
        assert_eq!(refusal_of(jobs), (format!("report.jobs[0].{field}"), why));
    }
}

fn binding(place: v1::binding::Place) -> Result<Binding, (String, Why)> {
    let wire = v1::Binding { value_id: vec![1; 16], place: Some(place) };
    Binding::try_from(wire).map_err(|refusal| (refusal.field, refusal.why))
}

#[test]
fn a_file_of_a_job_stays_where_it_says_and_changes_nobody() {
    let file = |path: &str, mode| binding(v1::binding::Place::File(v1::MemoryFile { path: path.into(), mode }));
    assert!(file("/run/secrets/..api-key..", 0o777).is_ok());
    let wanders = Err(("file.path".to_owned(), Why::Wanders));
    for path in ["/../etc/shadow", "/a/../../etc", "a/b", "../a", "/a//b", "/a/./b", "/a/", "/", "//"] {
        assert_eq!(file(path, 0o444), wanders, "{path}");
    }
    assert_eq!(file("/a\0b", 0o444), Err(("file.path".into(), Why::Character('\0'))));
    assert_eq!(file("", 0o444), Err(("file.path".into(), Why::Empty)));
    let long = format!("/{}", "a".repeat(limits::FILE_PATH_BYTES));
    let too_long = Why::TooLong { is: limits::FILE_PATH_BYTES + 1, most: limits::FILE_PATH_BYTES };
    assert_eq!(file(&long, 0o444), Err(("file.path".into(), too_long)));
    for mode in [0o4755, 0o2755, 0o1777, 0o1000, u32::MAX] {
        let out = Why::OutOfBounds { is: mode.into(), least: 0, most: 0o777 };
        assert_eq!(file("/a", mode), Err(("file.mode".into(), out)));
    }
}

#[test]
fn a_variable_of_a_job_has_a_name_that_sets_no_other_variable() {
    let variable = |name: &str| binding(v1::binding::Place::Variable(name.into()));
    assert!(variable("API_KEY").is_ok());
    for (name, why) in
        [("", Why::Empty), ("A=B", Why::Character('=')), ("A\0B", Why::Character('\0')), ("A\nB", Why::Character('\n'))]
    {
        assert_eq!(variable(name), Err(("variable".into(), why)));
    }
}

#[test]
fn a_value_has_one_body_of_a_bounded_length() {
    use v1::given_value::Body;
    let given = |body| {
        let wire = v1::GivenValue { value_id: vec![1; 16], called: "the secret key".into(), body };
        <(ValueId, GivenValue)>::try_from(wire).map_err(|refusal| (refusal.field, refusal.why))
    };
    assert!(given(Some(Body::Clear(vec![0; VALUE_BYTES]))).is_ok(), "any bytes");
    let too_long = Why::TooLong { is: VALUE_BYTES + 1, most: VALUE_BYTES };
    assert_eq!(given(Some(Body::Clear(vec![0; VALUE_BYTES + 1]))), Err(("clear".into(), too_long)));
    assert_eq!(given(None), Err(("body".into(), Why::Missing)));
}

#[test]
fn a_job_that_is_reported_twice_is_refused() {
    assert_eq!(refusal_of(vec![job(), job()]), ("report.jobs[1]".into(), Why::OutOfOrder));
}

#[test]
fn a_word_of_a_newer_version_is_told_from_a_mistake() {
    // Field 1000 is unknown to this version: a varint 5.
    let newer: &[u8] = &[0xc0, 0x3e, 5];
    let word = v1::OpenSessionResponse::decode(newer).expect("unknown fields are skipped");
    let refusal = ControllerWord::try_from(word).expect_err("it says nothing that is known");
    assert!(refusal.is_unknown_word(), "{refusal}");
    let mistake = AgentWord::try_from(report(job_with(|job| job.slot = None))).expect_err("it breaks a rule");
    assert!(!mistake.is_unknown_word(), "{mistake}");
}

#[test]
fn a_period_of_zero_is_refused_so_that_heartbeats_do_not_flood() {
    let welcome = v1::Welcome {
        session_id: vec![1; 16],
        epoch_id: vec![2; 16],
        lease_ms: 6000,
        heartbeat_ms: 0,
        trust_pem: "pem".into(),
    };
    let word = v1::OpenSessionResponse { word: Some(v1::open_session_response::Word::Welcome(welcome)) };
    let refusal = ControllerWord::try_from(word).expect_err("it breaks a rule");
    assert_eq!(refusal.field, "welcome.heartbeat_ms");
}

#[test]
fn what_a_process_wrote_neither_ends_a_session_nor_speaks_to_a_terminal() {
    use v1::failure::{Exited, Kind};
    let last_lines = vec!["\u{1b}]0;owned\u{7}".to_owned(), "x".repeat(1 << 20)];
    let exited = Kind::Exited(Exited { code: 1, after_ms: 5, last_lines });
    let jobs = job_with(|job| job.failure = Some(v1::Failure { kind: Some(exited) }));
    let word = AgentWord::try_from(report(jobs)).expect("sentences are made fit, not refused");
    let text = format!("{word:?}");
    assert!(text.len() < 4 * limits::LAST_LINE_BYTES && !text.contains("\\u{1b}"), "{text}");
}

#[test]
fn secrets_stay_out_of_logs() {
    let request = v1::EnrolRequest { secret: b"sesame-sesame-sesame-sesame-1234".to_vec(), ..Default::default() };
    let spec = v1::ServiceSpec { env: [("KEY".into(), "sesame".into())].into(), ..Default::default() };
    let body = Some(v1::given_value::Body::Clear(b"sesame".to_vec()));
    let value = v1::GivenValue { called: "the secret key".into(), body, ..Default::default() };
    let texts = format!("{request:?} {spec:?} {value:?}");
    // A secret's bytes would be printed as a list of numbers: 115 is `s`.
    assert!(!texts.contains("115") && !texts.contains("sesame"), "{texts}");
}
