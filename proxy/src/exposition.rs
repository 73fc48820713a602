//! What this proxy counts, as Prometheus reads it. Labels are names of the route table and classes of answers, never what
//! a client says.

use crate::meters::{CLASSES, SPANS, ServiceMeters};
use crate::table::Entry;
use crate::worker::Shared;
use lapstrake_metrics::{Counter, Distribution, Kind, Text};
use std::sync::atomic::Ordering::SeqCst;

/// The service of requests that no route has: a path of a service has slashes.
const UNROUTED: &str = "none";

/// One service's counts of all workers.
struct Row<'a> {
    service: &'a str,
    meters: Vec<&'a ServiceMeters>,
}

impl Row<'_> {
    fn sum(&self, of: impl Fn(&ServiceMeters) -> &Counter) -> u64 {
        self.meters.iter().map(|meters| of(meters).get()).sum()
    }
}

/// A counter of a service: its name, its help, and where it is.
type OfService = (&'static str, &'static str, fn(&ServiceMeters) -> &Counter);

const OF_SERVICES: [OfService; 4] = [
    ("lapstrake_proxy_received_bytes_total", "Bytes of requests' bodies.", |meters| &meters.received),
    ("lapstrake_proxy_sent_bytes_total", "Bytes of answers' bodies.", |meters| &meters.sent),
    ("lapstrake_proxy_retries_total", "Tries of requests after their first.", |meters| &meters.retries),
    ("lapstrake_proxy_connect_failures_total", "Connections to jobs that did not come about.", |meters| {
        &meters.unreachable
    }),
];

/// The whole text.
pub fn render(shared: &Shared) -> String {
    let table = shared.switchboard.table();
    let mut entries: Vec<&Entry> = table.iter().flat_map(|table| table.services()).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let unrouted = Row { service: UNROUTED, meters: shared.ledgers.iter().map(|ledger| &ledger.unrouted).collect() };
    let routed =
        entries.iter().map(|entry| Row { service: &entry.name, meters: entry.load.all_meters().iter().collect() });
    let rows: Vec<Row<'_>> = routed.chain([unrouted]).collect();

    let mut text = Text::default();
    text.family("lapstrake_proxy_info", Kind::Gauge, "This proxy's version.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
    let mut requests = text.family(
        "lapstrake_proxy_requests_total",
        Kind::Counter,
        "Requests by service and class of the answer; none when it ended before there was one.",
    );
    for row in &rows {
        for (class, name) in CLASSES.iter().enumerate() {
            requests.sample(&[("service", row.service), ("class", name)], row.sum(|meters| &meters.classes[class]));
        }
    }
    let mut spans = text.family(
        "lapstrake_proxy_request_duration_seconds",
        Kind::Histogram,
        "From a request's whole head to the end of its answer.",
    );
    for row in &rows {
        let mut seen = Distribution::new(SPANS);
        row.meters.iter().for_each(|meters| seen.add(&meters.spans));
        spans.distribution(&[("service", row.service)], &seen);
    }
    for (name, help, of) in OF_SERVICES {
        let mut family = text.family(name, Kind::Counter, help);
        for row in &rows {
            family.sample(&[("service", row.service)], row.sum(of));
        }
    }
    let help = "Requests and upgraded connections in flight.";
    let mut open = text.family("lapstrake_proxy_requests_open", Kind::Gauge, help);
    for entry in &entries {
        open.sample(&[("service", &entry.name)], entry.load.open.load(SeqCst));
    }
    text.family("lapstrake_proxy_connections_open", Kind::Gauge, "Connections of clients that speak HTTP.")
        .sample(&[], shared.clients.load(SeqCst));
    text.family(
        "lapstrake_proxy_upgraded_open",
        Kind::Gauge,
        "Connections that changed their protocol, as WebSockets do.",
    )
    .sample(&[], shared.upgraded.load(SeqCst));
    text.family("lapstrake_proxy_table_generation", Kind::Gauge, "The route table that holds; 0 for none.")
        .sample(&[], table.as_ref().map_or(0, |table| table.generation));
    let dropped = shared.access_log.as_ref().map_or(0, |log| log.dropped());
    text.family(
        "lapstrake_proxy_access_log_dropped_total",
        Kind::Counter,
        "Lines that the access log had no room for.",
    )
    .sample(&[], dropped);
    text.finish()
}
