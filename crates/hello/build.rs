//! Compiles the program in `program/` into one small static file, which the library then carries as bytes.
//!
//! It is no cargo target of its own: a binary cannot be a dependency of a library, and it must be small and static
//! whatever profile the rest is built with.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=program");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let program = Path::new(&out).join("hello");

    let mut rustc = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(["--crate-name", "hello", "--crate-type", "bin", "--edition", "2024", "--target", &target]);
    for option in [
        "target-feature=+crt-static",
        "relocation-model=static",
        "opt-level=z",
        "panic=abort",
        "strip=symbols",
        "lto=fat",
        "codegen-units=1",
    ] {
        rustc.args(["-C", option]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    // The path of the machine that builds it has no place in a program that goes out into the world.
    rustc.arg("--remap-path-prefix").arg(format!("{}=", env!("CARGO_MANIFEST_DIR")));
    rustc.arg("-o").arg(&program).arg("program/main.rs");

    let status = rustc.status().expect("rustc, which compiled this, can be started");
    assert!(status.success(), "the hello program does not compile: {rustc:?}: {status}");
}
