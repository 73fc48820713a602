//! The wire: what crosses it arrives as it was sent, what breaks a rule is refused by name, and the contract keeps its
//! style and its promises to older versions. Beside it, what the sources promise about programs that they start.

mod contract;
mod hostile;
mod lock;
mod programs;
mod roundtrip;
mod style;
mod words;
