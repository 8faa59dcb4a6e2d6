//! The networks on libtorch.

use std::path::Path;

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::{EMBEDDING_SIZE, Embedded, RawBoxes};
use crate::nms::COCO_CLASSES;
use crate::preprocess::{DETECTOR_SIDE, EMBEDDER_SIDE};
use crate::taxonomy::IMAGENET_CLASSES;
use crate::{Error, Result};

/// Both networks on one device. Calls may come from several threads at once.
#[derive(Debug)]
pub struct Networks {
    detector: CModule,
    embedder: CModule,
    device: Device,
}

impl Networks {
    /// Loads both files and runs each once, so that a file of the wrong shape is found here and not in a batch.
    pub fn load(detector: &Path, embedder: &Path, device: Device) -> Result<Self> {
        // The profiling executor runs the first calls of every thread slowly to specialise the graph; these graphs are
        // frozen, so there is nothing to gain.
        tch::jit::f_set_profiling_mode(false)?;
        tch::jit::f_set_tensor_expr_fuser_enabled(false)?;
        let networks =
            Self { detector: load_module(detector, device)?, embedder: load_module(embedder, device)?, device };
        let wrong = |path: &Path, error: &Error| Error::ModelFolder {
            path: path.to_owned(),
            reason: format!("it does not compute what safari expects: {error}"),
        };
        let side = |side: u32| vec![vec![0; (side * side * 3) as usize]];
        networks.boxes(&side(DETECTOR_SIDE)).map_err(|error| wrong(detector, &error))?;
        networks.embed(&side(EMBEDDER_SIDE)).map_err(|error| wrong(embedder, &error))?;
        Ok(networks)
    }

    /// Where they run.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Lets each call from this thread use so many threads.
    pub fn use_threads(&self, threads: i32) {
        tch::set_num_threads(threads);
    }

    /// Boxes of each picture; every picture is 300 x 300 RGB bytes in rows.
    pub fn boxes(&self, pictures: &[Vec<u8>]) -> Result<Vec<RawBoxes>> {
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let input = self.input(pictures, DETECTOR_SIDE)?;
        let outputs = run(&self.detector, input)?;
        let [boxes, scores, ..] = outputs.as_slice() else {
            return Err(shape_error("boxes and scores", &outputs));
        };
        let boxes = rows(boxes, pictures.len())?;
        let scores = rows(scores, pictures.len())?;
        if boxes[0].len() / 4 != scores[0].len() / COCO_CLASSES || scores[0].len() % COCO_CLASSES != 0 {
            return Err(shape_error("4 box values and 91 scores for each anchor", &outputs));
        }
        Ok(boxes.into_iter().zip(scores).map(|(boxes, scores)| RawBoxes { boxes, scores }).collect())
    }

    /// Features and class probabilities of each crop; every crop is 224 x 224 RGB bytes in rows.
    pub fn embed(&self, crops: &[Vec<u8>]) -> Result<Vec<Embedded>> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let input = self.input(crops, EMBEDDER_SIDE)?;
        let outputs = run(&self.embedder, input)?;
        let [embedding, logits, ..] = outputs.as_slice() else {
            return Err(shape_error("embedding and logits", &outputs));
        };
        let embedding = rows(embedding, crops.len())?;
        let probabilities = rows(&logits.f_softmax(-1, Kind::Float)?, crops.len())?;
        if embedding[0].len() != EMBEDDING_SIZE || probabilities[0].len() != IMAGENET_CLASSES {
            return Err(shape_error("1280 features and 1000 logits", &outputs));
        }
        Ok(embedding
            .into_iter()
            .zip(probabilities)
            .map(|(embedding, probabilities)| Embedded { embedding, probabilities })
            .collect())
    }

    /// N x side x side x 3 bytes on the device; the networks normalise them.
    fn input(&self, pictures: &[Vec<u8>], side: u32) -> Result<Tensor> {
        let side = i64::from(side);
        let tensor = match pictures {
            [one] => Tensor::f_from_slice(one)?,
            many => Tensor::f_from_slice(&many.concat())?,
        };
        Ok(tensor.f_view([pictures.len() as i64, side, side, 3])?.f_to_device(self.device)?)
    }
}

fn load_module(path: &Path, device: Device) -> Result<CModule> {
    let broken = |reason: String| Error::ModelFolder { path: path.to_owned(), reason };
    if !path.exists() {
        return Err(broken("the file is missing".to_owned()));
    }
    let mut module = CModule::load_on_device(path, device)
        .map_err(|error| broken(format!("it is no TorchScript file that libtorch reads: {}", first_line(&error))))?;
    module.f_set_eval()?;
    Ok(module)
}

fn run(module: &CModule, input: Tensor) -> Result<Vec<Tensor>> {
    let output = tch::no_grad(|| module.forward_is(&[IValue::Tensor(input)]))?;
    let IValue::Tuple(values) = output else {
        return Err(Error::Torch("the network returns no tuple".to_owned()));
    };
    Ok(values
        .into_iter()
        .filter_map(|value| match value {
            IValue::Tensor(tensor) => Some(tensor),
            _ => None,
        })
        .collect())
}

/// One flat list for each of the first dimension's `count` entries.
fn rows(tensor: &Tensor, count: usize) -> Result<Vec<Vec<f32>>> {
    let tensor = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let flat: Vec<f32> = Vec::try_from(tensor.f_flatten(0, -1)?)?;
    if flat.is_empty() || !flat.len().is_multiple_of(count) {
        return Err(shape_error("one row for each picture", &[tensor]));
    }
    Ok(flat.chunks_exact(flat.len() / count).map(<[f32]>::to_vec).collect())
}

fn shape_error(expected: &str, outputs: &[Tensor]) -> Error {
    let shapes: Vec<Vec<i64>> = outputs.iter().map(Tensor::size).collect();
    Error::Torch(format!("expected {expected}, the network returned shapes {shapes:?}"))
}

fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
