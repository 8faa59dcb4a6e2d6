//! Bursts: the frames that one camera took in quick succession, which show one event.

use chrono::{DateTime, Utc};

/// When two frames belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstOptions {
    /// Longest gap between two frames of a burst, in seconds.
    pub gap_seconds: f64,
    /// Most frames in a burst; a camera that never stops is cut there.
    pub max_frames: usize,
}

impl Default for BurstOptions {
    fn default() -> Self {
        Self { gap_seconds: 60.0, max_frames: 64 }
    }
}

/// Where and when a photograph was taken, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The camera at its place: the folder that holds the photograph.
    pub deployment: String,
    /// When, if the photograph says so and its clock can be trusted within the burst.
    pub at: Option<DateTime<Utc>>,
}

/// Groups photographs into bursts: lists of indices into `photographs`, each in order of time.
///
/// A photograph without a time is a burst of its own. The bursts are sorted by deployment and time, those without a
/// time last in a deployment in their given order.
pub fn group(photographs: &[Taken], options: &BurstOptions) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..photographs.len()).collect();
    order.sort_by(|&a, &b| {
        let (a_taken, b_taken) = (&photographs[a], &photographs[b]);
        a_taken
            .deployment
            .cmp(&b_taken.deployment)
            .then_with(|| a_taken.at.is_none().cmp(&b_taken.at.is_none()))
            .then_with(|| a_taken.at.cmp(&b_taken.at))
            .then(a.cmp(&b))
    });
    let mut bursts: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match bursts.last_mut() {
            Some(burst) if burst.len() < options.max_frames && follows(photographs, burst, index, options) => {
                burst.push(index);
            }
            _ => bursts.push(vec![index]),
        }
    }
    bursts
}

/// Seconds between one frame and the one before it; 1 for the first, as the liquid cell has it without a gap.
pub fn gaps_seconds(times: &[DateTime<Utc>]) -> Vec<f64> {
    let first = (!times.is_empty()).then_some(1.0);
    let later = times.windows(2).map(|pair| ((pair[1] - pair[0]).as_seconds_f64()).max(0.0));
    first.into_iter().chain(later).collect()
}

fn follows(photographs: &[Taken], burst: &[usize], index: usize, options: &BurstOptions) -> bool {
    let Some(&last) = burst.last() else { return false };
    let (last, next) = (&photographs[last], &photographs[index]);
    let (Some(last_at), Some(next_at)) = (last.at, next.at) else { return false };
    last.deployment == next.deployment && (next_at - last_at).as_seconds_f64() <= options.gap_seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(deployment: &str, second: Option<i64>) -> Taken {
        Taken {
            deployment: deployment.to_owned(),
            at: second.and_then(|s| DateTime::from_timestamp(1_700_000_000 + s, 0)),
        }
    }

    #[test]
    fn a_gap_of_sixty_seconds_still_joins() {
        let photographs =
            [taken("a", Some(121)), taken("a", Some(0)), taken("a", Some(60)), taken("b", Some(61)), taken("a", None)];
        assert_eq!(group(&photographs, &BurstOptions::default()), [vec![1, 2], vec![0], vec![4], vec![3]]);
    }

    #[test]
    fn an_endless_burst_is_cut() {
        let photographs: Vec<_> = (0..10).map(|s| taken("a", Some(s))).collect();
        let options = BurstOptions { max_frames: 4, ..BurstOptions::default() };
        let lengths: Vec<_> = group(&photographs, &options).iter().map(Vec::len).collect();
        assert_eq!(lengths, [4, 4, 2]);
    }

    #[test]
    fn gaps_are_real_seconds() {
        let times: Vec<_> = [0, 250, 10_250].into_iter().filter_map(DateTime::from_timestamp_millis).collect();
        assert_eq!(gaps_seconds(&times), [1.0, 0.25, 10.0]);
    }
}
