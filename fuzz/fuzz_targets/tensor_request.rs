//! Any bytes as a request of the Open Inference Protocol, over REST and gRPC: a request or a reason, never a panic.
//!
//! The first two bytes are what the header says of the length of the JSON.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serving::v2::Limits;
use serving::v2::grpc::read_message;
use serving::v2::rest::body;

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let limits = Limits { max_body: 1 << 20, ..Limits::default() };
    let bytes = Bytes::copy_from_slice(rest);
    let length = usize::from(u16::from_le_bytes(*length));
    for read in [
        body::read(&bytes, None, &limits).map(drop),
        body::read(&bytes, Some(length), &limits).map(drop),
        read_message(bytes.clone(), &limits).map(drop),
    ] {
        if let Err(error) = read {
            assert!(error.status().is_client_error(), "{error}");
        }
    }
});
