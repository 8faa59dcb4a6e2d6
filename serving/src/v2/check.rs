//! Whether a request's tensors are those of a model's metadata.

use super::backend::{InferRequest, TensorMetadata};
use super::tensor::{NamedTensor, Tensor};
use crate::{Error, Result};

/// The inputs in the model's order.
///
/// # Errors
/// [`Error::Invalid`] with the first one that is missing, unknown, named twice, or of another datatype or shape.
pub fn inputs(request: &InferRequest, expected: &[TensorMetadata]) -> Result<Vec<Tensor>> {
    let model = &request.model;
    for (at, input) in request.inputs.iter().enumerate() {
        let name = &input.name;
        if !expected.iter().any(|expected| expected.name == *name) {
            let known = names(expected.iter().map(|expected| &expected.name));
            return Err(Error::Invalid(format!("model `{model}` has no input `{name}`; it has {known}")));
        }
        if request.inputs[..at].iter().any(|earlier| earlier.name == *name) {
            return Err(Error::Invalid(format!("input `{name}` is there twice")));
        }
    }
    expected.iter().map(|expected| input(request, expected)).collect()
}

/// Those outputs that the request wants, in its order.
///
/// # Errors
/// As [`output_names`].
pub fn chosen(request: &InferRequest, outputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>> {
    if request.outputs.is_empty() {
        return Ok(outputs);
    }
    let find = |name: &String| {
        let output = outputs.iter().find(|output| output.name == *name).cloned();
        output.ok_or_else(|| Error::Model(format!("the model gave no output `{name}`")))
    };
    request.outputs.iter().map(find).collect()
}

/// Checks the names of the outputs that the request wants, before the model is asked.
///
/// # Errors
/// [`Error::Invalid`] with the first one that the model has not, or that is there twice.
pub fn output_names(request: &InferRequest, outputs: &[TensorMetadata]) -> Result<()> {
    for (at, name) in request.outputs.iter().enumerate() {
        if !outputs.iter().any(|output| output.name == *name) {
            let known = names(outputs.iter().map(|output| &output.name));
            let model = &request.model;
            return Err(Error::Invalid(format!("model `{model}` has no output `{name}`; it has {known}")));
        }
        if request.outputs[..at].contains(name) {
            return Err(Error::Invalid(format!("output `{name}` is asked for twice")));
        }
    }
    Ok(())
}

fn input(request: &InferRequest, expected: &TensorMetadata) -> Result<Tensor> {
    let name = &expected.name;
    let Some(input) = request.inputs.iter().find(|input| input.name == *name) else {
        return Err(Error::Invalid(format!("input `{name}` of model `{}` is missing", request.model)));
    };
    let tensor = &input.tensor;
    if tensor.datatype() != expected.datatype {
        let (is, must) = (tensor.datatype(), expected.datatype);
        return Err(Error::Invalid(format!("input `{name}` is {is}, and the model takes {must}")));
    }
    let shape = tensor.shape().dimensions();
    let fits = |(is, must): (&i64, &i64)| *must < 0 || is == must;
    if shape.len() != expected.shape.len() || !shape.iter().zip(&expected.shape).all(fits) {
        return Err(Error::Invalid(format!(
            "input `{name}` has the shape {}, and the model takes {:?} (-1 is any)",
            tensor.shape(),
            expected.shape
        )));
    }
    if tensor.shape().count() == 0 {
        return Err(Error::Invalid(format!("input `{name}` of shape {} has no elements", tensor.shape())));
    }
    Ok(tensor.clone())
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
