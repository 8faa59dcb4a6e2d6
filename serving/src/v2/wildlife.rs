//! Our own detection model under the protocol: encoded pictures in, boxes with names out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;

use super::backend::{InferRequest, InferResponse, Model, ModelMetadata, Parameters, Source, TensorMetadata};
use super::check;
use super::tensor::{Datatype, NamedTensor, Shape, Tensor};
use crate::batch::Terms;
use crate::{Error, Result};

/// The protocol's name of what runs this model.
pub const PLATFORM: &str = "safari_wildlife";

/// Pictures in one request at most.
pub const MAX_IMAGES: usize = 64;

/// What was found in one picture; the lists are as long as each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// xmin, ymin, xmax, ymax as shares of the picture.
    pub boxes: Vec<[f32; 4]>,
    /// What each box shows.
    pub labels: Vec<String>,
    /// How sure the model is of each, 0 to 1.
    pub scores: Vec<f32>,
    /// The version of the model that looked.
    pub version: String,
}

/// Looks at pictures.
#[async_trait]
pub trait Look: Send + Sync + 'static {
    /// What an encoded picture shows.
    ///
    /// # Errors
    /// The picture cannot be read; what the queue says.
    async fn look(&self, image: Bytes, terms: Terms) -> Result<Found>;

    /// The version that looks now.
    fn version(&self) -> String;

    /// Whether it can look now.
    fn ready(&self) -> bool;
}

/// The detection model as one of several models.
#[derive(Clone)]
pub struct Wildlife {
    look: Arc<dyn Look>,
}

impl Wildlife {
    /// Serves what `look` sees.
    pub fn new(look: Arc<dyn Look>) -> Self {
        Self { look }
    }
}

#[async_trait]
impl Source for Wildlife {
    /// It has been loaded by whoever looks, who also exchanges its versions.
    async fn load(&self) -> Result<Arc<dyn Model>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Model for Wildlife {
    fn metadata(&self) -> ModelMetadata {
        ModelMetadata {
            name: String::new(),
            versions: vec![self.look.version()],
            platform: PLATFORM.to_owned(),
            inputs: inputs(),
            outputs: vec![
                tensor("boxes", Datatype::Fp32, &[-1, 4]),
                tensor("labels", Datatype::Bytes, &[-1]),
                tensor("scores", Datatype::Fp32, &[-1]),
                tensor("image", Datatype::Int64, &[-1]),
            ],
        }
    }

    fn ready(&self) -> bool {
        self.look.ready()
    }

    async fn infer(&self, request: InferRequest, terms: Terms) -> Result<InferResponse> {
        let images = check::inputs(&request, &inputs())?;
        check::output_names(&request, &self.metadata().outputs)?;
        let images: Vec<Bytes> = images.iter().flat_map(Tensor::byte_elements).collect();
        if images.len() > MAX_IMAGES {
            return Err(Error::TooLarge { what: "the number of pictures".to_owned(), limit: MAX_IMAGES.to_string() });
        }
        // One that cannot be read or waits too long ends the others, too: an answer is whole.
        let found = try_join_all(images.into_iter().map(|image| self.look.look(image, terms))).await?;
        let version = found.first().map(|found| found.version.clone()).unwrap_or_else(|| self.look.version());
        let outputs = check::chosen(&request, outputs(&found).map_err(Error::Model)?)?;
        Ok(InferResponse { model: request.model, version, parameters: Parameters::new(), outputs })
    }
}

impl std::fmt::Debug for Wildlife {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wildlife").field("version", &self.look.version()).finish_non_exhaustive()
    }
}

fn inputs() -> Vec<TensorMetadata> {
    vec![tensor("image", Datatype::Bytes, &[-1])]
}

fn tensor(name: &str, datatype: Datatype, shape: &[i64]) -> TensorMetadata {
    TensorMetadata { name: name.to_owned(), datatype, shape: shape.to_vec() }
}

/// The boxes of all pictures one after the other, with the number of its picture for each.
fn outputs(found: &[Found]) -> super::Result<Vec<NamedTensor>, String> {
    let boxes: Vec<f32> = found.iter().flat_map(|found| found.boxes.as_flattened()).copied().collect();
    let labels: Vec<&String> = found.iter().flat_map(|found| &found.labels).collect();
    let scores: Vec<f32> = found.iter().flat_map(|found| &found.scores).copied().collect();
    let of = |(at, found): (usize, &Found)| std::iter::repeat_n(at as i64, found.boxes.len());
    let image: Vec<i64> = found.iter().enumerate().flat_map(of).collect();
    let count = image.len() as i64;
    let named = |name: &str, tensor| NamedTensor { name: name.to_owned(), tensor };
    Ok(vec![
        named("boxes", Tensor::of_f32(Shape::new(vec![count, 4])?, &boxes)?),
        named("labels", Tensor::of_bytes(&labels)?),
        named("scores", Tensor::of_f32(Shape::new(vec![count])?, &scores)?),
        named("image", Tensor::of_i64(Shape::new(vec![count])?, &image)?),
    ])
}
