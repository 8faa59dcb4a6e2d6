//! Several liquid networks that answer as one: the mean of their probabilities, sharpened by one measured number.
//!
//! Each member was fitted with another part of the photographs held out ([`crate::train::fit`]), so that they err apart.

use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::features::Batch;
use super::network::{Network, Sizes, State, Step};

/// The members and the number; weights live in the [`VarStore`] they were made in.
#[derive(Debug)]
pub struct Ensemble {
    members: Vec<Network>,
    /// What the logarithm of the mean is multiplied by, so that 70 % means right in seven of ten.
    sharpness: Tensor,
}

/// What the members know after some frames.
#[derive(Debug)]
pub struct States(Vec<State>);

impl Ensemble {
    /// Makes the weights of `members` networks in `store`.
    pub fn new(store: &VarStore, members: usize, sizes: Sizes) -> Self {
        let root = store.root();
        let networks = (0..members).map(|number| Network::new(&(&root / "members" / number), sizes)).collect();
        Self { members: networks, sharpness: root.ones_no_train("sharpness", &[1]) }
    }

    /// How many members a file's tensors have, and their sizes; none if they are no network of this kind.
    pub fn sizes_in(tensors: &[(String, Tensor)]) -> Option<(usize, Sizes)> {
        let size = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor.size());
        let members = (0..).take_while(|number| size(&format!("members.{number}.nothing")).is_some()).count();
        let cell = size("members.0.cell.ff1.weight")?;
        match (size("members.0.nothing")?.as_slice(), cell.as_slice()) {
            (&[taxa], &[units, backbone]) => Some((members, Sizes { taxa, units, backbone })),
            _ => None,
        }
    }

    /// The members.
    pub fn members(&self) -> &[Network] {
        &self.members
    }

    /// Number of taxa.
    pub fn taxa(&self) -> i64 {
        self.members[0].taxa()
    }

    /// Sets the number that makes the answers sharper (above 1) or softer.
    pub fn set_sharpness(&self, sharpness: f64) {
        tch::no_grad(|| {
            let _ = self.sharpness.shallow_clone().fill_(sharpness);
        });
    }

    /// Judges bursts: B x K log probabilities.
    pub fn forward(&self, batch: &Batch) -> Tensor {
        let answers: Vec<Tensor> =
            self.members.iter().map(|member| member.forward(batch, 0.0).log_probabilities).collect();
        self.joined(&answers)
    }

    /// The states before any frame of one burst, whose embeddings have `looks` values.
    pub fn begin(&self, looks: i64) -> States {
        States(self.members.iter().map(|member| member.begin(1, looks)).collect())
    }

    /// The states after one more frame.
    pub fn step(&self, states: &States, step: &Step) -> States {
        States(self.members.iter().zip(&states.0).map(|(member, state)| member.step(state, step, 0.0).0).collect())
    }

    /// What the frames so far say: 1 x K log probabilities.
    pub fn answer(&self, states: &States) -> Tensor {
        let answers: Vec<Tensor> =
            self.members.iter().zip(&states.0).map(|(member, state)| member.answer(state)).collect();
        self.joined(&answers)
    }

    fn joined(&self, answers: &[Tensor]) -> Tensor {
        let mean = Tensor::stack(answers, 0).logsumexp([0_i64].as_slice(), false);
        (mean * &self.sharpness).log_softmax(1, Kind::Float)
    }
}
