//! Live detection over HTTP and gRPC.
