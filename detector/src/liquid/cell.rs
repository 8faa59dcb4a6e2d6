//! The closed-form continuous-time (CfC) cell: a recurrent cell whose state moves on by real time.
//!
//! Formulae of the default mode of the `ncps` reference (Hasani et al., "Closed-form continuous-time neural networks",
//! Nature Machine Intelligence 2022):
//!
//! ```text
//! z  = 1.7159 * tanh(0.666 * (B [x, h] + b))
//! f1 = tanh(W1 z + b1)     f2 = tanh(W2 z + b2)
//! g  = sigmoid((Wa z + ba) * dt + (Wb z + bb))
//! h' = f1 * (1 - g) + g * f2
//! ```

use tch::Tensor;
use tch::nn::{self, Init, Module};

/// Weights of one cell.
#[derive(Debug)]
pub struct CfcCell {
    backbone: nn::Linear,
    first: nn::Linear,
    second: nn::Linear,
    time_a: nn::Linear,
    time_b: nn::Linear,
}

impl CfcCell {
    /// Makes the weights under `path`, with the reference's names: `backbone`, `ff1`, `ff2`, `time_a`, `time_b`.
    ///
    /// Weights start as Glorot-uniform, biases at zero.
    pub fn new(path: &nn::Path<'_>, inputs: i64, units: i64, backbone_units: i64) -> Self {
        let layer = |name: &str, wide: i64, narrow: i64| nn::linear(path / name, wide, narrow, glorot(wide, narrow));
        Self {
            backbone: layer("backbone", inputs + units, backbone_units),
            first: layer("ff1", backbone_units, units),
            second: layer("ff2", backbone_units, units),
            time_a: layer("time_a", backbone_units, units),
            time_b: layer("time_b", backbone_units, units),
        }
    }

    /// The state after `gap`: `input` is B x inputs, `state` B x units, `gap` B x 1 in the unit of time of training.
    pub fn step(&self, input: &Tensor, state: &Tensor, gap: &Tensor) -> Tensor {
        let z = (self.backbone.forward(&Tensor::cat(&[input, state], 1)) * 0.666).tanh() * 1.7159;
        let first = self.first.forward(&z).tanh();
        let second = self.second.forward(&z).tanh();
        let gate = (self.time_a.forward(&z) * gap + self.time_b.forward(&z)).sigmoid();
        first * (1.0 - &gate) + gate * second
    }
}

fn glorot(inputs: i64, outputs: i64) -> nn::LinearConfig {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    nn::LinearConfig { ws_init: Init::Uniform { lo: -bound, up: bound }, bs_init: Some(Init::Const(0.0)), bias: true }
}
