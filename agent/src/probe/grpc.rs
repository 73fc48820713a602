//! The gRPC health protocol (grpc.health.v1), of which a check needs one call with one field each way.

use std::net::SocketAddr;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    /// `UNKNOWN` 0, `SERVING` 1, `NOT_SERVING` 2, `SERVICE_UNKNOWN` 3.
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Whether the server says that this service, or the whole server for an empty name, is serving.
pub async fn serving(address: SocketAddr, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel =
        endpoint.connect().await.map_err(|error| format!("no connection to port {}: {error}", address.port()))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| format!("the connection broke: {error}"))?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let response = client
        .unary(request, PathAndQuery::from_static("/grpc.health.v1.Health/Check"), codec)
        .await
        .map_err(|status| format!("gRPC status {:?}: {}", status.code(), status.message()))?;
    match response.into_inner().status {
        SERVING => Ok(()),
        0 => Err("gRPC health UNKNOWN".into()),
        2 => Err("gRPC health NOT_SERVING".into()),
        3 => Err(format!("gRPC health SERVICE_UNKNOWN: {service:?}")),
        other => Err(format!("gRPC health {other}")),
    }
}
