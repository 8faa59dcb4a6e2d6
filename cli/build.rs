//! Lets the program and its tests find libtorch where the set-up script laid it, with nothing in the environment.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if std::env::var_os("CARGO_FEATURE_TORCH").is_none() {
        // At a fixed address there are no relocations: 23 MB that a server would read and write at its start, and keep. See
        // ADR 18.
        println!("cargo:rustc-link-arg-bins=-no-pie");
        // Where addresses and places in the file agree modulo 2 MiB, Linux maps read-only data 2 MiB at a time, of which a few
        // pages are read. Here they do not agree.
        println!("cargo:rustc-link-arg-bins=-Wl,--image-base=0x210000");
        return;
    }
    let Ok(libtorch) = std::env::var("LIBTORCH") else { return };
    if let Ok(folder) = std::fs::canonicalize(&libtorch) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
    }
}
