//! The networks themselves: the improved files against the originals, in one process, taking turns.
//!
//! The improved ones take bytes and normalise them; the originals get numbers that were normalised before the clock
//! starts. So ours do more, and the ratio is on the safe side.

use std::path::Path;
use std::time::Instant;

use detector::decode::Picture;
use detector::model;
use detector::preprocess::{DETECTOR_SIDE, EMBEDDER_SIDE, Preprocessor};
use tch::{CModule, IValue, Kind, Tensor};

use crate::error::{Error, Result};
use crate::peer;
use crate::photographs::{open, samples};
use crate::results::{Row, median};
use crate::workplace::Workplace;

const AGAINST: &str = "original file";

/// Calls before the clock starts; the first two of a graph are slow.
const WARM_UP: usize = 5;

const BATCHES: [usize; 2] = [1, 8];
const THREADS: [i32; 2] = [1, 2];

/// Most by which outputs may differ.
const LARGEST_DIFFERENCE: f64 = 1e-2;

/// One network in both forms.
#[derive(Debug)]
struct Pair {
    name: &'static str,
    side: u32,
    /// The original takes `(x - mean) / scale`.
    mean: f64,
    scale: f64,
    ours: CModule,
    original: CModule,
}

/// The same pictures for both forms.
#[derive(Debug)]
struct Inputs {
    /// N x side x side x 3 bytes.
    ours: Tensor,
    /// N x 3 x side x side numbers, normalised.
    original: Tensor,
}

/// Measures the section.
pub(crate) fn run(place: &Workplace) -> Result<Vec<Row>> {
    let [boxes, embedder] = match peer::originals(place) {
        Ok(paths) => paths,
        Err(reason) => {
            eprintln!("  {AGAINST} {reason}");
            return Ok(vec![Row::skipped("forward of both networks", AGAINST, "ms an image", &reason)]);
        }
    };
    let shipped = model::locate(None)?;
    let pairs = [
        Pair {
            name: "detector",
            side: DETECTOR_SIDE,
            mean: 127.5,
            scale: 127.5,
            ours: load(&shipped.join("detector.pt"))?,
            original: load(&boxes)?,
        },
        Pair {
            name: "embedder",
            side: EMBEDDER_SIDE,
            mean: 127.0,
            scale: 128.0,
            ours: load(&shipped.join("embedder.pt"))?,
            original: load(&embedder)?,
        },
    ];
    let pictures = samples(&place.root)?.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for pair in &pairs {
        for threads in THREADS {
            for batch in BATCHES {
                rows.push(compare_times(pair, &pictures, threads, batch, place.pick(60, 12))?);
            }
        }
    }
    for pair in &pairs {
        rows.push(compare_outputs(pair, &pictures)?);
    }
    Ok(rows)
}

fn compare_times(pair: &Pair, pictures: &[Picture], threads: i32, batch: usize, calls: usize) -> Result<Row> {
    let what = format!("{} forward, {threads} thread(s), {batch} at a time", pair.name);
    eprintln!("  {what}");
    tch::set_num_threads(threads);
    let some: Vec<&Picture> = pictures.iter().cycle().take(batch).collect();
    let inputs = pair.inputs(&some)?;
    for _ in 0..WARM_UP {
        call(&pair.ours, &inputs.ours)?;
        call(&pair.original, &inputs.original)?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..calls.div_ceil(batch).max(10) {
        ours.push(milliseconds(&pair.ours, &inputs.ours)? / batch as f64);
        theirs.push(milliseconds(&pair.original, &inputs.original)? / batch as f64);
    }
    let numbers = (median(&ours), median(&theirs));
    Ok(Row::compare(&what, AGAINST, "ms an image", numbers, false).at_least(1.0))
}

/// The largest difference of what Safari uses: boxes and scores of the detector, probabilities of the embedder.
fn compare_outputs(pair: &Pair, pictures: &[Picture]) -> Result<Row> {
    let mut largest: f64 = 0.0;
    for picture in pictures {
        let inputs = pair.inputs(&[picture])?;
        let ours = used(pair, call(&pair.ours, &inputs.ours)?)?;
        let theirs = used(pair, call(&pair.original, &inputs.original)?)?;
        for (a, b) in ours.iter().zip(&theirs) {
            largest = largest.max(f64::try_from(a.f_sub(b)?.f_abs()?.f_max()?)?);
        }
    }
    let what = format!("{} outputs, largest difference on {} photographs", pair.name, pictures.len());
    let mut row = Row::alone(&what, AGAINST, "0 to 1", largest);
    row.goal = Some(format!("≤ {LARGEST_DIFFERENCE}"));
    row.met = Some(largest <= LARGEST_DIFFERENCE);
    Ok(row)
}

impl Pair {
    fn inputs(&self, pictures: &[&Picture]) -> Result<Inputs> {
        let mut preprocessor = Preprocessor::new();
        let bytes: Vec<u8> = pictures.iter().flat_map(|picture| preprocessor.whole(picture, self.side)).collect();
        let side = i64::from(self.side);
        let ours = Tensor::f_from_slice(&bytes)?.f_view([pictures.len() as i64, side, side, 3])?;
        let numbers = ours.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let original = numbers.f_sub_scalar(self.mean)?.f_div_scalar(self.scale)?;
        Ok(Inputs { ours, original })
    }
}

fn used(pair: &Pair, outputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
    match (pair.name, outputs.as_slice()) {
        ("detector", [boxes, scores, ..]) => Ok(vec![boxes.shallow_clone(), scores.shallow_clone()]),
        ("embedder", [_, logits, ..]) => Ok(vec![logits.f_softmax(-1, Kind::Float)?]),
        _ => Err(Error::failed(pair.name, "it returns too few tensors")),
    }
}

fn load(path: &Path) -> Result<CModule> {
    let mut module = CModule::load(path)?;
    module.f_set_eval()?;
    Ok(module)
}

fn milliseconds(module: &CModule, input: &Tensor) -> Result<f64> {
    let start = Instant::now();
    call(module, input)?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

fn call(module: &CModule, input: &Tensor) -> Result<Vec<Tensor>> {
    let output = tch::no_grad(|| module.forward_is(&[IValue::Tensor(input.shallow_clone())]))?;
    let IValue::Tuple(values) = output else {
        return Err(Error::failed("a network", "it returns no tuple"));
    };
    Ok(values
        .into_iter()
        .filter_map(|value| match value {
            IValue::Tensor(tensor) => Some(tensor),
            _ => None,
        })
        .collect())
}
