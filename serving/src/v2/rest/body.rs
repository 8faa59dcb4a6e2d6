//! Reading requests: JSON, and after it the bytes of binary tensors.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::Request;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::Error;
use crate::v2::Result;
use crate::v2::backend::{InferRequest, Parameter, Parameters};
use crate::v2::limits::Limits;
use crate::v2::tensor::json::{self, Text};
use crate::v2::tensor::{Datatype, NamedTensor, Shape, Tensor, shortened};

/// How long a body may take that nobody has read before.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that was read, before it is known who answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    /// The caller's name for it.
    pub id: Option<String>,
    /// Those that are not about the form of the answer.
    pub parameters: Parameters,
    /// In their order.
    pub inputs: Vec<NamedTensor>,
    /// Names of the outputs that are wanted; empty for all.
    pub outputs: Vec<String>,
    form: AnswerForm,
}

/// How the caller wants the answer written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerForm {
    /// Given back.
    pub(super) id: Option<String>,
    /// Whether outputs are binary, unless said otherwise.
    binary: bool,
    /// Those of which it is said.
    of_output: BTreeMap<String, OutputForm>,
}

/// How one output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputForm {
    /// After the JSON.
    Binary,
    /// In the JSON.
    Json(Text),
}

impl ReadRequest {
    /// The request for a model, and the form of its answer.
    pub fn for_model(self, model: String, version: Option<String>) -> (InferRequest, AnswerForm) {
        let Self { id, parameters, inputs, outputs, form } = self;
        (InferRequest { model, version, id, parameters, inputs, outputs }, form)
    }
}

impl AnswerForm {
    pub(super) fn of(&self, output: &str) -> OutputForm {
        let usual = if self.binary { OutputForm::Binary } else { OutputForm::Json(Text::Plain) };
        self.of_output.get(output).copied().unwrap_or(usual)
    }
}

/// All bytes of a body.
///
/// # Errors
/// [`Error::TooLarge`]; [`Error::Invalid`] when it breaks off.
pub async fn collect(request: Request, limit: usize) -> Result<Bytes> {
    let (parts, body) = request.into_parts();
    crate::limits::collect(&parts.headers, body, limit, PATIENCE, |_| Ok(())).await
}

/// Reads the body of a request for inference; `json_length` is what the header says of its JSON.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong and where; [`Error::Unsupported`] for extensions that this server has not.
pub fn read(bytes: &Bytes, json_length: Option<usize>, limits: &Limits) -> Result<ReadRequest> {
    let length = json_length.unwrap_or(bytes.len());
    let Some(text) = bytes.get(..length) else {
        let all = bytes.len();
        return Err(Error::Invalid(format!("the JSON is said to have {length} bytes, and the body has {all}")));
    };
    let body: InferBody<'_> =
        serde_json::from_slice(text).map_err(|error| Error::Invalid(format!("the request cannot be read: {error}")))?;
    let too_many =
        |what: &str| Error::TooLarge { what: format!("the number of {what}"), limit: limits.max_tensors.to_string() };
    if body.inputs.len() > limits.max_tensors {
        return Err(too_many("inputs"));
    }
    if body.outputs.len() > limits.max_tensors {
        return Err(too_many("outputs"));
    }
    let mut binary = Binary { bytes: bytes.slice(length..), at: 0 };
    let mut inputs = Vec::with_capacity(body.inputs.len());
    for input in body.inputs {
        let name = input.name.clone();
        inputs.push(read_input(input, &mut binary).map_err(|reason| about_input(&name, reason))?);
    }
    binary.end()?;
    let mut parameters = scalars(body.parameters, "the request")?;
    let mut form = AnswerForm { id: body.id.clone(), ..AnswerForm::default() };
    form.binary = flag(parameters.remove("binary_data_output"), "binary_data_output")?.unwrap_or_default();
    let mut outputs = Vec::with_capacity(body.outputs.len());
    for output in body.outputs {
        if let Some(of_this) = output_form(&output)? {
            form.of_output.insert(output.name.clone(), of_this);
        }
        outputs.push(output.name);
    }
    Ok(ReadRequest { id: body.id, parameters, inputs, outputs, form })
}

#[derive(Deserialize)]
struct InferBody<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    inputs: Vec<InputBody<'a>>,
    #[serde(default)]
    outputs: Vec<OutputBody>,
}

#[derive(Deserialize)]
struct InputBody<'a> {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputBody {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// What follows the JSON.
struct Binary {
    bytes: Bytes,
    at: usize,
}

