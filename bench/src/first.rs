//! From the start of the process to the first detection: one photograph, and the process ends.

use crate::error::{Error, Result};
use crate::peer;
use crate::process::{self, Ended};
use crate::results::{Row, median, percentile_95};
use crate::workplace::Workplace;

/// A photograph with an animal that both find, and its name in Safari's answer.
const PHOTOGRAPH: &str = "data-samples/savanna-waterhole/giraffe.jpg";
const ANIMAL: &str = "giraffe";

/// The peer's answer to a photograph without boxes has this score.
const NO_BOX: &str = "\"score\": 0.0";

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let photograph = place.root.join(PHOTOGRAPH);
    let peer = peer::find(place);
    if let Err(reason) = &peer {
        eprintln!("  Python peer {reason}");
    }
    let runs = place.pick(20, 10);
    eprintln!("  {runs} runs each");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first run of each reads programs and networks from the disk, and is not counted.
    for run in 0..=runs {
        let ended = process::time(place.detect(&photograph))?;
        check("safari detect", &ended, ended.stdout.contains(ANIMAL))?;
        if run > 0 {
            ours.push(ended.seconds);
        }
        if let Ok(peer) = &peer {
            let ended = peer.look_at_one(&photograph)?;
            check("peer.py", &ended, !ended.stdout.contains(NO_BOX))?;
            if run > 0 {
                theirs.push(ended.seconds);
            }
        }
    }
    let note = format!("`safari detect` of {PHOTOGRAPH}, {runs} runs, files in the system's cache");
    let row = |what: &str, statistic: fn(&[f64]) -> f64| {
        let what = format!("start to first detection, {what}");
        match &peer {
            Ok(_) => Row::compare(&what, "Python peer", "s", (statistic(&ours), statistic(&theirs)), false).note(&note),
            Err(reason) => Row::alone(&what, "Python peer", "s", statistic(&ours)).note(format!("{note}; {reason}")),
        }
    };
    Ok(vec![row("median", median), row("95th percentile", percentile_95)])
}

fn check(program: &str, ended: &Ended, found: bool) -> Result<()> {
    if found {
        return Ok(());
    }
    Err(Error::failed(program, format!("it found no animal in {PHOTOGRAPH}:\n{}", ended.stdout)))
}
