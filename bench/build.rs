//! Lets the benchmarks find libtorch where the set-up script laid it, with nothing in the environment.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Ok(libtorch) = std::env::var("LIBTORCH") else { return };
    if let Ok(folder) = std::fs::canonicalize(&libtorch) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folder.join("lib").display());
    }
}
