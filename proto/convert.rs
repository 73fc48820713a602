//! The only place where wire and core meet.
//!
//! Core to wire is `From` and cannot fail. Wire to core is `TryFrom` and treats every field as hostile: it refuses with
//! [`Malformed`], which names the field, and never panics. Fields that this version does not know were dropped by prost
//! before; a word that it does not know is left empty, and [`Malformed::is_unknown_word`] tells it from a mistake, so
//! that a session goes on. Anything else new inside a known word (a kind of failure, a phase) is refused: a newer side
//! must not say it to an older one.
//!
//! Names are refused when they are not fit. Sentences for people (what Docker said, what a probe answered, a process's
//! last lines) are made fit, on both ways: control characters become spaces, and they are cut at a length. Nobody
//! chooses them, a report must not fail by them, and a terminal must not obey them.

mod assignment;
mod enrolment;
mod field;
mod logs;
mod message;
mod report;
mod spec;
mod tunnel;
mod values;

pub use enrolment::{Enrolled, Enrolment, Renewal, Renewed, ReturnAnswer, ReturnWish};
pub use field::{Malformed, Why};
pub use logs::{LogLine, LogSource, LogsEnd, LogsEndReason, LogsWord};
pub use tunnel::{FromJob, SignalKind, ToJob, TunnelEnd, TunnelEndReason};
