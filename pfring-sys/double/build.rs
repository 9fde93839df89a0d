//! Links the double as libpfring is linked: it names functions that nobody brings, and is bound lazily.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,lazy");
}
