//! Short ways for this crate's unit tests to write route tables.

use lapstrake_core::assignment::ServicePath;
use lapstrake_core::ids::{JobId, ServiceId};
use lapstrake_core::routes::{Backend, ROUTES_FORMAT, Route, RouteTable, Speaks};
use std::net::SocketAddr;

/// A table of these routes.
pub fn table(generation: u64, routes: Vec<Route>) -> RouteTable {
    RouteTable { format: ROUTES_FORMAT, generation, node: "node-a".to_owned(), routes }
}

/// A route to these jobs of service number `service`.
pub fn route(host: &str, path: &str, service: u128, backends: &[(u128, SocketAddr)]) -> Route {
    Route {
        host: host.to_owned(),
        path: path.to_owned(),
        service: ServiceId(service),
        name: ServicePath {
            application: "shop".to_owned(),
            environment: "production".to_owned(),
            service: format!("s{service}"),
        },
        backends: backends
            .iter()
            .map(|&(job, address)| Backend { job: JobId(job), address, speaks: Speaks::Http, weight: 1 })
            .collect(),
        elsewhere: vec![],
        paused: false,
    }
}
