//! The trained networks on libtorch.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::LiquidFrame;
use super::ensemble::{Ensemble, States};
use super::features::Batch;
use super::network::Step;
use crate::{Error, Result};

/// The trained networks. They run on the CPU: a burst takes less time there than its way to a GPU.
#[derive(Debug)]
pub struct BurstModel {
    // Tensors may go from thread to thread but not be shared.
    inner: Mutex<Inner>,
}

/// What is known of a burst so far; see [`BurstModel::begin`].
#[derive(Debug, Default)]
pub struct BurstState {
    states: Option<States>,
}

#[derive(Debug)]
struct Inner {
    ensemble: Ensemble,
    _store: VarStore,
}

impl BurstModel {
    /// Loads `liquid.safetensors`.
    pub fn load(path: &Path) -> Result<Self> {
        let broken = |reason: String| Error::ModelFolder { path: path.to_owned(), reason };
        if !path.exists() {
            return Err(broken("the file is missing".to_owned()));
        }
        let tensors =
            Tensor::read_safetensors(path).map_err(|error| broken(format!("it is no safetensors file: {error}")))?;
        let (members, sizes) = Ensemble::sizes_in(&tensors)
            .ok_or_else(|| broken("it holds no liquid network; make one with safari train".to_owned()))?;
        let mut store = VarStore::new(Device::Cpu);
        let ensemble = Ensemble::new(&store, members, sizes);
        store.load(path).map_err(|error| broken(format!("its tensors do not fit: {error}")))?;
        store.freeze();
        Ok(Self { inner: Mutex::new(Inner { ensemble, _store: store }) })
    }

    /// Number of taxa that it was trained for.
    pub fn taxa(&self) -> usize {
        self.inner().ensemble.taxa() as usize
    }

    /// Log probabilities over all taxa for the animal that these frames show, in order of time.
    ///
    /// Fails for no frames and for frames of a model with another number of taxa.
    pub fn judge(&self, frames: &[LiquidFrame<'_>]) -> Result<Vec<f32>> {
        let mut judged = self.judge_all(&[frames.to_vec()])?;
        Ok(judged.pop().unwrap_or_default())
    }

    /// [`BurstModel::judge`] for many bursts at once.
    pub fn judge_all(&self, bursts: &[Vec<LiquidFrame<'_>>]) -> Result<Vec<Vec<f32>>> {
        if bursts.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Batch::new(bursts)?;
        let inner = self.inner();
        check_taxa(&inner.ensemble, &batch)?;
        rows(&tch::no_grad(|| inner.ensemble.forward(&batch)))
    }

    /// A burst before its first frame.
    pub fn begin(&self) -> BurstState {
        BurstState::default()
    }

    /// Adds the burst's next frame.
    pub fn push(&self, state: BurstState, frame: LiquidFrame<'_>) -> Result<BurstState> {
        let batch = Batch::new(&[vec![frame]])?;
        let inner = self.inner();
        check_taxa(&inner.ensemble, &batch)?;
        let step = Step {
            own: batch.own.select(1, 0),
            evidence: batch.evidence.select(1, 0),
            looks: batch.looks.select(1, 0),
            gap: batch.gaps,
            mask: batch.mask,
        };
        tch::no_grad(|| {
            let before = match state.states {
                Some(states) => states,
                None => inner.ensemble.begin(step.looks.size()[1]),
            };
            Ok(BurstState { states: Some(inner.ensemble.step(&before, &step)) })
        })
    }

    /// Log probabilities over all taxa after the frames so far; none before the first.
    pub fn answer(&self, state: &BurstState) -> Result<Option<Vec<f32>>> {
        let Some(states) = &state.states else { return Ok(None) };
        let answer = tch::no_grad(|| self.inner().ensemble.answer(states));
        Ok(rows(&answer)?.pop())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The weights never change, so a thread that panicked with the lock left nothing half done.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One list of log probabilities a burst.
pub(crate) fn rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    let taxa = tensor.size()[1] as usize;
    let flat: Vec<f32> = Vec::try_from(tensor.f_contiguous()?.f_view([-1])?)?;
    Ok(flat.chunks_exact(taxa).map(<[f32]>::to_vec).collect())
}

fn check_taxa(ensemble: &Ensemble, batch: &Batch) -> Result<()> {
    let (expected, found) = (ensemble.taxa(), batch.evidence.size()[2]);
    if expected == found {
        return Ok(());
    }
    let reason = format!("the liquid network was trained for {expected} taxa, the vocabulary has {found}");
    Err(Error::Torch(reason))
}
