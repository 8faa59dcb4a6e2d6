//! Labelled media as the training takes them: files on this machine, with their hashes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detector::media::{MediaType, SNIFF_BYTES};
use detector::train::Material;
use detector::train::photographs::{Kind, Photograph, Split};
use detector::train::recorded::RecordedBurst;
use futures::StreamExt;
use pipeline::JobContext;
use platform::object_store::ObjectStore;
use tempfile::TempDir;

use crate::labelled::{Label, LabelledSet, Sequence};
use crate::{Error, Result, media};

/// Files that are fetched and hashed at once.
const AT_ONCE: usize = 8;

/// A larger photograph is no input example: it would lie in the model folder.
const LARGEST_EXAMPLE: u64 = 1 << 20;

/// What to train from.
pub(super) struct Prepared {
    pub(super) material: Material,
    /// sha256 of each file's content by key.
    pub(super) contents: BTreeMap<String, String>,
    /// A photograph that the model can be tried with.
    pub(super) example: Option<PathBuf>,
    /// Media that nothing is learnt from: without a label, videos, persons and vehicles.
    pub(super) left_out: usize,
    _fetched: TempDir,
}

/// A file of the set on this machine.
struct File {
    path: PathBuf,
    sha256: String,
    size: u64,
    is_video: bool,
}

/// Fetches and hashes all media, and sorts them by what they are used for.
pub(super) async fn prepare(set: &LabelledSet, context: &JobContext) -> Result<Prepared> {
    let fetched = tempfile::tempdir_in(&context.work_dir).map_err(Error::write(&context.work_dir))?;
    let files = files(set, fetched.path(), context).await?;
    let (mut photographs, mut recorded, mut left_out) = (Vec::new(), Vec::new(), set.left_out);
    let mut example: Option<&File> = None;
    for sequence in &set.sequences {
        let stills: Vec<(&File, f64)> = stills(sequence, &files);
        left_out += sequence.media.len() - stills.len();
        match (&sequence.label, stills.as_slice()) {
            (_, []) => {}
            (Label::Person | Label::Vehicle, stills) => left_out += stills.len(),
            (Label::Blank, stills) => photographs.extend(stills.iter().flat_map(|(file, _)| places(sequence, file))),
            (label, [(file, _)]) => photographs.push(photograph(file, Kind::Photo, sequence.split, label)),
            (label, stills) => recorded.push(RecordedBurst {
                split: sequence.split,
                lineage: label.lineage().to_vec(),
                frames: stills.iter().map(|(file, seconds)| (*seconds, file.path.clone())).collect(),
            }),
        }
        if let (Label::Animal(_), Some(&(file, _))) = (&sequence.label, stills.first()) {
            let smaller = example.is_none_or(|other| file.size < other.size);
            example = if smaller && file.size <= LARGEST_EXAMPLE { Some(file) } else { example };
        }
    }
    for picture in &set.pictures {
        if let Some(file) = files.get(&picture.key) {
            let label = picture.label.clone().unwrap_or(Label::Blank);
            photographs.push(photograph(file, picture.kind, picture.split, &label));
        }
    }
    left_out += make_places(&mut photographs);
    check(&photographs, &recorded)?;
    let example = example.map(|file| file.path.clone());
    let contents = files.into_iter().map(|(key, file)| (key, file.sha256)).collect();
    let material = Material { folder: fetched.path().to_owned(), photographs, recorded };
    Ok(Prepared { material, contents, example, left_out, _fetched: fetched })
}

async fn files(set: &LabelledSet, folder: &Path, context: &JobContext) -> Result<BTreeMap<String, File>> {
    let media = set.sequences.iter().flat_map(|sequence| &sequence.media).map(|entry| entry.key.clone());
    let keys: Vec<String> = media.chain(set.pictures.iter().map(|picture| picture.key.clone())).collect();
    let total = keys.len() as u64;
    let fetching: Vec<_> = keys
        .into_iter()
        .enumerate()
        .map(|(number, key)| {
            let (store, target) = (Arc::clone(&set.store), folder.join(number.to_string()));
            async move {
                let file = file(store, &key, target).await?;
                Ok::<_, Error>((key, file))
            }
        })
        .collect();
    let mut fetching = futures::stream::iter(fetching).buffer_unordered(AT_ONCE);
    let mut files = BTreeMap::new();
    while let Some(next) = fetching.next().await {
        if context.cancel.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let (key, file) = next?;
        files.insert(key, file);
        context.progress(files.len() as u64, total, "fetching media");
    }
    Ok(files)
}

