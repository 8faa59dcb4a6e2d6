//! Images a second: the whole job beside the bare Rust loop, in turns of a fraction of a second, and beside the Python
//! peer, one run after the other.

use crate::bare::Tally;
use crate::error::{Error, Result};
use crate::peer::{self, Peer, Settings};
use crate::photographs::{self, Photographs};
use crate::process::{self, Ended};
use crate::results::{Row, median};
use crate::turns::take_turns;
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
    /// Without: Safari's task `infer` with the networks' loading, the peer's loop even without that.
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
    let mut rows = vec![beside_the_loop(place, &photographs)?];
    match find_peer(place, &photographs)? {
        Ok(tuned) => rows.extend(beside_the_peer(place, &photographs, &tuned)?),
        Err(reason) => rows.push(Row::skipped(WHOLE, PEER, "images/s", &reason)),
    }
    Ok(rows)
}

/// The goal lies close to one, and the machine's speed may change by a fifth within seconds: hence the turns.
fn beside_the_loop(place: &Workplace, photographs: &Photographs) -> Result<Row> {
    let rounds = place.pick(5, 3);
    let (mut ours, mut theirs, mut ratios, mut boxes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        let home = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let job = place.whole_job(photographs.folder(), home.path());
        let [job, bare] = take_turns([job, place.bare_loop(photographs.folder())])?;
        check_job(place, &job)?;
        let tally = Tally::read("bench bare", &bare.stdout)?;
        check_count("bench bare", &tally, place)?;
        let ratio = bare.seconds / job.seconds;
        eprintln!(
            "  round {round} of {rounds} with the bare loop: {:.1} and {:.1} s, {ratio:.3}",
            job.seconds, bare.seconds
        );
        ours.push(job.seconds);
        theirs.push(bare.seconds);
        ratios.push(ratio);
        boxes = tally.boxes;
    }
    let kilobytes = photographs.bytes / place.images as u64 / 1000;
    let (least, most) =
        ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), &ratio| (least.min(ratio), most.max(ratio)));
    let row = Row::compare(WHOLE, LOOP, "images/s", (rate(place, &ours), rate(place, &theirs)), true);
    Ok(Row { ratio: Some(median(&ratios)), ..row }.at_least(LEAST_OF_BARE).note(format!(
        "{} JPEGs of {kilobytes} kB; median of {rounds} ratios from {least:.2} to {most:.2}; {boxes} boxes in the loop",
        place.images
    )))
}

fn beside_the_peer(place: &Workplace, photographs: &Photographs, tuned: &TunedPeer) -> Result<[Row; 2]> {
    let (mut job, mut python, mut boxes) = (Times::default(), Times::default(), 0);
    let rounds = place.pick(3, 1);
    for round in 1..=rounds {
        eprintln!("  round {round} of {rounds} with the Python peer");
        run_job(place, photographs, &mut job)?;
        boxes = run_peer(place, tuned, photographs, &mut python)?;
    }
    let against = |what: &str, ours: &[f64], theirs: &[f64]| {
        Row::compare(what, PEER, "images/s", (rate(place, ours), rate(place, theirs)), true)
    };
    Ok([
        against(WHOLE, &job.whole, &python.whole)
            .at_least(LEAST_OF_PEER)
            .note(format!("medians of {rounds} rounds; {}; {boxes} boxes", tuned.settings)),
        against(INNER, &job.inner, &python.inner).note("the peer's without its imports and loading"),
    ])
}

/// Photographs a second, by the middle one of the rounds.
fn rate(place: &Workplace, seconds: &[f64]) -> f64 {
    place.images as f64 / median(seconds)
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
    check_job(place, &ended)?;
    let inner = infer_seconds(&ended.stderr)
        .ok_or_else(|| Error::failed("safari", format!("it did not say how long infer took:\n{}", ended.stderr)))?;
    times.whole.push(ended.seconds);
    times.inner.push(inner);
    Ok(())
}

fn check_job(place: &Workplace, ended: &Ended) -> Result<()> {
    if ended.stderr.contains(&format!("ingest: {} media to look at", place.images)) {
        return Ok(());
    }
    Err(Error::failed("safari", format!("it did not look at all photographs:\n{}", ended.stderr)))
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
