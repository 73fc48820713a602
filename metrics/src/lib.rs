//! What a daemon counts, and how it is told to Prometheus.
//!
//! * `cells`: counters and histograms that any thread may write without waiting for another one.
//! * `text`: the text format that Prometheus reads (version 0.0.4).
//! * `listener`: the address that answers it, a Unix socket or a loopback address, never a public one.
//!
//! ```
//! use lapstrake_metrics::{Counter, Kind, Text};
//!
//! let taken = Counter::default();
//! taken.add(1);
//! let mut text = Text::default();
//! text.family("lapstrake_agent_sets_taken_total", Kind::Counter, "Assignment sets that were taken.")
//!     .sample(&[("node", "worker-1")], taken.get());
//! let lines: Vec<String> = text.finish().lines().map(String::from).collect();
//! assert_eq!(lines, [
//!     "# HELP lapstrake_agent_sets_taken_total Assignment sets that were taken.",
//!     "# TYPE lapstrake_agent_sets_taken_total counter",
//!     "lapstrake_agent_sets_taken_total{node=\"worker-1\"} 1",
//! ]);
//! ```
//!
//! # Names
//! `lapstrake_<daemon>_<what>_<unit>`, in base units (`seconds`, `bytes`), counters with `_total` at their end. Labels have
//! few values, and none that a stranger chooses: each set of labels is a series that Prometheus keeps for ever.
#![forbid(unsafe_code)]

mod cells;
mod listener;
mod text;

pub use cells::{Counter, Distribution, Histogram};
pub use listener::{Endpoint, EndpointError, Listener};
pub use text::{CONTENT_TYPE, Family, Kind, Text, Value};