async fn file(store: Arc<dyn ObjectStore>, key: &str, target: PathBuf) -> Result<File> {
    let path = match store.local_path(key) {
        Some(path) => path,
        None => {
            store.download(key, &target).await?;
            target
        }
    };
    let sha256 = media::hash_file(path.clone()).await.map_err(Error::read(&path))?;
    let size = std::fs::metadata(&path).map_err(Error::read(&path))?.len();
    let is_video = MediaType::sniff(&head(&path)?).is_ok_and(|media_type| media_type.is_video());
    Ok(File { path, sha256, size, is_video })
}

fn head(path: &Path) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::read(path))?;
    file.take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(Error::read(path))?;
    Ok(head)
}

/// The photographs of a sequence with the seconds since the first.
fn stills<'a>(sequence: &Sequence, files: &'a BTreeMap<String, File>) -> Vec<(&'a File, f64)> {
    let start = sequence.media.first().and_then(|entry| entry.captured_at);
    let still = |entry: &crate::manifest::Entry| {
        let file = files.get(&entry.key).filter(|file| !file.is_video)?;
        let seconds = entry.captured_at.zip(start).map_or(0.0, |(at, start)| (at - start).as_seconds_f64());
        Some((file, seconds))
    };
    sequence.media.iter().filter_map(still).collect()
}

fn photograph(file: &File, kind: Kind, split: Split, label: &Label) -> Photograph {
    Photograph::unlisted(file.path.clone(), file.sha256.clone(), kind, split, label.lineage())
}

/// A picture without an animal is a place for bursts of its split; of both, if no list has put it in one.
fn places(sequence: &Sequence, file: &File) -> Vec<Photograph> {
    let splits = if sequence.split_is_given { vec![sequence.split] } else { vec![Split::Train, Split::Test] };
    splits.into_iter().map(|split| photograph(file, Kind::Background, split, &Label::Blank)).collect()
}

/// Gives each split places to make bursts at: those of the other if it has none of its own. Without any place nothing is
/// made of lone photographs; how many are given up is the answer.
fn make_places(photographs: &mut Vec<Photograph>) -> usize {
    let of = |photographs: &[Photograph], split: Split| -> Vec<Photograph> {
        let places = photographs.iter().filter(|p| p.kind == Kind::Background && p.split == split);
        places.cloned().collect()
    };
    let (train, test) = (of(photographs, Split::Train), of(photographs, Split::Test));
    let lent = match (train.is_empty(), test.is_empty()) {
        (true, true) => {
            let before = photographs.len();
            photographs.retain(|photograph| !photograph.shows_animal());
            return before - photographs.len();
        }
        (false, true) => train.into_iter().map(|place| Photograph { split: Split::Test, ..place }).collect(),
        (true, false) => test.into_iter().map(|place| Photograph { split: Split::Train, ..place }).collect(),
        (false, false) => Vec::new(),
    };
    photographs.extend(lent);
    0
}

fn check(photographs: &[Photograph], recorded: &[RecordedBurst]) -> Result<()> {
    for (split, name) in [(Split::Train, "train"), (Split::Test, "test")] {
        let photograph = photographs.iter().any(|p| p.split == split && p.shows_animal());
        if !photograph && !recorded.iter().any(|burst| burst.split == split) {
            return Err(Error::Labels(format!(
                "no burst with an animal in the split `{name}`; a burst has several photographs with capture times, or is \
                 made of a lone photograph when the set has pictures labelled `blank`, too; give more, or `test_share`"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(kind: Kind, split: Split) -> Photograph {
        Photograph::unlisted(PathBuf::from("x"), String::new(), kind, split, &["Mammalia".to_owned()])
    }

    #[test]
    fn a_split_without_places_has_those_of_the_other() {
        let mut photographs = vec![
            picture(Kind::Photo, Split::Train),
            picture(Kind::Photo, Split::Test),
            picture(Kind::Background, Split::Train),
        ];
        assert_eq!(make_places(&mut photographs), 0);
        let places: Vec<Split> =
            photographs.iter().filter(|p| p.kind == Kind::Background).map(|place| place.split).collect();
        assert_eq!(places, [Split::Train, Split::Test]);
    }

    #[test]
    fn without_places_only_recorded_bursts_are_left() {
        let mut photographs = vec![picture(Kind::Photo, Split::Train), picture(Kind::Cutout, Split::Test)];
        assert_eq!(make_places(&mut photographs), 2);
        assert!(photographs.is_empty());
        let burst = |split| RecordedBurst { split, lineage: Vec::new(), frames: Vec::new() };
        let error = check(&photographs, &[burst(Split::Train)]).map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("`test`") && text.contains("blank")));
        assert!(check(&photographs, &[burst(Split::Train), burst(Split::Test)]).is_ok());
    }
}
