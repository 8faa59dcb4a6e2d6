//! Settings of what is looked at, and how.

use super::Key;
use super::read::{number, path, whole};
use crate::config::Device;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "home",
        default: "./safari-home",
        allowed: "the path of a folder",
        help: "The folder for the state of runs, tables, reports and locks; made when it is missing.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.home = path(text)?;
            Some(())
        },
    },
    Key {
        name: "model",
        default: "",
        allowed: "the path of a model folder or of a TorchScript .pt file, or nothing; `safari serve` takes models:/NAME@ALIAS too",
        help: "The model that looks at the pictures; empty means the one that is shipped.",
        secret: false,
        alias: Some("MODEL_PATH"),
        set: |config, text| {
            config.model = path(text);
            Some(())
        },
    },
    Key {
        name: "detector.threshold",
        default: "0.3",
        allowed: "a number from 0 to 1",
        help: "Boxes below this confidence are dropped.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.threshold = number(text, 0.0..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.threads",
        default: "0",
        allowed: "a whole number from 0 to 1024",
        help: "CPU threads of the networks; 0 means all cores.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.threads = whole(text, 0..=1024)?;
            Some(())
        },
    },
    Key {
        name: "detector.batch",
        default: "0",
        allowed: "a whole number from 0 to 1024",
        help: "Pictures in one forward pass; 0 means 1 on a CPU and 16 on a GPU.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.batch = whole(text, 0..=1024)?;
            Some(())
        },
    },
    Key {
        name: "detector.device",
        default: "auto",
        allowed: "auto, cpu or cuda",
        help: "Where the networks run; auto takes a GPU where one can be used.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.device = match text {
                "auto" => Device::Auto,
                "cpu" => Device::Cpu,
                "cuda" => Device::Cuda,
                _ => return None,
            };
            Some(())
        },
    },
    Key {
        name: "detector.cuda_dir",
        default: "",
        allowed: "the path of a folder, or nothing",
        help: "The folder that holds libtorch_cuda.so; empty means the system's library path.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.cuda_dir = path(text);
            Some(())
        },
    },
    Key {
        name: "detector.gpu_memory_fraction",
        default: "1.0",
        allowed: "a number above 0, at most 1",
        help: "The share of a GPU's memory that this process may take.",
        secret: false,
        alias: Some("GPU_MEMORY_FRACTION"),
        set: |config, text| {
            config.detector.gpu_memory_fraction = number(text, f64::MIN_POSITIVE..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.max_pixels",
        default: "200_000_000",
        allowed: "a whole number from 1 to 10_000_000_000",
        help: "Pictures with more pixels than this are refused, so that a decompression bomb cannot fill the memory.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.max_pixels = whole(text, 1..=10_000_000_000)?;
            Some(())
        },
    },
    Key {
        name: "detector.max_bytes",
        default: "268_435_456",
        allowed: "a whole number from 1 to 1_099_511_627_776",
        help: "Files with more bytes than this are refused.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.max_bytes = whole(text, 1..=1_099_511_627_776)?;
            Some(())
        },
    },
    Key {
        name: "detector.video_fps",
        default: "1.0",
        allowed: "a number above 0, at most 240",
        help: "Frames a second that are looked at in a video.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.video_fps = number(text, f64::MIN_POSITIVE..=240.0)?;
            Some(())
        },
    },
    Key {
        name: "detector.video_max_frames",
        default: "600",
        allowed: "a whole number from 1 to 1_000_000",
        help: "At most so many frames of one video are looked at.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.detector.video_max_frames = whole(text, 1..=1_000_000)?;
            Some(())
        },
    },
    Key {
        name: "burst.gap_seconds",
        default: "60.0",
        allowed: "a number from 0 to 86400",
        help: "Frames of one deployment that are at most this many seconds apart are one burst.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.burst.gap_seconds = number(text, 0.0..=86_400.0)?;
            Some(())
        },
    },
    Key {
        name: "rollup.threshold",
        default: "0.7",
        allowed: "a number from 0 to 1",
        help: "A species is named when its score reaches this; else the score is summed up the taxonomy until a taxon does.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.rollup.threshold = number(text, 0.0..=1.0)?;
            Some(())
        },
    },
    Key {
        name: "run.shard_size",
        default: "500",
        allowed: "a whole number from 1 to 100_000",
        help: "Media files in one task.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.shard_size = whole(text, 1..=100_000)?;
            Some(())
        },
    },
    Key {
        name: "run.parallelism",
        default: "2",
        allowed: "a whole number from 1 to 1024",
        help: "Tasks of one run at the same time.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.parallelism = whole(text, 1..=1024)?;
            Some(())
        },
    },
    Key {
        name: "run.lease_seconds",
        default: "30",
        allowed: "a whole number from 1 to 3600",
        help: "Tasks of a process that has not been heard of for so many seconds are given to others.",
        secret: false,
        alias: None,
        set: |config, text| {
            config.run.lease_seconds = whole(text, 1..=3600)?;
            Some(())
        },
    },
];
