//! Images a second: the whole job, the bare Rust loop and the Python peer, taking turns.

use crate::bare::Tally;
use crate::error::{Error, Result};
use crate::peer::{self, Peer, Settings};
use crate::photographs::{self, Photographs};
use crate::process;
use crate::results::{Row, median};
use crate::workplace::Workplace;

const WHOLE: &str = "whole job, start of the process included";
const INNER: &str = "task `infer` alone";
const LOOP: &str = "bare Rust loop";
const PEER: &str = "Python peer";

/// Least ratios that the project wants.
const LEAST_OF_BARE: f64 = 0.95;
const LEAST_OF_PEER: f64 = 1.5;

/// Photographs on which the peer's settings are tried.
const TUNING_IMAGES: usize = 48;

/// Seconds of one contestant, a number a round.
#[derive(Debug, Default)]
struct Times {
    /// With the start of the process and everything that it does.
    whole: Vec<f64>,
    /// Without: Safari's task `infer` and the bare loop with the networks' loading, the peer's loop even without that.
    inner: Vec<f64>,
}

/// The peer with its fastest settings.
struct TunedPeer {
    peer: Peer,
    settings: Settings,
}

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let photographs = photographs::make(&place.root, place.images)?;
    let peer = find_peer(place, &photographs)?;
    let (mut job, mut bare, mut python) = (Times::default(), Times::default(), Times::default());
    let (mut boxes_of_bare, mut boxes_of_peer) = (0, 0);
    let rounds = place.pick(5, 3);
    for round in 1..=rounds {
        eprintln!("  round {round} of {rounds}");
        run_job(place, &photographs, &mut job)?;
        boxes_of_bare = run_bare(place, &photographs, &mut bare)?;
        if let Ok(tuned) = &peer {
            boxes_of_peer = run_peer(place, tuned, &photographs, &mut python)?;
        }
    }
    let rate = |seconds: &[f64]| place.images as f64 / median(seconds);
    let against = |what: &str, other: &str, ours: &[f64], theirs: &[f64]| {
        Row::compare(what, other, "images/s", (rate(ours), rate(theirs)), true)
    };
    let kilobytes = photographs.bytes / place.images as u64 / 1000;
    let set = format!("{} JPEGs of {kilobytes} kB, medians of {rounds} rounds", place.images);
    let mut rows = vec![
        against(WHOLE, LOOP, &job.whole, &bare.whole)
            .at_least(LEAST_OF_BARE)
            .note(format!("{set}; {boxes_of_bare} boxes in the loop")),
        against(INNER, LOOP, &job.inner, &bare.inner).note("both with the networks' loading"),
    ];
    match &peer {
        Ok(tuned) => rows.extend([
            against(WHOLE, PEER, &job.whole, &python.whole)
                .at_least(LEAST_OF_PEER)
                .note(format!("{}; {boxes_of_peer} boxes", tuned.settings)),
            against(INNER, PEER, &job.inner, &python.inner).note("the peer's without its imports and loading"),
        ]),
        Err(reason) => rows.push(Row::alone(WHOLE, PEER, "images/s", rate(&job.whole)).note(reason.as_str())),
    }
    Ok(rows)
}

/// The tuned peer, or why there is none.
fn find_peer(place: &Workplace, photographs: &Photographs) -> Result<std::result::Result<TunedPeer, String>> {
    match peer::find(place) {
        Ok(peer) => {
            let settings = peer.tune(photographs.folder(), TUNING_IMAGES)?;
            Ok(Ok(TunedPeer { peer, settings }))
        }
        Err(reason) => {
            eprintln!("  {PEER} {reason}");
            Ok(Err(reason))
        }
    }
}

fn run_job(place: &Workplace, photographs: &Photographs, times: &mut Times) -> Result<()> {
    let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    let ended = process::time(place.whole_job(photographs.folder(), home.path()))?;
    if !ended.stderr.contains(&format!("ingest: {} media to look at", place.images)) {
        return Err(Error::failed("safari", format!("it did not look at all photographs:\n{}", ended.stderr)));
    }
    let inner = infer_seconds(&ended.stderr)
        .ok_or_else(|| Error::failed("safari", format!("it did not say how long infer took:\n{}", ended.stderr)))?;
    times.whole.push(ended.seconds);
    times.inner.push(inner);
    Ok(())
}

fn run_bare(place: &Workplace, photographs: &Photographs, times: &mut Times) -> Result<usize> {
    let ended = process::time(place.bare_loop(photographs.folder()))?;
    let tally = Tally::read("bench bare", &ended.stdout)?;
    check_count("bench bare", &tally, place)?;
    times.whole.push(ended.seconds);
    times.inner.push(tally.load_seconds + tally.seconds);
    Ok(tally.boxes)
}

fn run_peer(place: &Workplace, tuned: &TunedPeer, photographs: &Photographs, times: &mut Times) -> Result<usize> {
    let (ended, tally) = tuned.peer.look(photographs.folder(), &tuned.settings)?;
    check_count("peer.py", &tally, place)?;
    times.whole.push(ended.seconds);
    times.inner.push(tally.seconds);
    Ok(tally.boxes)
}

fn check_count(program: &str, tally: &Tally, place: &Workplace) -> Result<()> {
    if tally.images == place.images {
        return Ok(());
    }
    Err(Error::failed(program, format!("it looked at {} of {} photographs", tally.images, place.images)))
}

/// How long the task `infer` took, by Safari's own words: `infer: 34 items in 1 parts, 14.7 a second (2.3 s)`.
fn infer_seconds(stderr: &str) -> Option<f64> {
    let line = stderr.lines().rev().find(|line| line.starts_with("infer: ") && line.ends_with(" s)"))?;
    line.rsplit_once('(')?.1.strip_suffix(" s)")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_infer_is_read_from_safaris_lines() {
        let lines = "infer: started\ninfer: 34 items in 1 parts, 14.7 a second (2.3 s)\nreport: started\n";
        assert_eq!(infer_seconds(lines), Some(2.3));
        assert_eq!(infer_seconds("infer: started\n"), None);
    }
}
