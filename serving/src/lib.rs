//! Live detection over HTTP and gRPC.
pub mod collections;
