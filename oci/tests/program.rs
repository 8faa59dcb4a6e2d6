//! Images of the program: what judges of images say, and whether what is in them runs with nothing of this machine.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::program::{Kind, ProgramOptions, build};
use oci::{Base, Error, ImageName, Layer, Recipe, USER};
use serde_json::Value;

/// A program with shared libraries that every machine has.
const PROGRAM: &str = "/bin/ls";

fn options(kind: Kind, program: impl Into<PathBuf>) -> ProgramOptions {
    ProgramOptions {
        kind,
        program: program.into(),
        version: "0.1.0".to_owned(),
        name: ImageName::of(&format!("safari-{kind}"), "0.1.0"),
        others: Some(Vec::new()),
        dags: Vec::new(),
        model: None,
        cuda: None,
        base: None,
        gzip: false,
    }
}

fn must(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; run scripts/setup --test");
    });
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// Unpacks an image as a runtime does; gives its configuration and its root.
fn unpacked(image: &Path, tag: &str) -> (Value, tempfile::TempDir) {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let seen = must("skopeo", &["inspect", "--config", &format!("oci-archive:{}", image.display())]);
    must("skopeo", &["inspect", &format!("docker-archive:{}", image.display())]);
    std::fs::create_dir(at("layout")).unwrap();
    must("tar", &["-xf", &image.display().to_string(), "-C", &at("layout")]);
    must("umoci", &["unpack", "--rootless", "--image", &format!("{}:{tag}", at("layout")), &at("bundle")]);
    (serde_json::from_str(&seen).unwrap(), place)
}

fn root_of(place: &tempfile::TempDir) -> PathBuf {
    place.path().join("bundle/rootfs")
}

/// Runs a program of an image in it, where nothing else is, with the image's variables.
fn inside(root: &Path, config: &Value, args: &[&str]) -> String {
    let variables = config["config"]["Env"].as_array().unwrap().iter().filter_map(|one| one.as_str()?.split_once('='));
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--map-root-user", "/usr/sbin/chroot"]).arg(root).args(args).env_clear().envs(variables);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A library of this name in a folder, and a program that is linked with it.
fn linked(folder: &Path, library: &str) -> PathBuf {
    std::fs::write(folder.join("library.c"), "int networks(void) { return 7; }\n").unwrap();
    std::fs::write(folder.join("main.c"), "int networks(void); int main(void) { return networks() - 7; }\n").unwrap();
    let at = |name: &str| folder.join(name).display().to_string();
    let soname = format!("-Wl,-soname,{library}");
    must("cc", &["-shared", "-fPIC", &soname, "-o", &at(library), &at("library.c")]);
    let path = format!("-Wl,-rpath,{}", folder.display());
    must("cc", &["-o", &at("safari"), &at("main.c"), &at(library), &path]);
    folder.join("safari")
}

#[test]
fn a_control_plane_can_make_backups_and_is_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dag = folder.path().join("backup.yaml");
    std::fs::write(&dag, "dag: backup\n").unwrap();
    for gzip in [false, true] {
        let options =
            ProgramOptions { others: None, dags: vec![dag.clone()], gzip, ..options(Kind::ControlPlane, PROGRAM) };
        let one = build(&options, &folder.path().join("one.tar")).unwrap();
        let two = build(&options, &folder.path().join("two.tar")).unwrap();
        assert_eq!(one.image.digest, two.image.digest);
        assert!(std::fs::read(&one.image.path).unwrap() == std::fs::read(&two.image.path).unwrap());
        assert_eq!(one.image.tag, "safari-control-plane:0.1.0");
        assert_eq!(one.others.iter().map(|other| other.name.as_str()).collect::<Vec<_>>(), Kind::ControlPlane.others());

        let (config, place) = unpacked(&one.image.path, "0.1.0");
        let root = root_of(&place);
        assert_eq!(config["config"]["User"], format!("{USER}:{USER}"));
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/usr/local/bin/safari"]));
        assert_eq!(
            std::fs::read_to_string(root.join("usr/local/share/safari/dags/backup.yaml")).unwrap(),
            "dag: backup\n"
        );
        assert_eq!(inside(&root, &config, &["/usr/local/bin/safari", "/var/lib"]), "safari\n");
        for (program, said) in [
            ("pg_dump", "pg_dump (PostgreSQL)"),
            ("pg_restore", "pg_restore (PostgreSQL)"),
            ("psql", "psql (PostgreSQL)"),
        ] {
            let told = inside(&root, &config, &[&format!("/usr/local/bin/{program}"), "--version"]);
            assert!(told.starts_with(said), "{told}");
        }
    }
}

