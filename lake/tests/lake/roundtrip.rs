//! Rows come back as they went in.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use chrono::DateTime;
use lake::rows::{detections_batch, media_batch};
use lake::{Candidate, Category, DetectionRow, Lake, MediaRow, MediaType, Rank, Table, Transaction};
use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::sample::{batches, jaguar, medium, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_rows_come_back_as_they_went_in() {
    for seed in 0..4 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let lake = open(folder.path()).await;
        let mut media = Vec::new();
        let mut boxes = Vec::new();
        for number in 0..3 {
            let more: Vec<MediaRow> = (0..rng.random_range(1..60)).map(|_| any_medium(&mut rng)).collect();
            let found: Vec<DetectionRow> = (0..rng.random_range(0..60)).map(|_| any_detection(&mut rng)).collect();
            let txn = Transaction::new("t", number);
            lake.append_detections(&found, &txn).await.unwrap();
            lake.append_media(&more, &txn).await.unwrap();
            media.extend(more);
            boxes.extend(found);
        }
        media.sort_by(|a, b| a.uri.cmp(&b.uri));
        boxes.sort_by(|a, b| a.detection_id.cmp(&b.detection_id));
        let expected = media_batch(&media).unwrap();
        assert_eq!(stored(&lake, Table::Media, "uri").await, expected, "media of seed {seed}");
        let expected = detections_batch(&boxes).unwrap();
        assert_eq!(stored(&lake, Table::Detections, "detection_id").await, expected, "detections of seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_may_cross_midnight_and_reach_before_1970() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut media = Vec::new();
    for (uri, time) in
        [("a", "1969-12-31T23:59:59.5Z"), ("b", "1970-01-01T00:00:00Z"), ("c", "2024-02-29T23:59:59.999999Z")]
    {
        let mut row = medium(uri, "run");
        row.processed_at = time.parse().unwrap();
        media.push(row);
    }
    lake.append_media(&media, &Transaction::new("t", 1)).await.unwrap();
    let expected = media_batch(&media).unwrap();
    assert_eq!(stored(&lake, Table::Media, "uri").await, expected);
    let partitions = folder.path().join("media");
    for date in ["1969-12-31", "1970-01-01", "2024-02-29"] {
        assert!(partitions.join(format!("processed_date={date}")).is_dir(), "{date}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["with space", "grün & 50% #1?", "ジャガー"] {
        let path = folder.path().join(name);
        let lake = Lake::open(path.to_str().unwrap()).await.unwrap();
        lake.append_detections(&[jaguar("a", "run")], &Transaction::new("t", 1)).await.unwrap();
        assert!(path.join("detections/_delta_log/00000000000000000001.json").is_file(), "{name}");
        let again = Lake::open(lake.location()).await.unwrap();
        assert_eq!(stored(&again, Table::Detections, "uri").await.num_rows(), 1, "{name}");
    }
}

/// All rows of a table in the types of its schema.
async fn stored(lake: &Lake, table: Table, order: &str) -> RecordBatch {
    let found = batches(lake, &format!("select * from {table} order by {order}")).await;
    let schema = table.schema();
    let found = concat_batches(&found[0].schema(), &found).unwrap();
    let names: Vec<String> = found.schema().fields().iter().map(|field| field.name().clone()).collect();
    let expected: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, expected, "columns in order");
    let columns: Vec<ArrayRef> = found
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| cast(column, field.data_type()).unwrap())
        .collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn any_text(rng: &mut impl Rng) -> String {
    let alphabet =
        ['a', 'Z', '0', ' ', '/', '\'', '"', '\\', '\n', '\u{0}', 'ß', 'é', '漢', '🐆', ';', '%', '#', '\u{202e}'];
    (0..rng.random_range(0..12)).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
}

fn maybe<T>(rng: &mut ChaCha8Rng, value: impl FnOnce(&mut ChaCha8Rng) -> T) -> Option<T> {
    rng.random_bool(0.5).then(|| value(rng))
}

fn any_medium(rng: &mut ChaCha8Rng) -> MediaRow {
    let types =
        [MediaType::Jpeg, MediaType::Png, MediaType::Webp, MediaType::Tiff, MediaType::Video, MediaType::Unknown];
    let categories = [Category::Animal, Category::Person, Category::Vehicle, Category::Blank];
    MediaRow {
        media_id: any_text(rng),
        uri: format!("{}{}", any_text(rng), rng.random::<u64>()),
        sha256: maybe(rng, any_text),
        size_bytes: rng.random(),
        version: any_text(rng),
        media_type: types[rng.random_range(0..types.len())],
        captured_at: maybe(rng, |rng| DateTime::from_timestamp_micros(rng.random_range(-1 << 55..1 << 55)).unwrap()),
        captured_offset_minutes: maybe(rng, |rng| rng.random()),
        clock_wrong: rng.random(),
        deployment: any_text(rng),
        camera: maybe(rng, any_text),
        width: maybe(rng, |rng| rng.random()),
        height: maybe(rng, |rng| rng.random()),
        frames: maybe(rng, |rng| rng.random()),
        duration_s: maybe(rng, |rng| rng.random()),
        frame_rate: maybe(rng, |rng| rng.random()),
        burst_id: maybe(rng, any_text),
        category: maybe(rng, |rng| categories[rng.random_range(0..categories.len())]),
        failure: maybe(rng, any_text),
        model_version: any_text(rng),
        run_id: any_text(rng),
        task: any_text(rng),
        processed_at: DateTime::from_timestamp(1_700_000_000 + rng.random_range(0..200_000), 0).unwrap(),
    }
}

fn any_detection(rng: &mut ChaCha8Rng) -> DetectionRow {
    let ranks = [Rank::Species, Rank::Genus, Rank::Family, Rank::Order, Rank::Class];
    let categories = [Category::Animal, Category::Person, Category::Vehicle];
    DetectionRow {
        detection_id: format!("{}{}", any_text(rng), rng.random::<u64>()),
        media_id: any_text(rng),
        uri: any_text(rng),
        deployment: any_text(rng),
        captured_at: maybe(rng, |rng| DateTime::from_timestamp_micros(rng.random_range(-1 << 55..1 << 55)).unwrap()),
        frame: rng.random(),
        frame_time_s: rng.random(),
        burst_id: maybe(rng, any_text),
        track: maybe(rng, |rng| rng.random()),
        x: rng.random(),
        y: rng.random(),
        width: rng.random(),
        height: rng.random(),
        category: categories[rng.random_range(0..categories.len())],
        species: maybe(rng, any_text),
        scientific_name: maybe(rng, any_text),
        rank: maybe(rng, |rng| ranks[rng.random_range(0..ranks.len())]),
        taxonomy: maybe(rng, any_text),
        confidence: rng.random(),
        species_confidence: maybe(rng, |rng| rng.random()),
        top5: (0..rng.random_range(0..6))
            .map(|_| Candidate {
                scientific_name: any_text(rng),
                species: maybe(rng, any_text),
                confidence: rng.random(),
            })
            .collect(),
        model_version: any_text(rng),
        run_id: any_text(rng),
        task: any_text(rng),
        detected_at: DateTime::from_timestamp(1_700_000_000 + rng.random_range(0..200_000), 0).unwrap(),
    }
}
