//! The MegaDetector export, field by field.

use std::path::Path;

use serde_json::{Value, json};

use lake::export::{Exported, MegadetectorOptions, megadetector};
use lake::{Category, Lake, MediaType, Transaction};

use crate::sample::{at, candidate, jaguar, medium, open};

/// A still with two boxes, a blank one, a failed one, a video, a failed video, a misnamed still; one file twice.
pub async fn mixed_lake(folder: &Path) -> Lake {
    let lake = open(folder).await;
    let uri = |name: &str| format!("s3://wild/2024/{name}");

    let mut person = jaguar(&uri("ridge/a.jpg"), "run-2");
    person.detection_id.push('1');
    person.category = Category::Person;
    (person.species, person.scientific_name, person.rank, person.taxonomy) = (None, None, None, None);
    (person.species_confidence, person.confidence) = (None, 0.8751);
    person.top5 = Vec::new();
    let mut genus = jaguar(&uri("ridge/a.jpg"), "run-2");
    (genus.species, genus.scientific_name) = (None, Some("Panthera".to_owned()));
    genus.taxonomy = Some("Mammalia;Carnivora;Felidae;Panthera".to_owned());
    genus.species_confidence = Some(0.9);
    let old = jaguar(&uri("ridge/a.jpg"), "run-1");
    let mut clip = jaguar(&uri("clip.MP4"), "run-2");
    (clip.frame, clip.frame_time_s) = (2, 2.0);
    let mut giraffe = jaguar(&uri("really-a-still.avi"), "run-2");
    giraffe.top5 = Vec::new();
    (giraffe.species, giraffe.scientific_name) = (Some("giraffe".into()), Some("Giraffa camelopardalis".into()));
    giraffe.taxonomy = Some("Mammalia;Artiodactyla;Giraffidae;Giraffa;Giraffa camelopardalis".to_owned());
    let boxes = [person, genus, old, clip, giraffe];
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();

    let processed = |name: &str| {
        let mut row = medium(&uri(name), "run-2");
        row.processed_at = at("2024-06-02T09:30:00Z");
        row
    };
    let mut blank = processed("ridge/blank.jpg");
    blank.category = Some(Category::Blank);
    blank.captured_offset_minutes = None;
    let mut failed = processed("ridge/broken.jpg");
    failed.failure = Some("the JPEG ends after 12 of 4096 bytes".to_owned());
    (failed.width, failed.height, failed.captured_at, failed.category) = (None, None, None, None);
    let mut video = processed("clip.MP4");
    video.media_type = MediaType::Video;
    (video.frames, video.duration_s, video.frame_rate) = (Some(4), Some(3.5), Some(25.0));
    let mut dead = processed("dead.mov");
    dead.media_type = MediaType::Video;
    (dead.failure, dead.frames, dead.category) = (Some("no video stream".to_owned()), None, None);
    let outside = medium("/elsewhere/x.jpg", "run-1");
    let media = [
        medium(&uri("ridge/a.jpg"), "run-1"),
        processed("ridge/a.jpg"),
        blank,
        failed,
        video,
        dead,
        processed("really-a-still.avi"),
        outside,
    ];
    lake.append_media(&media, &Transaction::new("t", 1)).await.unwrap();
    lake
}

