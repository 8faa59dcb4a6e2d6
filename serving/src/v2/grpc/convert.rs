//! Messages of gRPC as requests, and answers as messages.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::Error;
use crate::v2::Result;
use crate::v2::backend::{InferRequest, InferResponse, Parameter, Parameters};
use crate::v2::limits::Limits;
use crate::v2::proto::infer_parameter::ParameterChoice;
use crate::v2::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::v2::proto::model_infer_response::InferOutputTensor;
use crate::v2::proto::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::v2::tensor::{Datatype, NamedTensor, Shape, Tensor, put_element, shortened};

/// How an answer's elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// In binary form, in `raw_output_contents`.
    Raw,
    /// In the fields of their datatypes.
    Typed,
}

/// Reads a request. An answer is written as the request was: callers without `raw_input_contents` may not read raw ones.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong and where.
pub fn read(message: ModelInferRequest, limits: &Limits) -> Result<(InferRequest, Contents)> {
    let too_many =
        |what: &str| Error::TooLarge { what: format!("the number of {what}"), limit: limits.max_tensors.to_string() };
    if message.inputs.len() > limits.max_tensors {
        return Err(too_many("inputs"));
    }
    if message.outputs.len() > limits.max_tensors {
        return Err(too_many("outputs"));
    }
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let (contents, inputs) = (raw.len(), message.inputs.len());
        return Err(Error::Invalid(format!("there are {contents} raw_input_contents for {inputs} inputs")));
    }
    let contents = if raw.is_empty() && !message.inputs.is_empty() { Contents::Typed } else { Contents::Raw };
    let mut raw = raw.into_iter();
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for input in message.inputs {
        let name = input.name.clone();
        let read = read_input(input, raw.next());
        inputs.push(read.map_err(|reason| Error::Invalid(format!("input `{}`: {reason}", shortened(&name))))?);
    }
    let mut outputs = Vec::with_capacity(message.outputs.len());
    for InferRequestedOutputTensor { name, parameters } in message.outputs {
        if parameters.keys().any(|key| key == "classification" || key.starts_with("shared_memory_")) {
            let name = shortened(&name);
            let reason = format!("output `{name}`: classification and shared memory are not supported");
            return Err(Error::Invalid(reason));
        }
        outputs.push(name);
    }
    let request = InferRequest {
        model: message.model_name,
        version: Some(message.model_version).filter(|version| !version.is_empty()),
        id: Some(message.id).filter(|id| !id.is_empty()),
        parameters: read_parameters(message.parameters),
        inputs,
        outputs,
    };
    Ok((request, contents))
}

/// Writes an answer. Datatypes that have no field of their own are raw in any case, and then all are.
pub fn write(response: InferResponse, id: String, contents: Contents) -> ModelInferResponse {
    let fieldless = |output: &NamedTensor| matches!(output.tensor.datatype(), Datatype::Fp16 | Datatype::Bf16);
    let raw = contents == Contents::Raw || response.outputs.iter().any(fieldless);
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::new();
    for NamedTensor { name, tensor } in response.outputs {
        let contents = if raw { None } else { Some(typed(&tensor)) };
        if raw {
            raw_output_contents.push(tensor.data().clone());
        }
        outputs.push(InferOutputTensor {
            name,
            datatype: tensor.datatype().name().to_owned(),
            shape: tensor.shape().dimensions().to_vec(),
            parameters: HashMap::new(),
            contents,
        });
    }
    ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id,
        parameters: response.parameters.into_iter().map(written_parameter).collect(),
        outputs,
        raw_output_contents,
    }
}

fn read_input(input: InferInputTensor, raw: Option<Bytes>) -> Result<NamedTensor, String> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    let datatype = Datatype::parse(&datatype)?;
    let shape = Shape::new(shape)?;
    if parameters.keys().any(|name| name.starts_with("shared_memory_")) {
        return Err("shared memory is not supported; send its contents".to_owned());
    }
    let typed = contents.filter(|contents| *contents != InferTensorContents::default());
    let data = match (raw, typed) {
        (Some(_), Some(_)) => return Err("it has both contents and raw_input_contents".to_owned()),
        (Some(raw), None) => raw,
        (None, typed) => elements(datatype, &shape, typed.unwrap_or_default())?,
    };
    Ok(NamedTensor { name, tensor: Tensor::new(datatype, shape, data)? })
}