#[test]
fn nothing_but_the_home_and_tmp_can_be_written_by_its_user() {
    let folder = tempfile::tempdir().unwrap();
    let built = build(&options(Kind::ControlPlane, PROGRAM), &folder.path().join("image.tar")).unwrap();
    let place = tempfile::tempdir().unwrap();
    must("tar", &["-xf", &built.image.path.display().to_string(), "-C", &place.path().display().to_string()]);
    let mut writable = Vec::new();
    for blob in std::fs::read_dir(place.path().join("blobs/sha256")).unwrap() {
        let mut bytes = Vec::new();
        std::fs::File::open(blob.unwrap().path()).unwrap().read_to_end(&mut bytes).unwrap();
        if bytes.starts_with(b"{") {
            continue;
        }
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let entry = entry.unwrap();
            let (mode, owner) = (entry.header().mode().unwrap(), entry.header().uid().unwrap());
            if mode & 0o002 != 0 || owner != 0 {
                writable.push(entry.path().unwrap().display().to_string());
            }
        }
    }
    writable.sort();
    assert_eq!(writable, ["tmp/", "var/lib/safari/"]);
}

#[test]
fn programs_of_another_kind_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let with_networks = linked(folder.path(), "libtorch_cpu.so");
    let target = folder.path().join("image.tar");
    let refused = |options: &ProgramOptions| match build(options, &target) {
        Err(error @ Error::WrongProgram { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for (kind, program, words) in [
        (Kind::Cpu, Path::new(PROGRAM), "built without libtorch"),
        (Kind::Cuda, Path::new(PROGRAM), "built without libtorch"),
        (Kind::ControlPlane, &with_networks, "make control-plane"),
        (Kind::Cuda, &with_networks, "--cuda"),
    ] {
        let said = refused(&options(kind, program));
        assert!(said.contains(words) && said.contains(kind.as_str()), "{said}");
    }
    let missing = ProgramOptions { others: Some(vec!["pg_walk".to_owned()]), ..options(Kind::ControlPlane, PROGRAM) };
    let said = build(&missing, &target).unwrap_err().to_string();
    assert!(said.contains("pg_walk is not on this machine") && said.contains("--with none"), "{said}");
    assert!(!target.exists());
}

#[test]
fn a_program_with_networks_takes_its_model_and_libtorch_along() {
    let folder = tempfile::tempdir().unwrap();
    let program = linked(folder.path(), "libtorch_cpu.so");
    let model = folder.path().join("model");
    std::fs::create_dir_all(model.join("data")).unwrap();
    std::fs::write(model.join("data/detector.pt"), "weights").unwrap();
    let options = ProgramOptions { model: Some(model), ..options(Kind::Cpu, program) };
    let built = build(&options, &folder.path().join("image.tar")).unwrap();
    let (config, place) = unpacked(&built.image.path, "0.1.0");
    let root = root_of(&place);
    // Its own folder is not there: the library is that of the image.
    inside(&root, &config, &["/usr/local/bin/safari"]);
    let shipped = root.join("usr/local/share/safari/model/wildlife/data/detector.pt");
    assert_eq!(std::fs::read_to_string(shipped).unwrap(), "weights");
}

#[test]
fn libtorch_for_gpus_lies_as_its_libraries_look_for_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let program = linked(folder.path(), "libtorch_cpu.so");
    let packages = folder.path().join("packages");
    let (torch, nvidia) = (packages.join("torch/lib"), packages.join("nvidia/cu13/lib"));
    std::fs::create_dir_all(&torch).unwrap();
    std::fs::create_dir_all(&nvidia).unwrap();
    std::fs::copy(folder.path().join("libtorch_cpu.so"), torch.join("libtorch_cpu.so")).unwrap();
    std::fs::copy(folder.path().join("libtorch_cpu.so"), torch.join("libtorch_cuda.so")).unwrap();
    std::fs::write(nvidia.join("libcublas.so.13"), "of NVIDIA").unwrap();
    let options = ProgramOptions { cuda: Some(torch), ..options(Kind::Cuda, program) };
    let built = build(&options, &folder.path().join("image.tar")).unwrap();
    let (config, place) = unpacked(&built.image.path, "0.1.0");
    let root = root_of(&place);
    assert!(root.join("opt/torch/torch/lib/libtorch_cuda.so").is_file());
    assert!(root.join("opt/torch/nvidia/cu13/lib/libcublas.so.13").is_file());
    // There is one libtorch, the one that has CUDA.
    assert!(!root.join("usr/local/lib/safari/libtorch_cpu.so").exists());
    inside(&root, &config, &["/usr/local/bin/safari"]);
    let variables = config["config"]["Env"].to_string();
    assert!(variables.contains("SAFARI_DETECTOR_CUDA_DIR=/opt/torch/torch/lib"), "{variables}");
}

#[test]
fn an_image_stands_on_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut layer = Layer::of_system(&oci::Libraries::of(Path::new(PROGRAM)).unwrap(), "lib");
    layer.text("etc/ssl/certs/house.pem", "of the house".to_owned());
    let below = Recipe {
        name: "base:1".parse().unwrap(),
        made_by: "test".to_owned(),
        base: None,
        layers: vec![layer],
        labels: Vec::new(),
        variables: vec!["PATH=/bin".to_owned(), "LD_LIBRARY_PATH=/lib".to_owned(), "LANG=C.UTF-8".to_owned()],
        entrypoint: vec!["/bin/sh".to_owned()],
        arguments: Vec::new(),
        folder: "/".to_owned(),
        ports: Vec::new(),
        gzip: true,
    };
    let below = oci::write(&below, &folder.path().join("base.tar")).unwrap();
    let base = Base::open(&below.path).unwrap();
    let options = ProgramOptions { base: Some(base), ..options(Kind::ControlPlane, PROGRAM) };
    let built = build(&options, &folder.path().join("image.tar")).unwrap();
    assert_eq!(built.image.digest, build(&options, &folder.path().join("again.tar")).unwrap().image.digest);

    let (config, place) = unpacked(&built.image.path, "0.1.0");
    let root = root_of(&place);
    assert_eq!(std::fs::read_to_string(root.join("etc/ssl/certs/house.pem")).unwrap(), "of the house");
    assert!(!root.join("usr/local/lib/safari/libc.so.6").exists());
    let variables: Vec<&str> = config["config"]["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(variables.contains(&"LANG=C.UTF-8"), "{variables:?}");
    assert!(variables.contains(&"PATH=/usr/local/bin:/bin"), "{variables:?}");
    // With the loader and the C library of the image below.
    assert_eq!(inside(&root, &config, &["/usr/local/bin/safari", "/var/lib"]), "safari\n");
    assert_eq!(root.join("usr/local/bin/safari").metadata().unwrap().mode() & 0o777, 0o755);

    let error = Base::open(Path::new(PROGRAM)).unwrap_err().to_string();
    assert!(error.contains(PROGRAM), "{error}");
    // A byte of a layer is another one: nothing is written.
    let mut bytes = std::fs::read(&below.path).unwrap();
    let at = bytes.windows(3).position(|three| three == [0x1f, 0x8b, 8]).unwrap() + 40;
    bytes[at] ^= 1;
    let damaged = folder.path().join("damaged.tar");
    std::fs::write(&damaged, bytes).unwrap();
    let options = ProgramOptions { base: Some(Base::open(&damaged).unwrap()), ..options };
    let error = build(&options, &folder.path().join("broken.tar")).unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert!(!folder.path().join("broken.tar").exists());
}
