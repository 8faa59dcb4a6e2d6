//! Our CfC cell against the reference: scripts/cfc_fixture.py made the numbers with the PyPI package `ncps`.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use detector::liquid::cell::CfcCell;
use serde::Deserialize;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    inputs: i64,
    units: i64,
    backbone: i64,
    gaps: Option<Vec<f32>>,
    weights: HashMap<String, Layer>,
    start: Vec<f32>,
    sequence: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
}

#[derive(Deserialize)]
struct Layer {
    weight: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/cfc.json")).unwrap();
    assert_eq!(fixture.cases.len(), 3);
    fixture.cases
}

fn cell(case: &Case) -> (VarStore, CfcCell) {
    let store = VarStore::new(Device::Cpu);
    let cell = CfcCell::new(&store.root(), case.inputs, case.units, case.backbone);
    for (name, layer) in &case.weights {
        let weight: Vec<&[f32]> = layer.weight.iter().map(Vec::as_slice).collect();
        let rows = Tensor::from_slice(&weight.concat()).view([weight.len() as i64, -1]);
        let variables = store.variables();
        tch::no_grad(|| {
            variables[&format!("{name}.weight")].shallow_clone().copy_(&rows);
            variables[&format!("{name}.bias")].shallow_clone().copy_(&Tensor::from_slice(&layer.bias));
        });
    }
    assert_eq!(store.variables().len(), 2 * case.weights.len());
    (store, cell)
}

fn gap(case: &Case, step: usize) -> f32 {
    case.gaps.as_ref().map_or(1.0, |gaps| gaps[step])
}

#[test]
fn every_step_matches_the_reference() {
    for case in cases() {
        let (_store, cell) = cell(&case);
        let mut state = Tensor::from_slice(&case.start).view([1, case.units]);
        for (step, (input, expected)) in case.sequence.iter().zip(&case.outputs).enumerate() {
            let input = Tensor::from_slice(input).view([1, case.inputs]);
            state = cell.step(&input, &state, &Tensor::from_slice(&[gap(&case, step)]).view([1, 1]));
            let difference = (&state - Tensor::from_slice(expected).view([1, -1])).abs().max();
            let difference = f64::try_from(difference).unwrap();
            assert!(difference < 1e-5, "{}, step {step}: off by {difference}", case.name);
        }
    }
}

#[test]
fn sequences_side_by_side_do_not_touch_each_other() {
    // As many sequences as units: where the reference's own batches go wrong.
    for case in cases() {
        let (_store, cell) = cell(&case);
        let batch = case.units;
        let start = Tensor::from_slice(&case.start).view([1, case.units]);
        let (mut together, mut alone) = (start.repeat([batch, 1]), start);
        for (step, input) in case.sequence.iter().enumerate() {
            let input = Tensor::from_slice(input).view([1, case.inputs]);
            let last = gap(&case, step);
            let gaps =
                (Tensor::arange(batch, (Kind::Float, Device::Cpu)) * 0.7 + f64::from(last)).flip([0]).view([batch, 1]);
            together = cell.step(&input.repeat([batch, 1]), &together, &gaps);
            alone = cell.step(&input, &alone, &Tensor::from_slice(&[last]).view([1, 1]));
        }
        let difference = f64::try_from((together.select(0, batch - 1) - alone.select(0, 0)).abs().max()).unwrap();
        // Processors add up a batch's products in an order of their own: as near as the reference, and not equal.
        assert!(difference < 1e-5, "{}: off by {difference}", case.name);
    }
}
