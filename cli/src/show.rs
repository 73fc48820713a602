//! How things look to people. Pure: views in, text out.

pub mod amount;
pub mod changes;
pub mod finding;
pub mod listing;
pub mod progress;
pub mod service;
pub mod table;
pub mod timeline;
pub mod usage;
