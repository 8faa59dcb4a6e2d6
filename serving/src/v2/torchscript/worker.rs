//! The thread that runs a TorchScript model.

use std::sync::Arc;

use tch::{CModule, Device, IValue};
use tracing::warn;

use super::TorchScriptOptions;
use crate::Error;
use crate::batch::Work;
use crate::v2::Result;
use crate::v2::backend::TensorMetadata;
use crate::v2::signature::Signature;
use crate::v2::tensor::{Shape, Tensor, torch};

/// Reads a TorchScript file and tries it once.
pub fn read(signature: &Signature, device: Device) -> Result<CModule> {
    let unusable =
        |reason: String| Error::Setup(format!("the model at {} cannot be served: {reason}", signature.file.display()));
    // The profiling executor runs the first calls of every shape slowly to specialise the graph; shapes vary here.
    let set_up = tch::jit::f_set_profiling_mode(false).and_then(|()| tch::jit::f_set_tensor_expr_fuser_enabled(false));
    set_up.map_err(|error| unusable(error.to_string()))?;
    let mut module = CModule::load_on_device(&signature.file, device)
        .map_err(|error| unusable(format!("it is no TorchScript file that libtorch reads: {}", last_line(&error))))?;
    module.f_set_eval().map_err(|error| unusable(last_line(&error)))?;
    if let Some(inputs) = example(&signature.inputs) {
        let inputs: Vec<&[Tensor]> = vec![&inputs];
        forward(&module, signature, &inputs, device).map_err(|failure| {
            unusable(format!("it does not compute what its signature says: {}", failure.reason()))
        })?;
    }
    Ok(module)
}

/// Runs batches of requests, each the inputs in the model's order.
#[derive(Debug)]
pub struct Runner {
    module: Arc<CModule>,
    signature: Signature,
    device: Device,
    max_rows: i64,
    /// Whether requests may share a forward: all tensors have a first dimension of any extent.
    joins: bool,
}

impl Runner {
    /// A runner of this model.
    pub fn new(module: Arc<CModule>, signature: Signature, options: &TorchScriptOptions) -> Self {
        let tensors = signature.inputs.iter().chain(&signature.outputs);
        let joins = tensors.into_iter().all(|tensor| tensor.shape.first() == Some(&-1));
        Self { module, signature, device: options.device, max_rows: options.max_rows, joins }
    }

    /// Requests that may share a forward, by their places: those of equal shapes but for their rows.
    fn groups(&self, batch: &[Vec<Tensor>]) -> Vec<Vec<usize>> {
        let mut groups: Vec<(Vec<usize>, i64)> = Vec::new();
        for (at, inputs) in batch.iter().enumerate() {
            let rows = rows(inputs);
            let joinable = rows.filter(|_| self.joins);
            let group = joinable.and_then(|rows| {
                let fits = |(places, taken): &&mut (Vec<usize>, i64)| {
                    taken.saturating_add(rows) <= self.max_rows && alike(inputs, &batch[places[0]])
                };
                groups.iter_mut().find(fits)
            });
            match group {
                Some((places, taken)) => {
                    places.push(at);
                    *taken += rows.unwrap_or_default();
                }
                // Nothing is added to a request that shares no forward.
                None => groups.push((vec![at], joinable.unwrap_or(i64::MAX))),
            }
        }
        groups.into_iter().map(|(places, _)| places).collect()
    }

    fn run_group(&mut self, batch: &[Vec<Tensor>], places: &[usize]) -> Vec<Result<Vec<Tensor>>> {
        let inputs: Vec<&[Tensor]> = places.iter().map(|place| batch[*place].as_slice()).collect();
        let failure = match forward(&self.module, &self.signature, &inputs, self.device) {
            Ok(answers) => return answers.into_iter().map(Ok).collect(),
            Err(failure) => failure,
        };
        if places.len() == 1 {
            return vec![Err(failure.into_error())];
        }
        if matches!(failure, Failure::Rows(_)) {
            warn!(
                file = %self.signature.file.display(),
                reason = failure.reason(),
                "the model does not keep the rows of its inputs; its requests share no forward any more"
            );
            self.joins = false;
        }
        // One request that the model refuses must not fail the others.
        let alone = |place: &usize| self.run_group(batch, &[*place]);
        places.iter().flat_map(alone).collect()
    }
}

