//! The whole in one process: the real controller, the real agents on engines in memory, and between them real HTTP,
//! gRPC and mutual TLS on loopback. What is judged is what operators see.

mod asking;
mod attacks;
mod bench;
mod certificates;
mod confined;

mod access;
mod audit;
mod deploying;
mod failing;
mod hostile;
mod hostile_agent;
mod joining;
mod membership;
mod metrics;
mod once;
mod own_certificate;
mod pausing;
mod policy;
mod requests;
mod restoring;
mod streams;
mod surviving;
mod values;
mod watching;
