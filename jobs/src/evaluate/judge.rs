//! Shows labelled sequences to a model's engine and says what it makes of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use detector::engine::Engine;
use detector::identify::Detection;
use detector::model::Model;
use detector::nms::Category;
use detector::taxonomy::Taxonomy;
use futures::StreamExt;
use platform::object_store::ObjectStore;

use super::score::Said;
use crate::infer::{self, Looked};
use crate::labelled::{Label, Sequence};
use crate::manifest::{Burst, Entry};
use crate::services::{READ_AHEAD, Services, configured_device, engine_options};
use crate::{Error, Result};

/// What a model made of labelled sequences.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The label of each sequence and what was said of it.
    pub(super) answers: Vec<(Label, Said)>,
    /// sha256 of the media by key.
    pub(super) contents: BTreeMap<String, String>,
    /// Media that could not be read.
    pub(super) failures: u64,
}

/// An engine for the model in `folder`.
pub(crate) async fn start(services: &Services, folder: &Path) -> Result<Engine> {
    let (config, folder) = (services.config().clone(), folder.to_owned());
    let load = tokio::task::spawn_blocking(move || {
        let model = Model::load(&folder, configured_device(&config)?)?;
        Engine::start(Arc::new(model), engine_options(&config))
    });
    Ok(load.await.map_err(|_| detector::Error::Stopped)??)
}

/// Ends an engine's threads, for which dropping it waits.
pub(crate) async fn stop(engine: Engine) {
    let _ = tokio::task::spawn_blocking(move || drop(engine)).await;
}

/// Looks at all media of the sequences. `told` hears how many media are done, and says whether to go on.
pub(super) async fn judge(
    services: &Services,
    engine: &Engine,
    store: &Arc<dyn ObjectStore>,
    sequences: &[&Sequence],
    told: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Verdict> {
    let (max_bytes, threshold) = (services.config().detector.max_bytes, services.config().rollup.threshold);
    let entries: Vec<Entry> = sequences.iter().flat_map(|sequence| sequence.media.clone()).collect();
    let mut looks = futures::stream::iter(entries.into_iter().map(|entry| {
        let (store, engine) = (Arc::clone(store), engine.clone());
        async move { infer::look(store.as_ref(), &engine, &entry, max_bytes).await }
    }))
    .buffered(engine.useful_concurrency() + READ_AHEAD);
    let (mut verdict, mut done) = (Verdict::default(), 0);
    for sequence in sequences {
        let burst = Burst { id: None, media: sequence.media.clone() };
        let mut looked: Vec<Looked> = Vec::with_capacity(burst.media.len());
        while looked.len() < burst.media.len() {
            let Some(next) = looks.next().await else { break };
            looked.push(next?);
            done += 1;
            if !told(done) {
                return Err(Error::Interrupted);
            }
        }
        for (entry, looked) in burst.media.iter().zip(&looked) {
            verdict.failures += u64::from(looked.outcome.is_err());
            verdict.contents.extend(looked.sha256.clone().map(|sha256| (entry.key.clone(), sha256)));
        }
        let readable = looked.iter().any(|looked| looked.outcome.is_ok());
        let named = infer::name(engine, &burst, &looked, threshold)?;
        let said = if readable { said(&named, &engine.model().taxonomy) } else { Said::Nothing };
        verdict.answers.push((sequence.label.clone(), said));
    }
    Ok(verdict)
}

/// What the boxes of a sequence come to: the name of the animal, person or vehicle that was seen most surely and most often.
fn said(named: &[Vec<Vec<Detection>>], taxonomy: &Taxonomy) -> Said {
    let mut weights: BTreeMap<usize, f32> = BTreeMap::new();
    let detections = || named.iter().flatten().flatten();
    for detection in detections() {
        *weights.entry(detection.track).or_default() += detection.confidence;
    }
    let heaviest = weights.into_iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    let surest = heaviest.and_then(|(track, _)| {
        let of_track = detections().filter(|detection| detection.track == track);
        of_track.max_by(|a, b| a.confidence.total_cmp(&b.confidence))
    });
    let Some(surest) = surest else { return Said::Blank };
    match surest.category {
        Category::Person => Said::Person,
        Category::Vehicle => Said::Vehicle,
        Category::Animal => animal(surest, taxonomy),
    }
}

fn animal(detection: &Detection, taxonomy: &Taxonomy) -> Said {
    let answer = detection.identification.as_ref();
    let top = answer.and_then(|answer| answer.top.first());
    let likeliest = top.and_then(|top| {
        taxonomy
            .taxa()
            .iter()
            .position(|taxon| taxon.scientific_name == top.scientific_name && taxon.common_name == top.common_name)
    });
    let depth = answer.map_or(0, |answer| answer.lineage.split(';').filter(|name| !name.is_empty()).count());
    likeliest.map_or(Said::Nothing, |likeliest| Said::Animal { likeliest, depth })
}
