//! Sanitizers.
fn main() {}
