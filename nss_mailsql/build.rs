//! glibc loads the module by this name, and links by it.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnss_mailsql.so.2");
    println!("cargo:rerun-if-changed=build.rs");
}