async fn export(lake: &Lake, options: &MegadetectorOptions) -> (Exported, Value) {
    let mut out = Vec::new();
    let exported = megadetector(lake, options, &mut out).await.unwrap();
    (exported, serde_json::from_slice(&out).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_medium_is_written_as_the_format_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let lake = mixed_lake(folder.path()).await;
    let options = MegadetectorOptions { relative_to: Some("s3://wild/2024/".to_owned()), ..Default::default() };
    let (exported, document) = export(&lake, &options).await;
    assert_eq!(exported, Exported { images: 7, detections: 4, failures: 2 });

    assert_eq!(
        document["info"],
        json!({
            "format_version": "1.6",
            "detector": "wildlife-1",
            "classifier": "wildlife-1",
            "detection_completion_time": "2024-06-02 09:30:00",
            "classification_completion_time": "2024-06-02 09:30:00",
            "detector_metadata": {
                "megadetector_version": "not megadetector",
                "typical_detection_threshold": 0.3,
                "conservative_detection_threshold": 0.1,
            },
        })
    );
    assert_eq!(document["detection_categories"], json!({"1": "animal", "2": "person", "3": "vehicle"}));
    let categories = &document["classification_categories"];
    let id = |name: &str| {
        let found = categories.as_object().unwrap().iter().find(|(_, value)| *value == name);
        found.unwrap_or_else(|| panic!("no category {name} in {categories}")).0.clone()
    };
    let image = |file: &str| {
        let images = document["images"].as_array().unwrap();
        images.iter().find(|image| image["file"] == file).unwrap_or_else(|| panic!("no {file}")).clone()
    };
    assert_eq!(
        image("ridge/a.jpg"),
        json!({
            "file": "ridge/a.jpg",
            "detections": [
                {"category": "2", "conf": 0.875, "bbox": [0.25, 0.5, 0.125, 0.0625]},
                {"category": "1", "conf": 0.75, "bbox": [0.25, 0.5, 0.125, 0.0625], "classifications": [
                    [id("panthera"), 0.9], [id("jaguar"), 0.5], [id("leopard"), 0.25], [id("felidae"), 0.125]]},
            ],
            "width": 1920, "height": 1080,
            "datetime": "2024:06:01 00:10:30",
        })
    );
    let blank = image("ridge/blank.jpg");
    assert_eq!(blank["detections"], json!([]));
    assert_eq!(blank["datetime"], "2024:05:31 22:10:30", "a time without an offset is local already");
    assert_eq!(
        image("ridge/broken.jpg"),
        json!({"file": "ridge/broken.jpg", "failure": "the JPEG ends after 12 of 4096 bytes", "detections": null})
    );
    let clip = image("clip.MP4");
    assert_eq!(clip["frame_rate"], 25.0);
    assert_eq!(clip["frames_processed"], json!([0, 25, 50, 75]));
    assert_eq!(clip["detections"][0]["frame_number"], 50);
    let dead = image("dead.mov");
    assert_eq!((&dead["frame_rate"], &dead["frames_processed"]), (&json!(-1.0), &json!([])));
    let still = image("really-a-still.avi");
    assert_eq!((&still["frame_rate"], &still["frames_processed"]), (&json!(0.0), &json!([0])));
    assert_eq!(still["detections"][0]["classifications"], json!([[id("giraffe"), 0.5]]));
    assert_eq!(image("/elsewhere/x.jpg")["detections"], json!([]));

    let descriptions = &document["classification_category_descriptions"];
    assert_eq!(descriptions.as_object().unwrap().len(), categories.as_object().unwrap().len());
    let description = |name: &str| descriptions[id(name)].as_str().unwrap().split_once(';').unwrap().1.to_owned();
    assert_eq!(description("jaguar"), "mammalia;carnivora;felidae;panthera;onca;jaguar");
    assert_eq!(description("panthera"), "mammalia;carnivora;felidae;panthera;;panthera");
    assert_eq!(description("leopard"), ";;;panthera;pardus;leopard");
    assert_eq!(description("giraffe"), "mammalia;artiodactyla;giraffidae;giraffa;camelopardalis;giraffe");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_or_a_model_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let lake = mixed_lake(folder.path()).await;
    let options = MegadetectorOptions { run_id: Some("run-1".to_owned()), ..Default::default() };
    let (exported, document) = export(&lake, &options).await;
    assert_eq!(exported, Exported { images: 2, detections: 1, failures: 0 });
    assert_eq!(document["images"][1]["file"], "s3://wild/2024/ridge/a.jpg");
    assert_eq!(document["info"]["detection_completion_time"], "2024-06-01 08:00:00");
    let options = MegadetectorOptions { model_version: Some("o'brien".to_owned()), ..Default::default() };
    let (exported, document) = export(&lake, &options).await;
    assert_eq!(exported, Exported::default());
    assert_eq!(document["images"], json!([]));
    assert_eq!(document["classification_categories"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_media_keep_their_own_boxes() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(folder.path()).await;
    // More than one batch of rows, boxes on every third, in an order that is not that of the names.
    let numbers: Vec<usize> = (0..20_000).map(|number| number * 7919 % 20_000).collect();
    let uri = |number: usize| format!("{number:05}.jpg");
    let boxes: Vec<_> = numbers
        .iter()
        .filter(|number| *number % 3 == 0)
        .map(|number| {
            let mut found = jaguar(&uri(*number), "run");
            found.top5 = vec![candidate(&format!("Taxon {}", number % 50), None, 0.5)];
            found.scientific_name = None;
            found.species = None;
            found
        })
        .collect();
    lake.append_detections(&boxes, &Transaction::new("t", 1)).await.unwrap();
    let media: Vec<_> = numbers.iter().map(|number| medium(&uri(*number), "run")).collect();
    lake.append_media(&media, &Transaction::new("t", 1)).await.unwrap();

    let (exported, document) = export(&lake, &MegadetectorOptions::default()).await;
    assert_eq!(exported, Exported { images: 20_000, detections: 6_667, failures: 0 });
    for (number, image) in document["images"].as_array().unwrap().iter().enumerate() {
        assert_eq!(image["file"], uri(number));
        let boxes = image["detections"].as_array().unwrap();
        assert_eq!(boxes.len(), usize::from(number % 3 == 0), "{number}");
        if let Some(found) = boxes.first() {
            let id = found["classifications"][0][0].as_str().unwrap();
            assert_eq!(document["classification_categories"][id], format!("taxon {}", number % 50));
        }
    }
}
