//! The wire between Lapstrake's controller and its agents.
//!
//! `lapstrake/v1/*.proto` is the contract, with what success, a retry and the caller mean for every RPC; `v1` is what
//! is generated from it. Generated types stop at `convert`, which turns them into the types of the decisions and checks
//! everything that came from outside on the way, and at the two ends of a stream. `limits` has the sizes that both ends
//! give to gRPC.

use std::fmt;

pub mod convert;
pub mod limits;

/// Messages, clients and servers, generated from `lapstrake/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("lapstrake.v1");
}

/// The contract as a `google.protobuf.FileDescriptorSet`, with its comments.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

impl fmt::Debug for v1::EnrolRequest {
    /// Without the join token's secret, because requests end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::GivenValue {
    /// Without the value, because messages end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenValue").field("called", &self.called).finish_non_exhaustive()
    }
}

impl fmt::Debug for v1::ServiceSpec {
    /// Without the variables' values and the command, which may hold credentials, because messages end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSpec").field("type", &self.r#type()).field("image", &self.image).finish_non_exhaustive()
    }
}
