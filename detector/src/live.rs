//! A burst that is still going on: frames come one by one, and each is named by all that the burst has shown so far.
//!
//! What is kept of a burst does not grow with its frames: the liquid network's state and the last look of each animal.

use crate::Result;
use crate::identify::{self, Detection};
use crate::liquid::{BurstState, LiquidFrame, baselines};
use crate::model::Model;
use crate::nms::Category;
use crate::sighting::Sighting;
use crate::track;

/// Most animals that are followed at once; what comes beyond is named by its own look.
const MAX_TRACKS: usize = 64;

/// A burst so far. It belongs to the model that its frames were shown to.
#[derive(Debug, Default)]
pub struct LiveBurst {
    tracks: Vec<Track>,
    frames: usize,
}

#[derive(Debug)]
struct Track {
    last: Sighting,
    seconds: f64,
    state: BurstState,
    /// Sum of the frames' logits, for models without a liquid network.
    sum: Vec<f32>,
    looks: usize,
}

impl LiveBurst {
    /// Frames so far.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Names the next frame's sightings, `seconds` after the burst's start.
    ///
    /// The answer for the last frame of a burst is [`identify::identify`]'s, but for the order of sums.
    pub fn push(
        &mut self,
        model: &Model,
        sightings: &[Sighting],
        seconds: f64,
        threshold: f32,
    ) -> Result<Vec<Detection>> {
        self.frames += 1;
        let last: Vec<&Sighting> = self.tracks.iter().map(|track| &track.last).collect();
        let seen: Vec<&Sighting> = sightings.iter().collect();
        let continued = track::continued(&last, &seen);
        let mut named = Vec::with_capacity(sightings.len());
        for (sighting, track) in sightings.iter().zip(continued) {
            let place = track.unwrap_or(self.tracks.len());
            if place >= MAX_TRACKS {
                let own = own_look(sighting);
                named.push(identify::named(model, sighting, place, own.as_deref(), threshold));
                continue;
            }
            let judged = self.follow(model, place, sighting, seconds)?;
            named.push(identify::named(model, sighting, place, judged.as_deref(), threshold));
        }
        Ok(named)
    }

    /// Adds a sighting to its track and gives the probabilities over all taxa; none for persons and vehicles.
    fn follow(&mut self, model: &Model, place: usize, sighting: &Sighting, seconds: f64) -> Result<Option<Vec<f32>>> {
        let gap = match self.tracks.get_mut(place) {
            Some(track) => {
                let gap = (seconds - track.seconds).max(0.0);
                (track.last, track.seconds) = (sighting.clone(), seconds);
                gap
            }
            None => {
                let (last, state) = (sighting.clone(), BurstState::default());
                self.tracks.push(Track { last, seconds, state, sum: Vec::new(), looks: 0 });
                1.0
            }
        };
        if sighting.scored.category != Category::Animal {
            return Ok(None);
        }
        let frame = LiquidFrame { sighting, gap_seconds: gap as f32 };
        let track = &mut self.tracks[place];
        track.looks += 1;
        let Some(liquid) = &model.liquid else {
            return Ok(Some(track.mean_with(sighting)));
        };
        track.state = liquid.push(std::mem::take(&mut track.state), frame)?;
        // A lone photograph is no burst, as in `identify`.
        if self.frames == 1 {
            return Ok(own_look(sighting));
        }
        let answer = liquid.answer(&track.state)?;
        Ok(answer.map(|log_probabilities| log_probabilities.iter().map(|l| l.exp()).collect()))
    }
}

impl Track {
    /// The mean of all frames' log probabilities, as probabilities that sum to one: [`baselines::mean_of_logits`].
    fn mean_with(&mut self, sighting: &Sighting) -> Vec<f32> {
        let own = &sighting.evidence.log_probabilities;
        self.sum.resize(own.len(), 0.0);
        for (sum, own) in self.sum.iter_mut().zip(own) {
            *sum += own;
        }
        let exps: Vec<f32> = self.sum.iter().map(|sum| (sum / self.looks as f32).exp()).collect();
        let total: f32 = exps.iter().sum();
        exps.into_iter().map(|value| value / total).collect()
    }
}

fn own_look(sighting: &Sighting) -> Option<Vec<f32>> {
    let alone = [LiquidFrame { sighting, gap_seconds: 1.0 }];
    (sighting.scored.category == Category::Animal)
        .then(|| baselines::mean_of_logits(&alone).iter().map(|l| l.exp()).collect())
}