impl Binary {
    fn take(&mut self, size: u64) -> Result<Bytes, String> {
        let left = self.bytes.len() - self.at;
        let size = usize::try_from(size).ok().filter(|size| *size <= left).ok_or_else(|| {
            format!("its binary_data_size is {size}, and {left} bytes are left after the JSON and the inputs before it")
        })?;
        let taken = self.bytes.slice(self.at..self.at + size);
        self.at += size;
        Ok(taken)
    }

    fn end(&self) -> Result<()> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(Error::Invalid(format!("{left} bytes follow the last input; no binary_data_size counts them"))),
        }
    }
}

fn read_input(input: InputBody<'_>, binary: &mut Binary) -> Result<NamedTensor, String> {
    let datatype = Datatype::parse(&input.datatype)?;
    let shape = Shape::new(input.shape)?;
    let parameters = input.parameters.unwrap_or_default();
    if parameters.keys().any(|name| name.starts_with("shared_memory_")) {
        return Err("shared memory is not supported; send its data".to_owned());
    }
    let size = match parameters.get("binary_data_size") {
        None => None,
        Some(size) => Some(size.as_u64().ok_or("its binary_data_size is no number of bytes")?),
    };
    let tensor = match (size, input.data) {
        (Some(_), Some(_)) => return Err("it has both data and a binary_data_size".to_owned()),
        (None, None) => return Err("it has no data".to_owned()),
        (Some(size), None) => Tensor::new(datatype, shape, binary.take(size)?)?,
        (None, Some(data)) => json::read(datatype, shape, text_of(parameters.get("content_type"))?, data)?,
    };
    Ok(NamedTensor { name: input.name, tensor })
}

/// MLServer's content types, as far as they say how BYTES are written.
fn text_of(content_type: Option<&Value>) -> Result<Text, String> {
    match content_type.map(|value| value.as_str()) {
        None => Ok(Text::Plain),
        Some(Some("base64")) => Ok(Text::Base64),
        // Others say what clients make of the tensor, and change nothing here.
        Some(Some(_)) => Ok(Text::Plain),
        Some(None) => Err("its content_type is no text".to_owned()),
    }
}

fn output_form(output: &OutputBody) -> Result<Option<OutputForm>> {
    let Some(parameters) = &output.parameters else { return Ok(None) };
    let name = shortened(&output.name);
    if parameters.keys().any(|name| name == "classification" || name.starts_with("shared_memory_")) {
        let reason = format!("output `{name}`: classification and shared memory are not supported");
        return Err(Error::Invalid(reason));
    }
    let text = text_of(parameters.get("content_type"))
        .map_err(|reason| Error::Invalid(format!("output `{name}`: {reason}")))?;
    match parameters.get("binary_data") {
        Some(Value::Bool(true)) => Ok(Some(OutputForm::Binary)),
        Some(Value::Bool(false)) => Ok(Some(OutputForm::Json(text))),
        None if text == Text::Base64 => Ok(Some(OutputForm::Json(text))),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(Error::Invalid(format!("output `{name}`: its binary_data is neither true nor false"))),
    }
}

/// Parameters that are single values; those that are null are as good as left out.
fn scalars(parameters: Option<Map<String, Value>>, place: &str) -> Result<Parameters> {
    let mut read = Parameters::new();
    for (name, value) in parameters.unwrap_or_default() {
        let parameter = match value {
            Value::Null => continue,
            Value::Bool(value) => Parameter::Bool(value),
            Value::String(value) => Parameter::String(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), ..) => Parameter::Int64(value),
                (_, Some(value), _) => Parameter::Uint64(value),
                (.., value) => Parameter::Double(value.unwrap_or(f64::NAN)),
            },
            Value::Array(_) | Value::Object(_) => {
                let name = shortened(&name);
                return Err(Error::Invalid(format!("parameter `{name}` of {place} is neither text, number nor bool")));
            }
        };
        read.insert(name, parameter);
    }
    Ok(read)
}

fn flag(parameter: Option<Parameter>, name: &str) -> Result<Option<bool>> {
    match parameter {
        None => Ok(None),
        Some(Parameter::Bool(value)) => Ok(Some(value)),
        Some(_) => Err(Error::Invalid(format!("parameter `{name}` is neither true nor false"))),
    }
}