impl Work<Vec<Tensor>, Vec<Tensor>> for Runner {
    fn run(&mut self, batch: Vec<Vec<Tensor>>) -> Vec<Result<Vec<Tensor>>> {
        let mut answers: Vec<Option<Result<Vec<Tensor>>>> = batch.iter().map(|_| None).collect();
        for places in self.groups(&batch) {
            let group = self.run_group(&batch, &places);
            for (place, answer) in places.into_iter().zip(group) {
                answers[place] = Some(answer);
            }
        }
        let missing = || Err(Error::Model("a request was left out of its batch".to_owned()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }
}

/// Why a forward gave nothing.
enum Failure {
    /// libtorch threw: the network cannot take these values, or the device failed.
    Torch(String),
    /// What came out is not what the signature says.
    Signature(String),
    /// What came out has other rows than what went in.
    Rows(String),
}

impl Failure {
    fn reason(&self) -> &str {
        match self {
            Self::Torch(reason) | Self::Signature(reason) | Self::Rows(reason) => reason,
        }
    }

    fn into_error(self) -> Error {
        match self {
            // The model was tried when it was loaded: what it cannot compute is in the request, unless the machine failed.
            Self::Torch(reason) if !is_machines(&reason) => {
                Error::Invalid(format!("the model refuses these inputs: {reason}"))
            }
            Self::Torch(reason) | Self::Signature(reason) | Self::Rows(reason) => Error::Model(reason),
        }
    }
}

/// One forward for all; the outputs of each.
fn forward(
    module: &CModule,
    signature: &Signature,
    requests: &[&[Tensor]],
    device: Device,
) -> Result<Vec<Vec<Tensor>>, Failure> {
    let mut arguments = Vec::with_capacity(signature.inputs.len());
    for at in 0..signature.inputs.len() {
        let tensors: Vec<&Tensor> = requests.iter().map(|inputs| &inputs[at]).collect();
        arguments.push(IValue::Tensor(torch::concatenated(&tensors, device).map_err(Failure::Torch)?));
    }
    let output = tch::no_grad(|| module.forward_is(&arguments)).map_err(|error| Failure::Torch(last_line(&error)))?;
    let mut outputs = Vec::new();
    for tensor in flattened(output)? {
        outputs.push(torch::read(&tensor).map_err(Failure::Torch)?);
    }
    check_outputs(&signature.outputs, &outputs)?;
    if let [_] = requests {
        outputs.truncate(signature.outputs.len());
        return Ok(vec![outputs]);
    }
    let counts: Vec<i64> = requests.iter().map(|inputs| rows(inputs).unwrap_or_default()).collect();
    let mut answers: Vec<Vec<Tensor>> = requests.iter().map(|_| Vec::new()).collect();
    for output in &outputs[..signature.outputs.len()] {
        for (answer, part) in answers.iter_mut().zip(split(output, &counts).map_err(Failure::Rows)?) {
            answer.push(part);
        }
    }
    Ok(answers)
}

/// The tensors that a network gives: one, a tuple or a list of them.
fn flattened(output: IValue) -> Result<Vec<tch::Tensor>, Failure> {
    match output {
        IValue::Tensor(tensor) => Ok(vec![tensor]),
        IValue::TensorList(tensors) => Ok(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            let tensor = |value| match value {
                IValue::Tensor(tensor) => Ok(tensor),
                _ => Err(Failure::Signature("the model gives a tuple of other things than tensors".to_owned())),
            };
            values.into_iter().map(tensor).collect()
        }
        _ => Err(Failure::Signature("the model gives neither a tensor nor a tuple of tensors".to_owned())),
    }
}

fn check_outputs(expected: &[TensorMetadata], outputs: &[Tensor]) -> Result<(), Failure> {
    if outputs.len() < expected.len() {
        let (given, said) = (outputs.len(), expected.len());
        return Err(Failure::Signature(format!("the model gives {given} tensors, and its signature says {said}")));
    }
    for (expected, output) in expected.iter().zip(outputs) {
        let shape = output.shape().dimensions();
        let fits = shape.len() == expected.shape.len()
            && shape.iter().zip(&expected.shape).all(|(is, must)| *must < 0 || is == must);
        if output.datatype() != expected.datatype || !fits {
            return Err(Failure::Signature(format!(
                "the model gives {} {} for `{}`, and its signature says {} {:?}",
                output.datatype(),
                output.shape(),
                expected.name,
                expected.datatype,
                expected.shape
            )));
        }
    }
    Ok(())
}

/// The rows of each request, which share the bytes of all.
fn split(tensor: &Tensor, counts: &[i64]) -> Result<Vec<Tensor>, String> {
    let all: i64 = counts.iter().sum();
    if tensor.shape().rows() != Some(all) {
        return Err(format!("{all} rows went in, and an output has the shape {}", tensor.shape()));
    }
    let size = tensor.data().len() / usize::try_from(all).unwrap_or(1).max(1);
    let mut from = 0;
    let mut parts = Vec::with_capacity(counts.len());
    for count in counts {
        let end = from + size * usize::try_from(*count).unwrap_or_default();
        parts.push(Tensor::new(tensor.datatype(), tensor.shape().with_rows(*count)?, tensor.data().slice(from..end))?);
        from = end;
    }
    Ok(parts)
}

/// The rows that all inputs of a request have; none if they differ.
fn rows(inputs: &[Tensor]) -> Option<i64> {
    let first = inputs.first()?.shape().rows()?;
    inputs.iter().all(|input| input.shape().rows() == Some(first)).then_some(first)
}

fn alike(a: &[Tensor], b: &[Tensor]) -> bool {
    rows(b).is_some() && a.iter().zip(b).all(|(a, b)| a.shape().dimensions()[1..] == b.shape().dimensions()[1..])
}

/// One row of zeros for each input, where nothing but the number of rows is open.
fn example(inputs: &[TensorMetadata]) -> Option<Vec<Tensor>> {
    let tensor = |input: &TensorMetadata| {
        let mut shape = input.shape.clone();
        if let Some(first) = shape.first_mut()
            && *first < 0
        {
            *first = 1;
        }
        let shape = Shape::new(shape).ok()?;
        let data = vec![0; shape.count().checked_mul(input.datatype.size()?)?];
        Tensor::new(input.datatype, shape, data.into()).ok()
    };
    inputs.iter().map(tensor).collect()
}

/// Whether libtorch speaks of the machine and not of the values.
fn is_machines(reason: &str) -> bool {
    ["CUDA", "cuDNN", "cuBLAS", "out of memory", "can't allocate"].iter().any(|word| reason.contains(word))
}

/// What libtorch says in the end, without the stack of the script.
fn last_line(error: &tch::TchError) -> String {
    let text = error.to_string();
    let said = text.lines().find_map(|line| line.trim().strip_prefix("RuntimeError: "));
    let line = said.or_else(|| text.lines().find(|line| !line.trim().is_empty())).unwrap_or_default();
    line.trim().to_owned()
}