/// The elements in binary form, from the field of their datatype.
fn elements(datatype: Datatype, shape: &Shape, contents: InferTensorContents) -> Result<Bytes, String> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let lengths = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ];
    let field = match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 if shape.count() == 0 => return Ok(Bytes::new()),
        Datatype::Fp16 | Datatype::Bf16 => return Err(format!("{datatype} must be in raw_input_contents")),
    };
    if let Some((other, _)) = lengths.iter().find(|(name, length)| *length > 0 && *name != field) {
        return Err(format!("{datatype} must be in {field}, and there are {other}"));
    }
    let count = lengths.iter().map(|(_, length)| length).sum::<usize>();
    if count != shape.count() {
        return Err(format!("its shape {shape} has {} elements, and its {field} have {count}", shape.count()));
    }
    let mut data = BytesMut::with_capacity(count.saturating_mul(datatype.size().unwrap_or_default()));
    let out_of_range = |at: usize| format!("element {at} is out of the range of {datatype}");
    match datatype {
        Datatype::Bool => bool_contents.into_iter().for_each(|element| data.put_u8(u8::from(element))),
        Datatype::Int8 => {
            for (at, element) in int_contents.into_iter().enumerate() {
                data.put_i8(element.try_into().map_err(|_| out_of_range(at))?);
            }
        }
        Datatype::Int16 => {
            for (at, element) in int_contents.into_iter().enumerate() {
                data.put_i16_le(element.try_into().map_err(|_| out_of_range(at))?);
            }
        }
        Datatype::Int32 => int_contents.into_iter().for_each(|element| data.put_i32_le(element)),
        Datatype::Int64 => int64_contents.into_iter().for_each(|element| data.put_i64_le(element)),
        Datatype::Uint8 => {
            for (at, element) in uint_contents.into_iter().enumerate() {
                data.put_u8(element.try_into().map_err(|_| out_of_range(at))?);
            }
        }
        Datatype::Uint16 => {
            for (at, element) in uint_contents.into_iter().enumerate() {
                data.put_u16_le(element.try_into().map_err(|_| out_of_range(at))?);
            }
        }
        Datatype::Uint32 => uint_contents.into_iter().for_each(|element| data.put_u32_le(element)),
        Datatype::Uint64 => uint64_contents.into_iter().for_each(|element| data.put_u64_le(element)),
        Datatype::Fp32 => fp32_contents.into_iter().for_each(|element| data.put_f32_le(element)),
        Datatype::Fp64 => fp64_contents.into_iter().for_each(|element| data.put_f64_le(element)),
        Datatype::Bytes => {
            for element in bytes_contents {
                put_element(&mut data, &element)?;
            }
        }
        Datatype::Fp16 | Datatype::Bf16 => {}
    }
    Ok(data.freeze())
}

/// The elements in the field of their datatype.
fn typed(tensor: &Tensor) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    match tensor.datatype() {
        Datatype::Bool => contents.bool_contents = each(tensor, |[byte]: [u8; 1]| byte != 0),
        Datatype::Int8 => contents.int_contents = each(tensor, |bytes| i8::from_le_bytes(bytes).into()),
        Datatype::Int16 => contents.int_contents = each(tensor, |bytes| i16::from_le_bytes(bytes).into()),
        Datatype::Int32 => contents.int_contents = each(tensor, i32::from_le_bytes),
        Datatype::Int64 => contents.int64_contents = each(tensor, i64::from_le_bytes),
        Datatype::Uint8 => contents.uint_contents = each(tensor, |bytes| u8::from_le_bytes(bytes).into()),
        Datatype::Uint16 => contents.uint_contents = each(tensor, |bytes| u16::from_le_bytes(bytes).into()),
        Datatype::Uint32 => contents.uint_contents = each(tensor, u32::from_le_bytes),
        Datatype::Uint64 => contents.uint64_contents = each(tensor, u64::from_le_bytes),
        Datatype::Fp32 => contents.fp32_contents = each(tensor, f32::from_le_bytes),
        Datatype::Fp64 => contents.fp64_contents = each(tensor, f64::from_le_bytes),
        Datatype::Bytes => contents.bytes_contents = tensor.byte_elements(),
        Datatype::Fp16 | Datatype::Bf16 => {}
    }
    contents
}

fn each<const SIZE: usize, T>(tensor: &Tensor, read: impl Fn([u8; SIZE]) -> T) -> Vec<T> {
    let (elements, _) = tensor.data().as_chunks::<SIZE>();
    elements.iter().map(|element| read(*element)).collect()
}

fn read_parameters(parameters: HashMap<String, InferParameter>) -> Parameters {
    let read = |(name, InferParameter { parameter_choice })| {
        let parameter = match parameter_choice? {
            ParameterChoice::BoolParam(value) => Parameter::Bool(value),
            ParameterChoice::Int64Param(value) => Parameter::Int64(value),
            ParameterChoice::Uint64Param(value) => Parameter::Uint64(value),
            ParameterChoice::DoubleParam(value) => Parameter::Double(value),
            ParameterChoice::StringParam(value) => Parameter::String(value),
        };
        Some((name, parameter))
    };
    parameters.into_iter().filter_map(read).collect()
}

