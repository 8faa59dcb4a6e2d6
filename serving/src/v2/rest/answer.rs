//! Writing answers: JSON, and after it the bytes of outputs that are wanted in binary form.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::HEADER_LENGTH;
use super::body::{AnswerForm, OutputForm};
use crate::v2::backend::InferResponse;
use crate::v2::tensor::json::{self, Text};
use crate::v2::tensor::{Datatype, NamedTensor};
use crate::{Error, Result};

/// Writes an answer as the caller wants it.
///
/// # Errors
/// An output cannot be written in JSON: bytes that are no text.
pub fn write(response: &InferResponse, form: &AnswerForm) -> Result<Response> {
    let mut json = String::from("{");
    let mut binary: Vec<&Bytes> = Vec::new();
    // Writing into a string cannot fail.
    let _ = write!(json, "\"model_name\":{},", Value::from(response.model.as_str()));
    let _ = write!(json, "\"model_version\":{},", Value::from(response.version.as_str()));
    if let Some(id) = &form.id {
        let _ = write!(json, "\"id\":{},", Value::from(id.as_str()));
    }
    if !response.parameters.is_empty() {
        let parameters =
            serde_json::to_string(&response.parameters).map_err(|error| Error::Model(error.to_string()))?;
        let _ = write!(json, "\"parameters\":{parameters},");
    }
    json.push_str("\"outputs\":[");
    for (at, output) in response.outputs.iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        put_output(output, form.of(&output.name), &mut json, &mut binary)?;
    }
    json.push_str("]}");
    Ok(assembled(json, &binary))
}

fn put_output<'a>(
    output: &'a NamedTensor,
    form: OutputForm,
    json: &mut String,
    binary: &mut Vec<&'a Bytes>,
) -> Result<()> {
    let NamedTensor { name, tensor } = output;
    let _ =
        write!(json, "{{\"name\":{},\"datatype\":\"{}\",\"shape\":[", Value::from(name.as_str()), tensor.datatype());
    for (at, dimension) in tensor.shape().dimensions().iter().enumerate() {
        let _ = write!(json, "{}{dimension}", if at > 0 { "," } else { "" });
    }
    json.push_str("],");
    match form {
        OutputForm::Binary => {
            let _ = write!(json, "\"parameters\":{{\"binary_data_size\":{}}}}}", tensor.data().len());
            binary.push(tensor.data());
        }
        OutputForm::Json(text) => {
            if text == Text::Base64 && tensor.datatype() == Datatype::Bytes {
                json.push_str("\"parameters\":{\"content_type\":\"base64\"},");
            }
            json.push_str("\"data\":");
            json::write(tensor, text, json).map_err(|reason| Error::Invalid(format!("output `{name}`: {reason}")))?;
            json.push('}');
        }
    }
    Ok(())
}

fn assembled(json: String, binary: &[&Bytes]) -> Response {
    if binary.is_empty() {
        let mut response = Response::new(Body::from(json));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return response;
    }
    let length = json.len();
    let mut all = BytesMut::with_capacity(length + binary.iter().map(|bytes| bytes.len()).sum::<usize>());
    all.extend_from_slice(json.as_bytes());
    for bytes in binary {
        all.extend_from_slice(bytes);
    }
    let mut response = Response::new(Body::from(all.freeze()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(HEADER_LENGTH, HeaderValue::from(length));
    response
}