fn about_input(name: &str, reason: String) -> Error {
    Error::Invalid(format!("input `{}`: {reason}", shortened(name)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read_parts(json: &Value, binary: &[u8]) -> Result<ReadRequest> {
        let text = json.to_string();
        let bytes: Bytes = [text.as_bytes(), binary].concat().into();
        read(&bytes, Some(text.len()), &Limits::default())
    }

    fn refusal(json: Value, binary: &[u8]) -> String {
        let error = read_parts(&json, binary).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn binary_and_json_inputs_stand_side_by_side() {
        let request = json!({
            "id": "7", "model_name": "ignored",
            "parameters": {"priority": 1, "binary_data_output": true, "note": null},
            "inputs": [
                {"name": "a", "shape": [1, 2], "datatype": "INT16", "parameters": {"binary_data_size": 4}},
                {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2.5]]},
                {"name": "c", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
                {"name": "d", "shape": [1], "datatype": "BYTES", "data": ["aGk="], "parameters": {"content_type": "base64"}},
            ],
            "outputs": [{"name": "x", "parameters": {"binary_data": false}}, {"name": "y"}],
        });
        let read = read_parts(&request, b"\x01\0\x02\0\x02\0\0\0hi").unwrap();
        assert_eq!(read.inputs[0].tensor.data()[..], [1, 0, 2, 0]);
        assert_eq!(read.inputs[2].tensor.byte_elements(), ["hi"]);
        assert_eq!(read.inputs[3].tensor.byte_elements(), ["hi"]);
        assert_eq!(read.parameters, Parameters::from([("priority".to_owned(), Parameter::Int64(1))]));
        let (request, form) = read.for_model("m".to_owned(), None);
        assert_eq!(request.outputs, ["x", "y"]);
        assert_eq!(form.of("x"), OutputForm::Json(Text::Plain));
        assert_eq!(form.of("y"), OutputForm::Binary);
        assert_eq!(form.id.as_deref(), Some("7"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let input = |more: Value| {
            let mut input = json!({"name": "x", "shape": [2], "datatype": "FP32"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "inputs": [input] })
        };
        for (request, binary, said) in [
            (input(json!({})), &b""[..], "input `x`: it has no data"),
            (input(json!({"data": [1, 2], "parameters": {"binary_data_size": 8}})), &[0; 8], "both data and"),
            (input(json!({"data": [1]})), b"", "input `x`: its shape [2] has 2 elements, and its data has 1"),
            (input(json!({"parameters": {"binary_data_size": 8}})), &[0; 7], "and 7 bytes are left"),
            (input(json!({"parameters": {"binary_data_size": u64::MAX}})), &[0; 7], "and 7 bytes are left"),
            (input(json!({"parameters": {"binary_data_size": -1}})), &[0; 7], "is no number of bytes"),
            (input(json!({"parameters": {"binary_data_size": 4}})), &[0; 4], "is 8 bytes, and there are 4"),
            (input(json!({"parameters": {"binary_data_size": 8}})), &[0; 9], "1 bytes follow the last input"),
            (input(json!({"data": [1, 2], "shape": [-2]})), b"", "the negative dimension -2"),
            (input(json!({"data": [1, 2], "shape": [i64::MAX, 2]})), b"", "more elements than can be counted"),
            (input(json!({"data": [1, 2], "shape": [1.5]})), b"", "at line 1"),
            (input(json!({"data": [1, 2], "datatype": "FLOAT"})), b"", "`FLOAT` is no datatype"),
            (input(json!({"parameters": {"shared_memory_region": "r"}})), b"", "shared memory is not supported"),
            (json!({}), b"", "missing field `inputs`"),
            (json!([]), b"", "the request cannot be read"),
            (json!({"inputs": [], "parameters": {"a": []}}), b"", "parameter `a` of the request"),
            (json!({"inputs": [], "parameters": {"binary_data_output": 1}}), b"", "neither true nor false"),
            (json!({"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}), b"", "output `y`"),
            (
                json!({"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}),
                b"",
                "not supported",
            ),
        ] {
            let reason = refusal(request.clone(), binary);
            assert!(reason.contains(said), "{request}: {reason}");
        }
    }

    #[test]
    fn lengths_and_texts_that_lie_are_refused() {
        let limits = Limits { max_tensors: 2, ..Limits::default() };
        let bytes = Bytes::from_static(b"{\"inputs\": []}");
        for length in [3, 15, usize::MAX] {
            assert!(matches!(read(&bytes, Some(length), &limits), Err(Error::Invalid(_))), "{length}");
        }
        let nan =
            Bytes::from_static(br#"{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}"#);
        assert!(matches!(read(&nan, None, &limits), Err(Error::Invalid(_))));
        let deep = "[".repeat(200_000);
        for text in [deep.clone(), format!("{{\"parameters\": {deep}"), format!("{{\"inputs\": {deep}")] {
            assert!(matches!(read(&text.into(), None, &limits), Err(Error::Invalid(_))));
        }
        let input = json!({"name": "x", "shape": [0], "datatype": "FP32", "data": []});
        let many = json!({"inputs": [input, input, input]}).to_string();
        assert!(matches!(read(&many.into(), None, &limits), Err(Error::TooLarge { .. })));
    }
}
