//! What fuzzing found in the readers of requests: a request or a reason, never a panic, and never an error of the server.

use std::fs;

use bytes::Bytes;
use serving::v2::Limits;
use serving::v2::grpc::read_message;
use serving::v2::rest::body;

use crate::server::workspace;

#[test]
fn no_bytes_make_the_readers_panic() {
    let limits = Limits { max_body: 1 << 20, ..Limits::default() };
    let mut files = 0;
    for entry in fs::read_dir(workspace().join("fuzz/findings/tensor_request")).unwrap() {
        let path = entry.unwrap().path();
        let Some(([low, high], rest)) =
            fs::read(&path).unwrap().split_first_chunk::<2>().map(|(a, b)| (*a, b.to_vec()))
        else {
            continue;
        };
        files += 1;
        let bytes = Bytes::from(rest);
        let length = usize::from(u16::from_le_bytes([low, high]));
        for read in [
            body::read(&bytes, None, &limits).map(drop),
            body::read(&bytes, Some(length), &limits).map(drop),
            read_message(bytes.clone(), &limits).map(drop),
        ] {
            if let Err(error) = read {
                assert!(error.status().is_client_error(), "{}: {error}", path.display());
            }
        }
    }
    assert!(files > 0, "nothing to replay");
}
