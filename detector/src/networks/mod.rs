//! The two networks of a model: boxes (SSDLite) and crop embedder (EfficientNet-Lite0), as TorchScript.

#[cfg(not(feature = "torch"))]
mod none;
#[cfg(feature = "torch")]
mod torch;

#[cfg(not(feature = "torch"))]
pub use none::Networks;
#[cfg(feature = "torch")]
pub use torch::Networks;

/// Values in an embedding.
pub const EMBEDDING_SIZE: usize = 1280;

/// What the boxes network says of one picture, before suppression.
#[derive(Debug, Clone)]
pub struct RawBoxes {
    /// Anchors x 4: ymin, xmin, ymax, xmax as shares of the picture.
    pub boxes: Vec<f32>,
    /// Anchors x 91: COCO scores, 0 to 1.
    pub scores: Vec<f32>,
}

/// What the embedder says of one crop.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// [`EMBEDDING_SIZE`] features.
    pub embedding: Vec<f32>,
    /// Probabilities of the ImageNet-1k classes.
    pub probabilities: Vec<f32>,
}
