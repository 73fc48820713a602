//! What people and programs say to the controller and what it answers: the JSON of the HTTP interface, and the parser of
//! spec files. The controller and `lap` share it; neither knows the other.

pub mod ask;
pub mod pattern;
pub mod spec;
pub mod tunnel;
pub mod view;

/// What no program shows of somebody else's text as it is. One definition for controller, agents and `lap`.
pub use lapstrake_core::quote::is_acting;
