//! Images: what judges of images say of them, and a registry that takes them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model_registry::package::{PackageOptions, build};
use oci::{Image, Sent, Target, push};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A program with shared libraries that every machine has.
const PROGRAM: &str = "/bin/ls";

fn options(folder: &Path, gzip: bool) -> PackageOptions {
    let model = folder.join("model");
    std::fs::create_dir_all(model.join("data")).unwrap();
    std::fs::write(model.join("MLmodel"), "flavors: {safari: {}}\n").unwrap();
    std::fs::write(model.join("data/weights"), vec![7; 2_000_000]).unwrap();
    PackageOptions {
        program: PathBuf::from(PROGRAM),
        model,
        name: "Wild life".to_owned(),
        version: "3".to_owned(),
        libraries: Vec::new(),
        gzip,
    }
}

/// The files of an archive.
fn entries(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(path, content);
    }
    found
}

fn must(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; run scripts/setup --test");
    });
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_input_gives_the_same_image_and_every_name_is_the_digest_of_its_content() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for gzip in [false, true] {
        let first = build(&options(one.path(), gzip), &one.path().join("image.tar")).unwrap();
        let second = build(&options(two.path(), gzip), &two.path().join("other.tar")).unwrap();
        assert_eq!(first.digest, second.digest);
        let bytes = std::fs::read(&first.path).unwrap();
        assert!(bytes == std::fs::read(&second.path).unwrap() && bytes.len() as u64 == first.size);
        assert_eq!(first.tag, "safari/wild-life:3");

        let files = entries(&bytes);
        for (path, content) in
            files.iter().filter(|(path, _)| path.starts_with("blobs/sha256/") && !path.ends_with('/'))
        {
            assert_eq!(path, &format!("blobs/sha256/{}", hex::encode(Sha256::digest(content))));
        }
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        let blob = |digest: &Value| files[&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"))].clone();
        let index = json("index.json");
        assert_eq!(index["manifests"][0]["digest"], first.digest);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0]["digest"])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"]["digest"])).unwrap();
        for (layer, diff_id) in
            manifest["layers"].as_array().unwrap().iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
        {
            let content = blob(&layer["digest"]);
            let plain = if gzip {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&content[..]).read_to_end(&mut plain).unwrap();
                plain
            } else {
                content
            };
            assert_eq!(diff_id.as_str().unwrap(), format!("sha256:{}", hex::encode(Sha256::digest(&plain))));
            entries(&plain);
        }
    }
    std::fs::write(one.path().join("model/data/weights"), vec![8; 2_000_000]).unwrap();
    let changed = PackageOptions { model: one.path().join("model"), ..options(two.path(), false) };
    let changed = build(&changed, &one.path().join("changed.tar")).unwrap();
    let before = build(&options(two.path(), false), &one.path().join("before.tar")).unwrap();
    assert_ne!(changed.digest, before.digest);
}

#[test]
fn judges_of_images_find_no_fault_and_the_program_runs() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    for gzip in [false, true] {
        let image = build(&options(home.path(), gzip), &home.path().join("image.tar")).unwrap();
        for kind in ["oci-archive", "docker-archive"] {
            let told: Value =
                serde_json::from_str(&must("skopeo", &["inspect", &format!("{kind}:{}", at("image.tar"))])).unwrap();
            assert_eq!(
                (told["Os"].as_str(), told["Layers"].as_array().unwrap().len()),
                (Some("linux"), 3),
                "{kind}: {told}"
            );
        }
        let layout = at(&format!("layout-{gzip}"));
        std::fs::create_dir(&layout).unwrap();
        must("tar", &["-xf", &at("image.tar"), "-C", &layout]);
        let bundle = at(&format!("bundle-{gzip}"));
        must("umoci", &["unpack", "--rootless", "--image", &format!("{layout}:3"), &bundle]);
        let root = format!("{bundle}/rootfs");
        assert_eq!(std::fs::read(format!("{root}/model/data/weights")).unwrap(), vec![7; 2_000_000]);
        // With the image's own loader and libraries, whatever this machine has.
        let loader = std::fs::read_dir(format!("{root}/lib64")).unwrap().next().unwrap().unwrap().path();
        let library = format!("{root}/usr/lib/safari");
        let seen = must(
            &loader.display().to_string(),
            &[
                "--library-path",
                &library,
                "--inhibit-cache",
                &format!("{root}/usr/bin/safari"),
                &format!("{root}/model"),
            ],
        );
        assert_eq!(seen, "MLmodel\ndata\n");
        assert!(image.digest.starts_with("sha256:"));
    }
}

#[tokio::test]
async fn a_registry_of_images_takes_them() {
    let server = e2e::image_registry::Server::start().await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let target: Target = format!("{}/safari/wildlife:3", server.host()).parse().unwrap();
    for gzip in [false, true, true] {
        let image: Image = build(&options(home.path(), gzip), &home.path().join("image.tar")).unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&told);
        let sent: Sent = Arc::new(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        push(&image, &target, &sent).await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), image.stored());
        let place = format!("docker://{target}");
        let seen: Value = serde_json::from_str(&must("skopeo", &["inspect", "--tls-verify=false", &place])).unwrap();
        assert_eq!(seen["Digest"], image.digest);
        let copy = format!("oci:{}", home.path().join(format!("copy-{gzip}")).display());
        must("skopeo", &["--insecure-policy", "copy", "--src-tls-verify=false", &place, &copy]);
    }
    let nothing: Sent = Arc::new(|_| {});
    let nobody: Target = "127.0.0.1:1/x:1".parse().unwrap();
    let image = build(&options(home.path(), false), &home.path().join("image.tar")).unwrap();
    let error = push(&image, &nobody, &nothing).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1/x:1") && error.contains("does not answer"), "{error}");
}

#[test]
fn a_model_whose_files_have_changed_is_not_packed() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path(), false);
    let manifest = model_registry::folder::Manifest::of_folder(&options.model).unwrap();
    std::fs::write(options.model.join(model_registry::folder::MANIFEST_FILE), manifest.to_text()).unwrap();
    build(&options, &home.path().join("image.tar")).unwrap();
    std::fs::write(options.model.join("data/weights"), "other").unwrap();
    let error = build(&options, &home.path().join("second.tar")).unwrap_err().to_string();
    assert!(error.contains("`data/weights` is not what it was"), "{error}");
    assert!(!home.path().join("second.tar").exists());
}