fn written_parameter((name, parameter): (String, Parameter)) -> (String, InferParameter) {
    let choice = match parameter {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int64(value) => ParameterChoice::Int64Param(value),
        Parameter::Uint64(value) => ParameterChoice::Uint64Param(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::String(value) => ParameterChoice::StringParam(value),
    };
    (name, InferParameter { parameter_choice: Some(choice) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(
        datatype: &str,
        shape: &[i64],
        contents: InferTensorContents,
        raw: &[&'static [u8]],
    ) -> ModelInferRequest {
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            parameters: HashMap::new(),
            contents: Some(contents),
        };
        let raw_input_contents = raw.iter().map(|bytes| Bytes::from_static(bytes)).collect();
        ModelInferRequest { inputs: vec![input], raw_input_contents, ..ModelInferRequest::default() }
    }

    #[test]
    fn typed_contents_are_what_raw_ones_are() {
        let none = InferTensorContents::default;
        let cases = [
            ("BOOL", InferTensorContents { bool_contents: vec![true, false], ..none() }, &[1, 0][..]),
            ("INT8", InferTensorContents { int_contents: vec![-1, 7], ..none() }, &[255, 7]),
            ("INT16", InferTensorContents { int_contents: vec![-1, 7], ..none() }, &[255, 255, 7, 0]),
            ("UINT16", InferTensorContents { uint_contents: vec![65535, 7], ..none() }, &[255, 255, 7, 0]),
            (
                "INT64",
                InferTensorContents { int64_contents: vec![1, 2], ..none() },
                &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            ),
            ("FP32", InferTensorContents { fp32_contents: vec![0.0, 1.0], ..none() }, &[0, 0, 0, 0, 0, 0, 0x80, 0x3f]),
            (
                "BYTES",
                InferTensorContents { bytes_contents: vec!["hi".into(), "".into()], ..none() },
                b"\x02\0\0\0hi\0\0\0\0",
            ),
        ];
        for (datatype, contents, raw) in cases {
            let (request, kept) = read(message(datatype, &[2], contents.clone(), &[]), &Limits::default()).unwrap();
            assert_eq!(kept, Contents::Typed);
            assert_eq!(request.inputs[0].tensor.data()[..], *raw, "{datatype}");
            assert_eq!(typed(&request.inputs[0].tensor), contents, "{datatype}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let none = InferTensorContents::default;
        let floats = |count| InferTensorContents { fp32_contents: vec![1.0; count], ..none() };
        for (message, said) in [
            (message("FP32", &[2], floats(1), &[]), "has 2 elements, and its fp32_contents have 1"),
            (message("FP32", &[2], none(), &[]), "have 0"),
            (message("FP64", &[2], floats(2), &[]), "FP64 must be in fp64_contents, and there are fp32_contents"),
            (message("FP16", &[2], floats(2), &[]), "FP16 must be in raw_input_contents"),
            (message("FP32", &[2], floats(2), &[&[0; 8]]), "both contents and raw_input_contents"),
            (message("FP32", &[2], none(), &[&[0; 7]]), "is 8 bytes, and there are 7"),
            (message("FP32", &[2], none(), &[&[0; 8], &[0; 8]]), "2 raw_input_contents for 1 inputs"),
            (message("FP32", &[-1], none(), &[&[0; 8]]), "negative dimension"),
            (message("FP32", &[i64::MAX, i64::MAX], none(), &[&[0; 8]]), "more elements than can be counted"),
            (
                message("UINT8", &[1], InferTensorContents { uint_contents: vec![256], ..none() }, &[]),
                "out of the range",
            ),
            (message("BYTES", &[1], none(), &[b"\xff\0\0\0hi"]), "said to have 255 bytes"),
            (message("nothing", &[1], none(), &[]), "`nothing` is no datatype"),
        ] {
            let error = read(message, &Limits::default()).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn answers_are_raw_where_fields_are_missing() {
        let half = Tensor::new(Datatype::Fp16, Shape::new(vec![1]).unwrap(), Bytes::from_static(&[0, 0x3c])).unwrap();
        let float = Tensor::of_f32(Shape::new(vec![1]).unwrap(), &[1.0]).unwrap();
        let named = |tensor: &Tensor| NamedTensor { name: "y".to_owned(), tensor: tensor.clone() };
        let answer = |outputs| {
            let (model, version) = ("m".to_owned(), "1".to_owned());
            write(
                InferResponse { model, version, parameters: Parameters::new(), outputs },
                String::new(),
                Contents::Typed,
            )
        };
        let typed = answer(vec![named(&float)]);
        assert!(typed.raw_output_contents.is_empty() && typed.outputs[0].contents.is_some());
        let raw = answer(vec![named(&float), named(&half)]);
        assert_eq!(raw.raw_output_contents.len(), 2);
        assert!(raw.outputs.iter().all(|output| output.contents.is_none()));
    }
}
