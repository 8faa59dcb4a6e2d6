//! Messages and service of the protocol, made from `proto/open_inference_grpc.proto`.

/// The description in protobuf's own form, a `FileDescriptorSet`, for those who compare or reflect.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/open_inference.bin"));

pub use made::*;

#[allow(missing_docs, clippy::all)]
mod made {
    tonic::include_proto!("inference");
}
