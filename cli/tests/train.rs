//! `safari train` from the command line: photographs and a list go in, a model folder that works comes out.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

/// Photographs of `data-samples/`, their split and what they show.
const ANIMALS: [(&str, &str, &str); 8] = [
    ("boreal-forest/moose.jpg", "train", "Mammalia;Artiodactyla;Cervidae;Alces;Alces alces"),
    ("prairie/bison.jpg", "train", "Mammalia;Artiodactyla;Bovidae;Bison;Bison bison"),
    ("forest-trail/jaguar.jpg", "train", "Mammalia;Carnivora;Felidae;Panthera;Panthera onca"),
    ("prairie/horse.jpg", "train", "Mammalia;Perissodactyla;Equidae;Equus;Equus caballus"),
    ("farmyard/cow.jpg", "train", "Mammalia;Artiodactyla;Bovidae;Bos;Bos taurus"),
    ("arctic-coast/polar_bear.jpg", "train", "Mammalia;Carnivora;Ursidae;Ursus;Ursus maritimus"),
    ("farmyard/pig.jpg", "test", "Mammalia;Artiodactyla;Suidae;Sus;Sus scrofa"),
    ("farmyard/dog.jpg", "test", "Mammalia;Carnivora;Canidae;Canis;Canis familiaris"),
];

const HEADER: &str = "file,sha256,kind,split,lineage,licence,author,origin,package,member\n";

#[test]
fn a_model_folder_comes_out_that_works_and_is_the_same_for_the_same_seed() {
    let photographs = photographs();
    let out = tempfile::tempdir().unwrap();
    let (first, second) = (out.path().join("first"), out.path().join("second"));
    let said = train(photographs.path(), &first, &["--json"]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    let metrics: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(metrics["test_counts"]["photographs"], 2, "{metrics}");
    assert_eq!(metrics["train_counts"]["photographs"], 6, "{metrics}");
    for judge in ["liquid", "mean_of_logits", "best_single_frame"] {
        let right = &metrics["test"][judge]["top1"];
        let number = |name: &str| right[name].as_f64().unwrap();
        assert!(number("low") <= number("value") && number("value") <= number("high"), "{judge}: {metrics}");
    }

    let said = train(photographs.path(), &second, &[]);
    assert!(said.status.success() && text(&said.stdout).contains("liquid network"), "{}", text(&said.stdout));
    let (mut one, mut two) = (contents(&first), contents(&second));
    // It says when the model was made.
    assert_ne!(one.remove("MLmodel"), two.remove("MLmodel"));
    assert_eq!(one, two, "the same seed gave another model");

    let shipped = root().join("detector/model/wildlife");
    for (file, content) in contents(&first) {
        let of_shipped = std::fs::read(shipped.join(&file)).map(|bytes| hex::encode(Sha256::digest(bytes)));
        match file.as_str() {
            "liquid.safetensors" | "metrics.json" => assert_ne!(of_shipped.unwrap(), content, "{file}"),
            name if name.ends_with(".pt") => assert_eq!(of_shipped.unwrap(), content, "{file}"),
            _ => {}
        }
    }
    let look = Command::new(env!("CARGO_BIN_EXE_safari"))
        .arg("--model")
        .arg(&first)
        .args(["detect", "data-samples/farmyard/cow.jpg"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(look.status.success() && text(&look.stdout).contains("box "), "{look:?}");
}

#[test]
fn a_photograph_that_is_not_the_listed_one_is_told_and_nothing_is_written() {
    let photographs = photographs();
    std::fs::write(photographs.path().join("pig.jpg"), "another").unwrap();
    let out = tempfile::tempdir().unwrap();
    let model = out.path().join("model");
    let said = train(photographs.path(), &model, &[]);
    let error = text(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{error}");
    assert!(error.contains("pig.jpg") && error.contains("sha256"), "{error}");
    assert!(!model.exists());

    let said = train(out.path(), &model, &[]);
    let error = text(&said.stderr);
    assert!(said.status.code() == Some(1) && error.contains("scripts/fetch-training-photos"), "{error}");
    assert!(!model.exists());
}

/// A folder as `scripts/fetch-training-photos` makes it, small.
fn photographs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let samples = root().join("data-samples");
    let mut list = HEADER.to_owned();
    for (sample, split, lineage) in ANIMALS {
        let file = Path::new(sample).file_name().unwrap();
        std::fs::copy(samples.join(sample), folder.path().join(file)).unwrap();
        add(&mut list, folder.path(), &file.to_string_lossy(), "photo", split, lineage);
    }
    let blank = samples.join("savanna-waterhole/blank.jpg");
    // A plant is a disc of leaves' colour with nothing around it.
    let plant = "crop=160:160,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*lt(hypot(X-80,Y-80),70)'";
    for (split, turn) in [("train", "null"), ("test", "hflip")] {
        let (place, leaves) = (format!("place-{split}.jpg"), format!("leaves-{split}.png"));
        ffmpeg(&blank, turn, &folder.path().join(&place));
        ffmpeg(&blank, &format!("{turn},{plant}"), &folder.path().join(&leaves));
        add(&mut list, folder.path(), &place, "background", split, "");
        add(&mut list, folder.path(), &leaves, "occluder", split, "");
    }
    std::fs::write(folder.path().join("labels.csv"), list).unwrap();
    folder
}

fn add(list: &mut String, folder: &Path, file: &str, kind: &str, split: &str, lineage: &str) {
    let sha256 = hex::encode(Sha256::digest(std::fs::read(folder.join(file)).unwrap()));
    writeln!(list, "{file},{sha256},{kind},{split},{lineage},CC0-1.0,nobody,nowhere,none,none").unwrap();
}

fn ffmpeg(from: &Path, filter: &str, to: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-loglevel", "error", "-i"]).arg(from).args(["-vf", filter]).arg(to);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn train(photographs: &Path, output: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safari"));
    command.arg("train").arg("--photographs").arg(photographs).arg("--output").arg(output);
    command.args(["--bursts", "2", "--epochs", "2"]).args(more).current_dir(root()).output().unwrap()
}

/// Every file of a folder with the sha256 of its content.
fn contents(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        found.insert(name, hex::encode(Sha256::digest(std::fs::read(&path).unwrap())));
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("WORKSPACE_ROOT")).canonicalize().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
