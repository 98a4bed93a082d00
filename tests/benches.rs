//! The unit tests of benches. A bench is a program without a harness, so its tests run here.

#[path = "../benches/core_scaling/main.rs"]
mod core_scaling;
