//! `safari image`: this very program as an image, unpacked, and run with nothing of this machine but its kernel.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{root, safari, said};
use serde_json::Value;

/// The namespaces and folders that a container has; the rest is the image's.
const CONTAINER: &str = "mkdir -p \"$1/dev\" \"$1/proc\" && mount --rbind /dev \"$1/dev\" && mount --rbind /proc \"$1/proc\" && \
                         export LD_LIBRARY_PATH=\"$LIBRARIES\" PATH=\"$PROGRAMS\" && exec /usr/sbin/chroot \"$@\"";

fn succeeded(command: &mut Command) -> String {
    let output: Output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn told(folder: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&said(folder, &[&["image"][..], args, &["--format", "json"]].concat())).unwrap()
}

/// Unpacks an image as runtimes do; gives its root.
fn unpacked(folder: &Path, image: &Path, tag: &str) -> PathBuf {
    let (layout, bundle) = (folder.join("layout"), folder.join("bundle"));
    std::fs::create_dir(&layout).unwrap();
    succeeded(Command::new("tar").arg("-xf").arg(image).arg("-C").arg(&layout));
    let layout = format!("{}:{tag}", layout.display());
    succeeded(Command::new("umoci").args(["unpack", "--rootless", "--image", &layout]).arg(&bundle));
    bundle.join("rootfs")
}

/// Runs a program of the image as a container does, with the image's variables.
fn inside(root: &Path, image: &Value, more: &[(&str, &str)], args: &[&str]) -> String {
    let variables = image["config"]["Env"].as_array().unwrap().iter().filter_map(|one| one.as_str()?.split_once('='));
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--map-root-user", "--mount", "/bin/sh", "-c", CONTAINER, "sh"]).arg(root).args(args).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in variables.chain(more.iter().copied()) {
        // The shell and `mount` are this machine's, with its libraries.
        let name = match name {
            "LD_LIBRARY_PATH" => "LIBRARIES",
            "PATH" => "PROGRAMS",
            name => name,
        };
        command.env(name, value);
    }
    succeeded(&mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn this_program_as_an_image_detects_and_backs_up_where_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("image.tar");
    let dag = root().join("dags/detect.yaml");
    let args =
        ["cpu", "-o", file.to_str().unwrap(), "--with", "pg_dump,pg_restore,ffprobe", "--dag", dag.to_str().unwrap()];
    let first = told(folder, &args);
    assert_eq!(first["digest"], told(folder, &args)["digest"]);
    let tag = format!("safari-cpu:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!((first["kind"].as_str(), first["tag"].as_str()), (Some("cpu"), Some(tag.as_str())));
    assert!(first["with"]["pg_dump"].as_str().unwrap().ends_with("/pg_dump"), "{first}");

    let archive = |kind: &str| format!("{kind}:{}", file.display());
    succeeded(Command::new("skopeo").args(["inspect", &archive("docker-archive")]));
    let seen = succeeded(Command::new("skopeo").args(["inspect", "--config", &archive("oci-archive")]));
    let image: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(image["config"]["User"], "65532:65532");

    let place = unpacked(folder, &file, env!("CARGO_PKG_VERSION"));
    let entrance = image["config"]["Entrypoint"][0].as_str().unwrap();
    assert!(inside(&place, &image, &[], &[entrance, "--version"]).starts_with("safari "));
    assert!(inside(&place, &image, &[], &["/usr/local/bin/pg_dump", "--version"]).starts_with("pg_dump (PostgreSQL)"));
    assert!(inside(&place, &image, &[], &["/usr/local/bin/ffprobe", "-version"]).starts_with("ffprobe version"));
    let dags = "/usr/local/share/safari/dags/detect.yaml";
    inside(&place, &image, &[], &[entrance, "dag", "check", dags]);
    // With the shipped model, which it finds beside itself.
    std::fs::copy(root().join("data-samples/savanna-waterhole/giraffe.jpg"), place.join("tmp/giraffe.jpg")).unwrap();
    let found = inside(&place, &image, &[], &[entrance, "detect", "/tmp/giraffe.jpg"]);
    assert!(found.contains("giraffe"), "{found}");
    // With its own pg_dump and pg_restore.
    let server = e2e::postgres::Server::start().await.unwrap();
    let url = server.database().await.unwrap();
    let settings = [("SAFARI_STATE_URL", url.as_str()), ("SAFARI_BACKUP_URL", "/tmp/backups")];
    let run = |args: &[&str]| inside(&place, &image, &settings, &[&[entrance][..], args].concat());
    run(&["migrate"]);
    assert!(run(&["backup", "db", "--prune"]).contains("verified"));
    assert!(run(&["restore", "db", "--force"]).contains("is restored"));
    run(&["migrate", "--check"]);
}

#[test]
fn what_cannot_be_an_image_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = folder.join("image.tar");
    let fails = |args: &[&str], words: &str| {
        let output = safari(folder).arg("image").args(args).arg("-o").arg(&file).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{args:?}: {text}");
        assert!(!file.exists());
    };
    // This program is linked with libtorch, and /bin/ls is not.
    fails(&["control-plane"], "make control-plane");
    fails(&["cpu", "--program", "/bin/ls"], "built without libtorch");
    fails(&["cuda"], "--cuda");
    fails(&["control-plane", "--program", "/bin/ls", "--with", "pg_walk"], "pg_walk is not on this machine");
    fails(&["control-plane", "--program", "/bin/ls", "--base", "/bin/ls"], "/bin/ls");
    fails(&["control-plane", "--tag", "Safari"], "name of an image");
    let file = file.to_str().unwrap();
    said(folder, &["image", "control-plane", "--program", "/bin/ls", "--with", "none", "-o", file]);
}
